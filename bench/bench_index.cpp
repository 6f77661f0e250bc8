// Speed of reductions, copies, index ops, sorts and losses, forward and backward, per variant. Bytes are those of all inputs and
// outputs, each once: compare with the memory bandwidth of the machine.
#include <benchmark/benchmark.h>

#include <functional>

#include "autograd/apply.h"
#include "kernels/index.h"
#include "kernels/loss.h"
#include "kernels/loss_region.h"
#include "kernels/reduce.h"
#include "kernels/shape.h"
#include "kernels/sort.h"
#include "tensor/random.h"

namespace glia {
namespace {

Tensor uniform(const Shape& shape, double low = -3, double high = 3) {
  Tensor t(shape);
  const Philox random(7, static_cast<uint64_t>(shape.size()));
  for (int64_t i = 0; i < t.size(); ++i) t.data<float>()[i] = static_cast<float>(random.uniform(uint64_t(i), low, high));
  return t;
}

Tensor integers(const Shape& shape, int64_t below) {
  Tensor t(shape, DType::int64);
  const Philox random(8, static_cast<uint64_t>(below));
  for (int64_t i = 0; i < t.size(); ++i) t.data<int64_t>()[i] = int64_t(random.below(uint64_t(i), uint64_t(below)));
  return t;
}

Tensor zeros_and_ones(const Shape& shape, DType dtype = DType::float32) { return integers(shape, 2).cast(dtype); }

template <class Range>
int64_t bytes_of(const Range& tensors) {
  size_t bytes = 0;
  for (const Tensor& t : tensors) bytes += t ? t.bytes() : 0;
  return static_cast<int64_t>(bytes);
}

void add(const std::string& name, std::function<void(benchmark::State&)> run) {
  benchmark::RegisterBenchmark(name.c_str(), std::move(run))->Unit(benchmark::kMicrosecond)->UseRealTime();
}

template <class F>
void repeat(benchmark::State& state, int64_t bytes, F body) {
  for (auto _ : state) body();
  state.SetBytesProcessed(bytes * state.iterations());
}

template <class Op, size_t N>
auto outputs_of(const Op& op, const std::array<Tensor, N>& in) {
  const auto specs = detail::as_array(std::apply([&](const auto&... t) { return op.infer(t...); }, in));
  std::array<Tensor, std::tuple_size_v<std::remove_cvref_t<decltype(specs)>>> out;
  for (size_t i = 0; i < out.size(); ++i) out[i] = Tensor(specs[i].shape, specs[i].dtype);
  return out;
}

// Inputs are made when a benchmark runs, as most runs are of a few.
template <size_t N>
using Make = std::array<Tensor, N> (*)();

// Registers forward and backward of one op, per variant; backward for the first `differentiable` inputs.
template <class Op, size_t N>
void bench(const std::string& label, const Op& op, Make<N> make, size_t differentiable = 1) {
  const auto name = [&](const char* function, const char* variant) { return fmt::format("{}/{}/{}", function, label, variant); };
  const auto forward = [&](const char* variant, typename Op::Forward* body) {
    if (!body) return;
    add(name(Op::forward.name, variant), [=](benchmark::State& state) {
      const auto in = make();
      auto out = outputs_of(op, in);
      repeat(state, bytes_of(in) + bytes_of(out),
             [&] { std::apply([&](const auto&... t) { std::apply([&](auto&... o) { body(op, t..., o...); }, out); }, in); });
    });
  };
  forward("reference", Op::forward.reference);
  forward("cpu", Op::forward.cpu);
  if constexpr (detail::Differentiable<Op>) {
    const auto backward = [&](const char* variant, typename Op::Backward* body) {
      if (!body) return;
      add(name(Op::backward.name, variant), [=](benchmark::State& state) {
        const auto in = make();
        auto out = outputs_of(op, in);
        const auto run = Op::forward.pick(Device{}, DType::float32);
        std::apply([&](const auto&... t) { std::apply([&](auto&... o) { run(op, t..., o...); }, out); }, in);
        const Tensor dy = uniform(out[0].shape());
        std::array<Tensor, N> gradients;
        std::array<Tensor*, N> wanted{};
        for (size_t i = 0; i < differentiable; ++i) {
          gradients[i] = Tensor(in[i].shape());
          wanted[i] = &gradients[i];
        }
        const auto all = std::tuple_cat(in, out, std::array{dy}, wanted);
        repeat(state, bytes_of(in) + bytes_of(gradients), [&] { std::apply([&](const auto&... t) { body(op, t...); }, all); });
      });
    };
    backward("reference", Op::backward.reference);
    backward("cpu", Op::backward.cpu);
  }
}

// Two parts, forward and backward.
void bench_concat(const std::string& label, Shape part, int axis) {
  const Concat op{.axis = axis};
  const auto forward = [&](const char* variant, Concat::Forward* body) {
    add(fmt::format("concat/{}/{}", label, variant), [=](benchmark::State& state) {
      const std::vector<Tensor> parts{uniform(part), uniform(part)};
      Tensor y(op.infer(parts).shape);
      repeat(state, 2 * int64_t(y.bytes()), [&] { body(op, parts, y); });
    });
  };
  const auto backward = [&](const char* variant, Concat::Backward* body) {
    add(fmt::format("concat_backward/{}/{}", label, variant), [=](benchmark::State& state) {
      std::vector<Tensor> parts{uniform(part), uniform(part)};
      const Tensor dy = uniform(op.infer(parts).shape);
      const std::vector<TensorSpec> specs(2, TensorSpec{part, DType::float32});
      const std::vector<Tensor*> gradients{&parts[0], &parts[1]};
      repeat(state, 2 * int64_t(dy.bytes()), [&] { body(op, specs, dy, gradients); });
    });
  };
  forward("reference", Concat::forward.reference);
  forward("cpu", Concat::forward.cpu);
  backward("reference", Concat::backward.reference);
  backward("cpu", Concat::backward.cpu);
}

const Shape image_shape{4, 128, 128, 64}, mask_shape{8, 256, 256, 1};

using One = std::array<Tensor, 1>;
using Two = std::array<Tensor, 2>;
using Three = std::array<Tensor, 3>;
using Four = std::array<Tensor, 4>;

One images() { return {uniform(image_shape)}; }
Two logits_and_mask() { return {uniform(mask_shape), zeros_and_ones(mask_shape)}; }
Two probabilities_and_mask() { return {uniform(mask_shape, 0.01, 0.99), zeros_and_ones(mask_shape)}; }
template <int64_t classes>
Four class_logits() {
  return {uniform({1, 256, 256, classes}), integers({1, 256, 256}, classes)};
}

void bench_reductions_and_copies() {
  bench<Sum, 1>("all", {}, images);
  bench<Mean, 1>("height and width", {.axes = {1, 2}}, images);
  bench<Var, 1>("all but channels", {.axes = {0, 1, 2}}, images);
  bench<Sum, 1>("channels", {.axes = {3}}, images);
  bench<Max, 1>("all", {}, images);
  bench<ArgMax, 1>("4 classes", {}, [] { return One{uniform({1, 520, 704, 4})}; });

  bench_concat("64 and 64 channels", image_shape, 3);
  bench_concat("16 and 16 channels", {1, 256, 256, 16}, 3);
  bench<Slice, 1>("crop", centre_crop(image_shape, 100, 100), images);
  bench<Pad, 1>("one pixel", {.pads = {{0, 0}, {1, 1}, {1, 1}, {0, 0}}}, images);
  bench<Pad, 1>("reflect", {.pads = {{0, 0}, {8, 8}, {8, 8}, {0, 0}}, .mode = PadMode::reflect}, images);
  bench<Permute, 1>("NHWC to NCHW", {.axes = {0, 3, 1, 2}}, images);
  bench<Permute, 1>("3 channels to NHWC", {.axes = {0, 2, 3, 1}}, [] { return One{uniform({1, 3, 520, 704})}; });
  bench<Flip, 1>("columns", {.axes = {2}}, images);
}

void bench_indices() {
  bench<IndexSelect, 2>("rows", {}, [] { return Two{uniform({20000, 64}), integers({40000}, 20000)}; });
  bench<Gather, 2>("one of 81", {.axis = 1}, [] { return Two{uniform({4000, 81}), integers({4000, 1}, 81)}; });
  bench<IndexAdd, 3>("rows", {}, [] { return Three{uniform({20000, 64}), integers({40000}, 20000), uniform({40000, 64})}; });
  bench<Where, 3>(
      "same shape", {},
      [] {
        return Three{zeros_and_ones({2000, 1000}, DType::uint8), uniform({2000, 1000}), uniform({2000, 1000})};
      },
      0);
  bench<Sort, 1>("a long list", {.descending = true}, [] { return One{uniform({268569})}; });
  bench<TopK, 1>("2000 of a long list", {.k = 2000}, [] { return One{uniform({268569})}; });
  bench<Sort, 1>("1000 lists of 81", {}, [] { return One{uniform({1000, 81})}; });
}

void bench_losses() {
  bench<Bce, 2>("masks", {}, probabilities_and_mask);
  bench<BceWithLogits, 4>("masks", {}, [] { return Four{uniform(mask_shape), zeros_and_ones(mask_shape)}; });
  bench<BceWithLogits, 4>("weighted masks", {}, [] {
    return Four{uniform(mask_shape), zeros_and_ones(mask_shape), uniform(mask_shape, 0.1, 2)};
  });
  bench<FocalLoss, 2>("masks", {}, logits_and_mask);
  bench<MseLoss, 2>("masks", {}, logits_and_mask);
  bench<SmoothL1Loss, 2>("masks", {}, logits_and_mask);
  bench<DiceLoss, 2>("masks", {}, probabilities_and_mask);
  bench<BceDiceLoss, 2>("masks", {.per = Per::sample}, logits_and_mask);
  bench<TverskyLoss, 2>("masks", {}, logits_and_mask);
  bench<LovaszHinge, 2>("masks", {.per = Per::sample}, logits_and_mask);
  bench<CrossEntropy, 4>("2 classes", {}, class_logits<2>);
  bench<CrossEntropy, 4>("4 classes", {}, class_logits<4>);
  bench<CrossEntropy, 4>("81 classes", {}, class_logits<81>);
}

const bool registered = (bench_reductions_and_copies(), bench_indices(), bench_losses(), true);

}  // namespace
}  // namespace glia
