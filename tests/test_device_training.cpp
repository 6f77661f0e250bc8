// Training on a device, by the emulator: what travels beside the work, and what happens when a step that nobody waited for diverges.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "gpu/emulator_config.h"
#include "kernels/loss.h"
#include "kernels/unary.h"
#include "tensor/stream.h"
#include "tensor/transfer.h"
#include "tests/train_fixture.h"

namespace glia::tests {
namespace {

constexpr Device emulated{DeviceKind::emulated};

// Work in streams runs only where something waits for it: what lacks a wait reads what is not there yet.
class DeferredStreams {
 public:
  DeferredStreams() { gpu::emulator_config().deferred_streams = true; }
  ~DeferredStreams() { gpu::emulator_config().deferred_streams = before_; }

 private:
  bool before_ = gpu::emulator_config().deferred_streams;
};

bool same_bits(const StateDict& a, const StateDict& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, t] : a) {
    const auto it = b.find(name);
    if (it == b.end() || !same_shape(t, it->second) || std::memcmp(t.raw(), it->second.raw(), t.bytes()) != 0) return false;
  }
  return true;
}

TrainerOptions clipped_adam(const NumberMap& weights) {
  TrainerOptions o;
  o.optimizer = {.kind = OptimizerKind::adam};
  o.schedule.lr = 1e-3;
  o.loss_weights = weights;
  o.clip_norm = 1;
  o.ema = 0.9;
  return o;
}

struct Bowl : Module {
  Tensor w;
  Bowl() { add_parameter("w", w, {1, 1}, {.initializer = Initializer::ones}); }
};

// Batches of two numbers; one of the sixth is a NaN.
Loader numbers_loader() {
  LoaderOptions options;
  options.batch_size = 2;
  options.shuffle = false;
  options.workers = 0;
  options.prepare = [](std::span<const Example> examples) {
    Tensor x({int64_t(examples.size()), 1});
    for (size_t i = 0; i < examples.size(); ++i) x.data<float>()[i] = examples[i].image.data<float>()[0];
    return std::vector<Tensor>{x};
  };
  const auto load = [](int64_t i) {
    Example e;
    e.image = Tensor::full({1, 1, 1}, i == 10 ? NAN : double(i % 3) + 1);
    e.id = fmt::format("img{}", i);
    return e;
  };
  return Loader(12, load, options);
}

}  // namespace

TEST_SUITE_BEGIN("devicetraining");

TEST_CASE("weights that were on a device are the host's, to the bit") {
  TinyNet net;
  net.initialize(3);
  const StateDict before = net.state_dict();
  net.to(emulated);
  CHECK(net.device() == emulated);
  CHECK(same_bits(net.state_dict(), before));
  TinyNet other;
  other.to(emulated);
  other.load_state_dict(before, "test");
  other.to(Device{});
  CHECK(same_bits(other.state_dict(), before));
}

TEST_CASE("steps that were launched are those that were waited for; one that diverges is found by read(), and undone") {
  const auto make_losses = [](Bowl& net) -> LossFunction {
    return [&net](const Batch& b) -> NamedLosses {
      const Tensor y = apply(Linear{}, b.tensors[0], net.w, Tensor());
      return {{"mse", apply(MseLoss{}, y, Tensor::zeros(y.shape(), y.dtype(), y.device()))}};
    };
  };
  Loader loader = numbers_loader(), other = numbers_loader();
  Bowl a, b;
  Trainer checked(a, make_losses(a), loader, clipped_adam({})), launched(b, make_losses(b), other, clipped_adam({}));
  std::vector<StepRecord> want;
  const auto diverges = [](Trainer& t, auto step) {
    try {
      for (;;) step(t);
    } catch (const DivergedError& e) {
      return std::string(e.what());
    }
  };
  const std::string report = diverges(checked, [&](Trainer& t) { want.push_back(t.step()); });
  REQUIRE(want.size() == 5);
  CHECK(report.find("img10") != std::string::npos);

  for (int i = 0; i < 8; ++i) launched.launch();
  const std::vector<StepRecord> got = launched.read();
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    CHECK(got[i].loss == want[i].loss);
    CHECK(got[i].grad_norm == want[i].grad_norm);
    CHECK(got[i].step == want[i].step);
  }
  CHECK(launched.steps_done() == checked.steps_done());
  CHECK(diverges(launched, [](Trainer& t) { t.launch(); }) == report);
  Checkpoint x, y;
  checked.save(x);
  launched.save(y);
  CHECK(x.step == y.step);
  CHECK(same_bits(x.weights, y.weights));
  CHECK(same_bits(x.optimizer, y.optimizer));
  CHECK(same_bits(x.ema, y.ema));
}

TEST_CASE("batches and numbers travel beside the work") {
  const DeferredStreams deferred;
  Uploader uploader(emulated);
  ReadBack numbers(emulated);
  const auto batch = [](int64_t i) {
    const int64_t rows = i == 4 ? 1 : 2;  // another shape on the way
    return std::vector<Tensor>{Tensor::full({rows, 3}, double(i)), Tensor::full({rows}, double(10 + i), DType::int64)};
  };
  std::vector<Tensor> results;
  uploader.begin(batch(0));
  const int64_t before = device_waits();
  for (int64_t i = 0; i < 7; ++i) {
    const std::vector<Tensor> here = uploader.take();
    CHECK(here[0].device() == emulated);
    const Tensor y = apply(Neg{}, here[0]);
    numbers.add(y.reshape({y.size()}).slice(0, 1));
    results.push_back(here[1].clone());
    uploader.begin(batch(i + 1));
    if (i == 2) uploader.begin(batch(3));  // begun twice: the second counts
  }
  CHECK(device_waits() == before);
  numbers.wait();
  CHECK(device_waits() == before + 1);
  for (int64_t i = 0; i < 7; ++i) {
    CHECK(numbers[size_t(i)] == double(-i));
    const Tensor host = results[size_t(i)].to(Device{});
    for (const int64_t v : host.values<int64_t>()) CHECK(v == 10 + i);
  }
  CHECK_THROWS_AS(numbers.add(results[0]), InternalError);
}

TEST_CASE("the limit of a device's memory, and what its error lists") {
  const size_t live = memory_stats(emulated).live_bytes;
  set_memory_limit(live + 1000000, emulated);
  const Tensor kept({200, 1000}, DType::float32, emulated);
  try {
    const Tensor more({200, 1000}, DType::float32, emulated);
    FAIL("the limit was not enforced");
  } catch (const OutOfMemoryError& e) {
    const std::string text = e.what();
    CHECK(text.find("out of memory on emulated: tensor (200, 1000) float32 (0.8 MB) was refused by the limit") != std::string::npos);
    CHECK(text.find("solver.batch_size") != std::string::npos);
  }
  set_memory_limit(0, emulated);
}

TEST_SUITE_END();

}  // namespace glia::tests
