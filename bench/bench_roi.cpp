// Pooling of rois: 256 channels of a map of 200 x 272, boxes of mixed sizes, forward and backward.
#include <benchmark/benchmark.h>

#include <algorithm>

#include "kernels/roi_align.h"
#include "tensor/random.h"

namespace glia {
namespace {

Tensor normal(const Shape& shape) {
  Tensor t(shape);
  const Philox random(1, 2);
  for (int64_t i = 0; i < t.size(); ++i) t.data<float>()[i] = static_cast<float>(random.normal(uint64_t(i)));
  return t;
}

// Sides of 16 to 200 pixels around centres anywhere in an image of 800 x 1088, clipped to it.
Tensor random_rois(int64_t count) {
  constexpr double height = 800, width = 1088;
  Tensor rois({count, 5});
  Random random(3);
  for (int64_t r = 0; r < count; ++r) {
    const double x = random.uniform(0, width), y = random.uniform(0, height);
    const double w = random.uniform(16, 200) / 2, h = random.uniform(16, 200) / 2;
    const double roi[] = {0, std::max(x - w, 0.), std::max(y - h, 0.), std::min(x + w, width), std::min(y + h, height)};
    for (int i = 0; i < 5; ++i) rois.data<float>()[5 * r + i] = static_cast<float>(roi[i]);
  }
  return rois;
}

void roi_align_forward(benchmark::State& state, RoiAlign::Forward* body) {
  const RoiAlign op{.size = state.range(1)};
  const Tensor x = normal({1, 200, 272, 256}), rois = random_rois(state.range(0));
  Tensor y({rois.dim(0), op.size, op.size, 256});
  for (auto _ : state) body(op, x, {}, {}, {}, rois, {}, y);
}

void roi_align_gradient(benchmark::State& state, RoiAlign::Backward* body) {
  const RoiAlign op{.size = state.range(1)};
  const Tensor rois = random_rois(state.range(0)), dy = normal({rois.dim(0), op.size, op.size, 256});
  Tensor dx({1, 200, 272, 256});
  for (auto _ : state) body(op, {}, {}, {}, {}, rois, {}, {}, dy, &dx, nullptr, nullptr, nullptr, nullptr, nullptr);
}

void sizes(benchmark::internal::Benchmark* b) {
  b->Args({512, 7})
      ->Args({128, 14})
      ->ArgNames({"rois", "size"})
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime()
      ->MeasureProcessCPUTime();
}
BENCHMARK_CAPTURE(roi_align_forward, cpu, RoiAlign::forward.cpu)->Apply(sizes);
BENCHMARK_CAPTURE(roi_align_gradient, cpu, RoiAlign::backward.cpu)->Apply(sizes);
BENCHMARK_CAPTURE(roi_align_forward, reference, RoiAlign::forward.reference)->Apply(sizes);
BENCHMARK_CAPTURE(roi_align_gradient, reference, RoiAlign::backward.reference)->Apply(sizes);

}  // namespace
}  // namespace glia
