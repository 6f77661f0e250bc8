// Depthwise convolutions: every channel has its own small filter, so the work is element-wise over channels, tap after tap. Plain
// loops that the compiler vectorises once per SIMD target.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/conv_depthwise.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <vector>

#include "kernels/cpu/conv_parts.h"
#include "tensor/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

// Filters (C, R, S, 1) as (R S, C).
std::vector<float> by_tap(const ConvGeometry& g, const float* w) {
  const int64_t taps = g.r * g.s;
  std::vector<float> packed(static_cast<size_t>(taps * g.c));
  for (int64_t c = 0; c < g.c; ++c)
    for (int64_t t = 0; t < taps; ++t) packed[static_cast<size_t>(t * g.c + c)] = w[c * taps + t];
  return packed;
}

void add_product(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, float* HWY_RESTRICT sum, int64_t n) {
  for (int64_t i = 0; i < n; ++i) sum[i] += a[i] * b[i];
}

void finish(const ConvEpilogue& e, int64_t at, int64_t n, float* d) {
  if (e.scale)
    for (int64_t c = 0; c < n; ++c) d[c] *= e.scale[c];
  if (e.bias)
    for (int64_t c = 0; c < n; ++c) d[c] += e.bias[c];
  if (e.residual)
    for (int64_t c = 0; c < n; ++c) d[c] += e.residual[at + c];
  if (e.relu)
    for (int64_t c = 0; c < n; ++c) d[c] = d[c] < 0 ? 0.0f : d[c];
}

void forward(const ConvGeometry& g, const float* x, const float* w, const ConvEpilogue& e, float* y) {
  const std::vector<float> filter = by_tap(g, w);
  parallel_for(g.n * g.p, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t q = 0; q < g.q; ++q) {
        const int64_t n = row / g.p, h0 = row % g.p * g.stride[0] - g.before[0], w0 = q * g.stride[1] - g.before[1];
        float* out = y + (row * g.q + q) * g.c;
        std::fill(out, out + g.c, 0.0f);
        for (int64_t r = 0; r < g.r; ++r)
          for (int64_t s = 0; s < g.s; ++s) {
            const int64_t h = h0 + r * g.dilation[0], v = w0 + s * g.dilation[1];
            if (h < 0 || h >= g.h || v < 0 || v >= g.w) continue;
            add_product(x + ((n * g.h + h) * g.w + v) * g.c, filter.data() + (r * g.s + s) * g.c, out, g.c);
          }
        finish(e, (row * g.q + q) * g.c, g.c, out);
      }
  });
}

void data_gradient(const ConvGeometry& g, const float* dy, const float* w, const ConvEpilogue& e, float* dx) {
  const std::vector<float> filter = by_tap(g, w);
  parallel_for(g.n * g.h, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t v = 0; v < g.w; ++v) {
        const int64_t n = row / g.h, h = row % g.h;
        float* out = dx + (row * g.w + v) * g.c;
        std::fill(out, out + g.c, 0.0f);
        for (int64_t r = 0; r < g.r; ++r)
          for (int64_t s = 0; s < g.s; ++s) {
            const int64_t p = h + g.before[0] - r * g.dilation[0], q = v + g.before[1] - s * g.dilation[1];
            if (p < 0 || p % g.stride[0] != 0 || p / g.stride[0] >= g.p) continue;
            if (q < 0 || q % g.stride[1] != 0 || q / g.stride[1] >= g.q) continue;
            add_product(dy + ((n * g.p + p / g.stride[0]) * g.q + q / g.stride[1]) * g.c, filter.data() + (r * g.s + s) * g.c,
                        out, g.c);
          }
        finish(e, (row * g.w + v) * g.c, g.c, out);
      }
  });
}

void weight_gradient(const ConvGeometry& g, const float* x, const float* dy, float* dw) {
  const int64_t rows = g.n * g.p, taps = g.r * g.s, grain = std::max<int64_t>(1, (rows + 15) / 16);
  const int64_t chunks = num_chunks(rows, grain);
  const Tensor partial = Tensor::zeros({chunks, taps, g.c});
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    float* sums = partial.data<float>() + begin / grain * taps * g.c;
    for (int64_t row = begin; row < end; ++row)
      for (int64_t q = 0; q < g.q; ++q)
        for (int64_t r = 0; r < g.r; ++r)
          for (int64_t s = 0; s < g.s; ++s) {
            const int64_t h = row % g.p * g.stride[0] - g.before[0] + r * g.dilation[0];
            const int64_t v = q * g.stride[1] - g.before[1] + s * g.dilation[1];
            if (h < 0 || h >= g.h || v < 0 || v >= g.w) continue;
            add_product(x + ((row / g.p * g.h + h) * g.w + v) * g.c, dy + (row * g.q + q) * g.c, sums + (r * g.s + s) * g.c, g.c);
          }
  });
  for (int64_t c = 0; c < g.c; ++c)
    for (int64_t t = 0; t < taps; ++t) {
      float sum = 0;
      for (int64_t i = 0; i < chunks; ++i) sum += partial.data<float>()[(i * taps + t) * g.c + c];
      dw[c * taps + t] = sum;
    }
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(forward);
HWY_EXPORT(data_gradient);
HWY_EXPORT(weight_gradient);
void depthwise_forward(const ConvGeometry& g, const float* x, const float* w, const Tensor&, const ConvEpilogue& e, float* y) {
  HWY_DYNAMIC_DISPATCH(forward)(g, x, w, e, y);
}
void depthwise_data_gradient(const ConvGeometry& g, const float* dy, const float* w, const ConvEpilogue& e, float* dx) {
  HWY_DYNAMIC_DISPATCH(data_gradient)(g, dy, w, e, dx);
}
void depthwise_weight_gradient(const ConvGeometry& g, const float* x, const float* dy, float* dw) {
  HWY_DYNAMIC_DISPATCH(weight_gradient)(g, x, dy, dw);
}

}  // namespace glia::cpu
#endif
