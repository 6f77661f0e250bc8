// The ops bound by memory (dense_ops.h) on the feature maps of a UNet: by op, shape, direction and variant.
#include <benchmark/benchmark.h>

#include "bench/dense_ops.h"

namespace glia::bench {
namespace {

void time(benchmark::State& state, const Work& work) {
  work.run();
  for (auto _ : state) work.run();
  state.counters["GB/s"] = benchmark::Counter(work.bytes * double(state.iterations()) / 1e9, benchmark::Counter::kIsRate);
}

void add_ops(const Shape& x, bool reference) {
  for_each_dense_op(
      x, [&]<class Op, size_t N>(const char* name, const Op& op, const std::array<Shape, N>& shapes, size_t wanted) {
        std::string full = std::string(name) + "/" + to_string(shapes[0]);
        std::erase(full, ' ');  // a filter on the command line needs no quotes
        const auto add_variant = [&](const char* variant, typename Op::Forward* f, typename Op::Backward* b) {
          const auto settle = [](benchmark::internal::Benchmark* x) { x->UseRealTime()->Unit(benchmark::kMillisecond); };
          settle(benchmark::RegisterBenchmark((full + "/forward/" + variant).c_str(),
                                              [=](benchmark::State& s) { time(s, forward_work(op, f, shapes)); }));
          settle(benchmark::RegisterBenchmark((full + "/backward/" + variant).c_str(), [=](benchmark::State& s) {
            time(s, backward_work(op, Op::forward.cpu, b, shapes, wanted));
          }));
        };
        if (reference) add_variant("reference", Op::forward.reference, Op::backward.reference);
        add_variant("cpu", Op::forward.cpu, Op::backward.cpu);
      });
}

const bool registered = [] {
  add_ops({1, 64, 64, 64}, true);
  add_ops({5, 256, 256, 3}, false);
  add_ops({5, 256, 256, 16}, false);
  add_ops({5, 256, 256, 64}, false);
  add_ops({5, 64, 64, 256}, false);
  add_ops({5, 16, 16, 1024}, false);
  return true;
}();

}  // namespace
}  // namespace glia::bench
