// Convolutions by shape, pass and variant: time, GFLOP/s, percent of the FMA peak, and GB/s if every tensor moved once.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "bench/conv_shapes.h"
#include "bench/dense_ops.h"
#include "bench/peak.h"

namespace glia::bench {
namespace {

void conv(benchmark::State& state, const ConvShape& shape, ConvWork work, KernelChoice choice) {
  ConvRun run(shape, work);
  run.run(choice);
  for (auto _ : state) run.run(choice);
  const double runs = static_cast<double>(state.iterations());
  using benchmark::Counter;
  state.counters["GFLOP/s"] = Counter(run.flops() * runs / 1e9, Counter::kIsRate);
  state.counters["GB/s"] = Counter(run.bytes() * runs / 1e9, Counter::kIsRate);
  state.counters["% of FMA peak"] = Counter(100 * run.flops() * runs / 1e9 / peak().gflops, Counter::kIsRate);
}

// The 2x2 transposed convolutions of stride 2 on a UNet's way up: w's first axis is x's channels.
struct UpShape {
  int64_t n, side, c, k;
};
void conv_transpose(benchmark::State& state, const UpShape& s, KernelChoice choice) {
  const ConvTranspose2d op{.stride = {2, 2}};
  const Tensor x = random_tensor({s.n, s.side, s.side, s.c}), w = random_tensor({s.c, 2, 2, s.k}), bias = random_tensor({s.k});
  Tensor y(op.infer(x, w, bias).shape);
  const KernelChoiceScope scope(choice);
  const auto body = ConvTranspose2d::forward.pick({}, DType::float32);
  body(op, x, w, bias, y);
  for (auto _ : state) body(op, x, w, bias, y);
  const double flops = 2 * double(y.size()) * double(s.c) * double(state.iterations());
  using benchmark::Counter;
  state.counters["GFLOP/s"] = Counter(flops / 1e9, Counter::kIsRate);
  state.counters["% of FMA peak"] = Counter(100 * flops / 1e9 / peak().gflops, Counter::kIsRate);
}

const bool registered = [] {
  const auto add = [](const ConvShape& shape, ConvWork work, const char* variant, KernelChoice choice) {
    benchmark::RegisterBenchmark(("conv2d/" + shape.name + "/" + name_of(work) + "/" + variant).c_str(), conv, shape, work,
                                 choice)
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  };
  const ConvShape tiny{"tiny 8>8 16", 1, 8, 16, 16, 8, 3, 1, 1};
  for (const ConvWork work : {ConvWork::forward, ConvWork::data_gradient, ConvWork::weight_gradient}) {
    add(tiny, work, "reference", KernelChoice::reference);
    add(tiny, work, "cpu", KernelChoice::hand);
  }
  for (const ConvShape& shape : conv_shapes())
    for (const ConvWork work : {ConvWork::forward, ConvWork::data_gradient, ConvWork::weight_gradient}) {
      add(shape, work, "cpu", KernelChoice::hand);
#if defined(GLIA_WITH_ONEDNN)
      add(shape, work, "onednn", KernelChoice::vendor);
#endif
    }
  for (const UpShape s : {UpShape{1, 16, 1024, 512}, {1, 64, 256, 128}, {5, 128, 128, 64}}) {
    const auto up = [&](const char* variant, KernelChoice choice) {
      const std::string name = fmt::format("conv_transpose2d/{}>{} {} b{}/fwd/{}", s.c, s.k, s.side, s.n, variant);
      benchmark::RegisterBenchmark(name.c_str(), conv_transpose, s, choice)->UseRealTime()->Unit(benchmark::kMillisecond);
    };
    up("cpu", KernelChoice::hand);
#if defined(GLIA_WITH_ONEDNN)
    up("onednn", KernelChoice::vendor);
#endif
  }
  return true;
}();

}  // namespace
}  // namespace glia::bench
