// The weight gradient of a network's first layer: with three channels a filter row has too few numbers for a vector, so the results'
// channels are the vectors and the image's numbers are the factors. For each filter row r
//
//   dw[k, r, (s, c)] = sum over pixels (p, q) of x[p stride + r, q stride + (s, c)] dy[p, q, k]
//
// is a PixelSum with the roles exchanged: the numbers (s, c) lie one after the other in a copy of x that has its border of zeros.
#include <algorithm>

#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/gemm.h"
#include "tensor/parallel.h"

namespace glia::cpu {
namespace {

Tensor with_border(const ConvGeometry& g, const float* x) {
  const int64_t h = (g.p - 1) * g.stride[0] + g.r, w = (g.q - 1) * g.stride[1] + g.s;
  const Tensor padded({g.n, h, w, g.c});
  const int64_t from = std::clamp<int64_t>(g.before[1], 0, w), to = std::clamp<int64_t>(g.before[1] + g.w, from, w);
  parallel_for(g.n * h, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* row = padded.data<float>() + i * w * g.c;
      const int64_t y = i % h - g.before[0];
      if (y < 0 || y >= g.h) {
        std::fill(row, row + w * g.c, 0.0f);
        continue;
      }
      const float* image = x + (i / h * g.h + y) * g.w * g.c;
      std::fill(row, row + from * g.c, 0.0f);
      std::copy(image, image + (to - from) * g.c, row + from * g.c);
      std::fill(row + to * g.c, row + w * g.c, 0.0f);
    }
  });
  return padded;
}

}  // namespace

bool few_channels_applicable(const ConvGeometry& g, ConvPass pass) {
  return pass == ConvPass::weight_gradient && g.groups == 1 && g.c >= 1 && g.c <= 4 && g.k >= 16 && g.r * g.s > 1 &&
         g.dilation == std::array<int64_t, 2>{1, 1} && g.n * g.p * g.q > 0 && g.before[0] >= 0 && g.before[1] >= 0;
}

void few_channels_weight_gradient(const ConvGeometry& g, const float* x, const float* dy, float* dw) {
  const Tensor padded = with_border(g, x);
  const int64_t rows = g.s * g.c, row = padded.dim(2) * g.c;
  const Tensor turned({g.r, rows, g.k});
  std::vector<PixelSum> problems;
  for (int64_t r = 0; r < g.r; ++r)
    problems.push_back({.x = dy,
                        .images = g.n,
                        .h = g.p,
                        .w = g.q,
                        .x_pixel = g.k,
                        .channels = g.k,
                        .g = padded.data<float>() + r * row,
                        .p = g.p,
                        .q = g.q,
                        .g_pixel = g.stride[1] * g.c,
                        .g_row = g.stride[0] * row,
                        .g_image = padded.dim(1) * row,
                        .rows = rows,
                        .taps = {{}},
                        .d = turned.data<float>() + r * rows * g.k,
                        .d_row = g.k});
  run(problems);
  const float* from = turned.data<float>();
  for (int64_t i = 0; i < g.r * rows; ++i)
    for (int64_t k = 0; k < g.k; ++k) dw[k * g.r * rows + i] = from[i * g.k + k];
}

}  // namespace glia::cpu
