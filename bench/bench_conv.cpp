// Convolutions by shape, pass and variant: time, GFLOP/s, percent of the FMA peak, and GB/s if every tensor moved once.
#include <benchmark/benchmark.h>

#include "bench/conv_shapes.h"
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
  return true;
}();

}  // namespace
}  // namespace glia::bench
