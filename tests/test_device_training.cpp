// Training on a device, by the emulator: the same losses as on the CPU, no waiting in a step, going on elsewhere, and what happens when
// a step that nobody waited for diverges.
#include <doctest/doctest.h>

#include <cmath>

#include "data/safetensors.h"
#include "gpu/emulator_config.h"
#include "kernels/binary.h"
#include "kernels/loss.h"
#include "kernels/unary.h"
#include "models/unet_segmenter.h"
#include "tensor/stream.h"
#include "tensor/transfer.h"
#include "tests/paths.h"
#include "tests/same_bits.h"
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

// Four noisy images of 32 x 32 with some squares for cells.
Example squares(int64_t index) {
  Example e{.image = Tensor({32, 32, 1}, DType::uint8),
            .labels = Tensor::zeros({32, 32}, DType::int32),
            .categories = {0, 0, 0},
            .index = index,
            .id = fmt::format("img{}", index)};
  const Philox random(7, static_cast<uint64_t>(index));
  for (int64_t i = 0; i < e.labels.size(); ++i) {
    const int64_t y = i / 32, x = i % 32, cell = x / 10;
    const bool inside = cell < 3 && y > 4 + index && y < 14 + 2 * index && x % 10 > 1 && x % 10 < 9;
    e.labels.data<int32_t>()[i] = inside ? static_cast<int32_t>(cell + 1) : 0;
    e.image.data<uint8_t>()[i] = static_cast<uint8_t>(random.uniform(uint64_t(i), 0, 100) + (inside ? 120 : 0));
  }
  return e;
}

Loader squares_loader(const Segmenter& segmenter) {
  LoaderOptions options;
  options.batch_size = 2;
  options.workers = 0;
  options.prepare = [&segmenter](std::span<const Example> examples) { return segmenter.collate(examples); };
  return Loader(
      4, [&segmenter](int64_t i) { return segmenter.fit(squares(i)); }, options);
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

struct ThreeSteps {
  std::vector<StepRecord> records;
  StateDict weights;
  int64_t waits = 0;  // during two of the three
  Prediction prediction;
};

ThreeSteps train_three_steps(const UnetSegmenterOptions& options, Device device) {
  const auto segmenter = make_unet_segmenter(options);
  segmenter->module().initialize(5);
  segmenter->module().to(device);
  Loader loader = squares_loader(*segmenter);
  Trainer trainer(
      segmenter->module(), [&](const Batch& b) { return segmenter->losses(b.tensors); }, loader, clipped_adam({{"dice", 0.5}}));
  ThreeSteps result;
  trainer.launch();
  const int64_t before = device_waits();
  trainer.launch();
  trainer.launch();
  result.waits = device_waits() - before;
  result.records = trainer.read();
  result.weights = segmenter->module().state_dict();
  segmenter->module().eval();
  const NoGrad no_grad;
  segmenter->validate(squares(0), result.prediction);
  return result;
}

UnetSegmenterOptions tiny(const char* name) {
  UnetSegmenterOptions o;
  o.network = {.name = name, .base_channels = 4, .depth = 2};
  o.image_size = {32, 32};
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

TEST_CASE("three steps of a tiny UNet have the CPU's losses on the emulated device, and wait for nothing") {
  std::vector<std::pair<std::string, UnetSegmenterOptions>> systems;
  systems.emplace_back("binary, two losses", tiny("unet_keras"));
  systems.back().second.losses = {"bce", "dice"};
  systems.back().second.positive_weight = 2;
  systems.emplace_back("border, class weights", tiny("unet_milesial"));
  systems.back().second.target = UnetTarget::border;
  systems.back().second.losses = {"cross_entropy"};
  systems.back().second.class_weights = {1, 2, 4};
  systems.emplace_back("elu, transposed convolutions", tiny("unet_dsb"));
  systems.emplace_back("UNet++, bilinear", tiny("unet_plus_plus"));
  systems.back().second.network.bilinear = true;
  systems.back().second.losses = {"bce", "dice"};
  systems.back().second.per = Per::sample;
  systems.emplace_back("UNet++, transposed", tiny("unet_plus_plus"));
  systems.back().second.target = UnetTarget::border;
  systems.back().second.losses = {"cross_entropy"};
  for (const auto& [label, options] : systems) {
    INFO(label);
    const ThreeSteps want = train_three_steps(options, Device{}), got = train_three_steps(options, emulated);
    REQUIRE(got.records.size() == 3);
    for (size_t i = 0; i < 3; ++i) {
      const StepRecord &a = got.records[i], &b = want.records[i];
      CHECK(a.loss == doctest::Approx(b.loss).epsilon(1e-5));
      CHECK(a.grad_norm == doctest::Approx(b.grad_norm).epsilon(1e-4));
      CHECK(a.step == b.step);
      REQUIRE(a.terms.size() == b.terms.size());
      for (size_t k = 0; k < a.terms.size(); ++k) CHECK(a.terms[k].second == doctest::Approx(b.terms[k].second).epsilon(1e-5));
    }
    CHECK(got.waits == 0);
    for (int64_t i = 0; i < want.prediction.foreground.size(); ++i)
      REQUIRE(got.prediction.foreground.data<float>()[i] ==
              doctest::Approx(want.prediction.foreground.data<float>()[i]).epsilon(1e-3));
    const DeferredStreams deferred;
    CHECK(same_bits(train_three_steps(options, emulated).weights, got.weights));
  }
}

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

TEST_CASE("a run goes on on another device") {
  const TemporaryFolder folder;
  const auto train = [&](const char* name, Device device, int steps, const char* resume) {
    TinyTraining t(folder / name);
    t.device = device;
    t.set(fmt::format("solver.max_iterations={}", steps));
    t.resume = resume;
    t.run();
    return read_checkpoint(folder / name / "checkpoints" / "last.safetensors");
  };
  const Checkpoint want = train("cpu", Device{}, 20, "");
  for (const Device first : {Device{}, emulated}) {
    const char* name = first == emulated ? "from_device" : "to_device";
    train(name, first, 10, "");
    const Checkpoint got = train(name, first == emulated ? Device{} : emulated, 20, "auto");
    CHECK(got.step == 20);
    for (const auto& [key, t] : want.weights) {
      const Tensor a = t.cast(DType::float64), b = got.weights.at(key).cast(DType::float64);
      for (int64_t i = 0; i < a.size(); ++i) CHECK(b.data<double>()[i] == doctest::Approx(a.data<double>()[i]).epsilon(1e-3));
    }
    std::string metrics = read_file(folder / name / "metrics.jsonl");
    CHECK(std::count(metrics.begin(), metrics.end(), '\n') == 20);
  }
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

TEST_CASE("a training in bf16 or tf32 first compares a batch with float32, and leaves no trace") {
  const TemporaryFolder folder;
  const auto train = [&](const char* name, Precision p, bool check) {
    const PrecisionScope scope(p);
    TinyTraining t(folder / name);
    t.device = emulated;
    t.set("solver.max_iterations=3");
    t.set(fmt::format("run.check_precision={}", check));
    t.run();
    return read_checkpoint(folder / name / "checkpoints" / "last.safetensors");
  };
  const auto log_of = [&](const char* name) { return read_file(folder / name / "train.log"); };
  const Checkpoint checked = train("checked", Precision::bf16, true), unchecked = train("unchecked", Precision::bf16, false);
  CHECK(log_of("checked").find("bf16 agrees with float32 on the first batch") != std::string::npos);
  CHECK(log_of("unchecked").find("agrees") == std::string::npos);
  CHECK(same_bits(checked.weights, unchecked.weights));
  CHECK(same_bits(checked.optimizer, unchecked.optimizer));
  CHECK(same_bits(checked.ema, unchecked.ema));
  train("tf32", Precision::tf32, true);
  CHECK(log_of("tf32").find("tf32 agrees with float32") != std::string::npos);
  train("fp32", Precision::fp32, true);
  CHECK(log_of("fp32").find("agrees") == std::string::npos);
}

TEST_CASE("what computes wrongly in bf16 alone is found before the first step") {
  const TemporaryFolder folder;
  int runs = 0;
  const auto complaint = [&](bool check, auto spoil) -> std::string {  // spoil(net, x) gives logits
    const PrecisionScope scope(Precision::bf16);
    TinyTraining t(folder / std::to_string(++runs));
    t.device = emulated;
    t.set("solver.max_iterations=3");
    t.set("run.on_nan=stop");
    t.set(fmt::format("run.check_precision={}", check));
    t.losses = [&spoil](TinyNet& net, const Batch& b) -> NamedLosses {
      const Tensor x = b.tensors[0].to(emulated), logits = precision() == Precision::bf16 ? spoil(net, x) : net(x);
      return {{"bce", apply(BceWithLogits{}, logits, b.tensors[1].to(emulated), Tensor(), Tensor())}};
    };
    try {
      t.run();
    } catch (const Error& e) {
      CHECK(e.code() == (check ? ExitCode::device : ExitCode::diverged));
      CHECK_FALSE(std::filesystem::exists(t.folder / "checkpoints" / "last.safetensors"));
      return e.what();
    }
    return "";
  };
  const auto times = [](const Tensor& t, double factor) {
    return apply(Mul{}, t, Tensor::full({1}, factor, DType::float32, emulated));
  };
  const auto found = [](const std::string& text, const char* part) {
    INFO(text, " lacks ", part);
    CHECK(text.find(part) != std::string::npos);
  };
  CHECK(complaint(true, [](TinyNet& net, const Tensor& x) { return net(x); }) == "");
  const std::string wrong = complaint(true, [&](TinyNet& net, const Tensor& x) { return times(net(x), 1.5); });
  found(wrong, "run.precision = \"bf16\" on emulated does not agree with float32: loss bce of the first batch is ");
  found(wrong, "--set run.precision=fp32");
  const std::string doubled = complaint(true, [&](TinyNet& net, const Tensor& x) {  // the right loss, twice the gradient
    const Tensor logits = net(x);
    return apply(Sub{}, times(logits, 2), logits.detach());
  });
  found(doubled, "the gradient's norm of the first batch is ");
  const auto overflows = [&](TinyNet& net, const Tensor& x) { return times(net(x), NAN); };
  found(complaint(true, overflows), "is nan, in float32 ");
  found(complaint(false, overflows),
        "bf16 holds too few digits here, in float32 the same step is finite: set run.precision = \"fp32\"");
}

TEST_CASE("batches and numbers travel beside the work") {
  const DeferredStreams deferred;
  Uploader uploader(emulated);
  ReadBack numbers(emulated);
  const auto batch = [](int64_t i) {
    const int64_t rows = i == 4 ? 1 : 2;  // another shape on the way
    return std::vector<Tensor>{Tensor::full({rows, 3}, double(i)), Tensor::full({rows}, double(10 + i), DType::int64)};
  };
  std::vector<Tensor> results, kept;  // freeing memory of the emulated device waits for it
  uploader.begin(batch(0));
  const int64_t before = device_waits();
  for (int64_t i = 0; i < 7; ++i) {
    const std::vector<Tensor> here = uploader.take();
    CHECK(here[0].device() == emulated);
    const Tensor y = kept.emplace_back(apply(Neg{}, here[0]));
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
    CHECK(text.find("out of memory on emulated: tensor (200, 1000) float32 (0.8 MB) was refused by the limit") !=
          std::string::npos);
    CHECK(text.find("solver.batch_size") != std::string::npos);
  }
  set_memory_limit(0, emulated);
}

TEST_SUITE_END();

}  // namespace glia::tests
