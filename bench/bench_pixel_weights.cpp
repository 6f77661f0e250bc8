// Maps of pixel weights, of an image of 1024 x 1024 with some 400 cells.
#include <benchmark/benchmark.h>

#include "models/pixel_weights.h"

namespace glia {
namespace {

// Discs on a grid, touching here and there.
Tensor discs(int64_t size, int64_t pitch, int64_t radius) {
  Tensor labels = Tensor::zeros({size, size}, DType::int32);
  for (int64_t y = 0; y < size; ++y) {
    for (int64_t x = 0; x < size; ++x) {
      const int64_t row = y / pitch, column = x / pitch, reach = radius + (row + column) % 3;
      const int64_t dy = y - row * pitch - pitch / 2, dx = x - column * pitch - pitch / 2;
      if (dy * dy + dx * dx <= reach * reach) labels.data<int32_t>()[y * size + x] = static_cast<int32_t>(row * 64 + column + 1);
    }
  }
  return labels;
}

void pixel_weights_1024(benchmark::State& state, PixelWeights options) {
  const Tensor labels = discs(1024, 51, 23);
  for (auto _ : state) benchmark::DoNotOptimize(pixel_weights(labels, options));
}
BENCHMARK_CAPTURE(pixel_weights_1024, border, PixelWeights{.border = 10})->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(pixel_weights_1024, contour, PixelWeights{.contour = 1})->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(pixel_weights_1024, curvature, PixelWeights{.curvature = 1})->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace glia
