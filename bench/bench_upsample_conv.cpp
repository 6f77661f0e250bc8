// The way up of Keras' UNets, nearest x2 and a 2x2 convolution: a UNet of 64 channels at 256x256, batches of 5, and 1 at the bottom.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "bench/peak.h"
#include "kernels/upsample_conv.h"
#include "tensor/random.h"

namespace glia::bench {
namespace {

struct UpShape {
  int64_t n, side, c, k;
};

Tensor noise(const Shape& shape) {
  Tensor t(shape);
  for (int64_t i = 0; i < t.size(); ++i) t.data<float>()[i] = static_cast<float>(Philox(1, 1).normal(uint64_t(i)));
  return t;
}

void up(benchmark::State& state, const UpShape& s, bool backward) {
  const UpsampleConv2d op{.conv = {.pad = {0, 0, 1, 1}}};
  const Tensor x = noise({s.n, s.side, s.side, s.c}), w = noise({s.k, 2, 2, s.c}), bias = noise({s.k});
  Tensor y = noise({s.n, 2 * s.side, 2 * s.side, s.k}), dx(x.shape()), dw(w.shape()), dbias(bias.shape());
  const auto run = [&] {
    if (backward) {
      UpsampleConv2d::backward.pick({}, DType::float32)(op, x, w, bias, y, y, &dx, &dw, &dbias);
    } else {
      UpsampleConv2d::forward.pick({}, DType::float32)(op, x, w, bias, y);
    }
  };
  run();
  for (auto _ : state) run();
  // Four products for each pixel of x and pair of channels, twice that backward.
  const double flops = double(state.iterations()) * double(x.size() * s.k) * 8 * (backward ? 2 : 1);
  using benchmark::Counter;
  state.counters["GFLOP/s"] = Counter(flops / 1e9, Counter::kIsRate);
  state.counters["% of FMA peak"] = Counter(100 * flops / 1e9 / peak().gflops, Counter::kIsRate);
}

const bool registered = [] {
  for (const UpShape s : {UpShape{5, 128, 128, 64}, UpShape{5, 64, 256, 128}, UpShape{5, 32, 512, 256}, UpShape{5, 16, 1024, 512},
                          UpShape{1, 128, 128, 64}, UpShape{1, 16, 1024, 512}})
    for (const bool backward : {false, true})
      benchmark::RegisterBenchmark(
          fmt::format("upsample_conv2d/{}>{} {} b{}/{}", s.c, s.k, s.side, s.n, backward ? "backward" : "forward").c_str(), up, s,
          backward)
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond);
  return true;
}();

}  // namespace
}  // namespace glia::bench
