// The data gradient of convolutions with up to four output channels, stride 1 and a filter of several pixels: a network's last layers. Too
// few numbers are summed for a matrix product to pay; here the image's channels are the vectors, and a few pixels share each load of the
// filter. dy is read from a copy with a border of zeros, so that no pixel is a special case.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/conv_few_results.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <vector>

#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/winograd-inl.h"
#include "tensor/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

struct FewResults {
  const ConvGeometry& g;
  const ConvEpilogue& e;
  const float* border;           // dy, (n, rows, columns, k)
  int64_t rows, columns;         // of it
  std::vector<int64_t> offsets;  // in it, of the numbers that pixel (0, 0) of an image sums
  const float* filter;           // [vector of channels][number][lanes]
  float* dx;
};

// `pixels` pixels of one row of the image from `first` on, in the channels of vector `v`.
template <int pixels>
void few_pixels(const FewResults& f, const float* dy, int64_t first, int64_t v) {
  const D d;
  V sum[pixels];
#pragma GCC unroll 8
  for (int i = 0; i < pixels; ++i) sum[i] = hn::Zero(d);
  const float* filter = f.filter + v * std::ssize(f.offsets) * lanes;
  for (const int64_t offset : f.offsets) {
    const V w = hn::Load(d, filter);
    filter += lanes;
#pragma GCC unroll 8
    for (int i = 0; i < pixels; ++i) sum[i] = hn::MulAdd(hn::Set(d, dy[offset + i * f.g.k]), w, sum[i]);
  }
  const int64_t c = v * lanes, valid = f.g.c - c;
  for (int i = 0; i < pixels; ++i) {
    const int64_t at = (first + i) * f.g.c + c;
    V x = sum[i];
    if (f.e.scale) x = hn::Mul(x, load_first(f.e.scale + c, valid));
    if (f.e.bias) x = hn::Add(x, load_first(f.e.bias + c, valid));
    if (f.e.residual) x = hn::Add(x, load_first(f.e.residual + at, valid));
    if (f.e.relu) x = hn::Max(hn::Zero(d), x);  // in this order NaN stays NaN
    if (f.e.over) x = hn::IfThenElseZero(hn::Gt(load_first(f.dx + at, valid), hn::Zero(d)), x);
    store_first(x, f.dx + at, valid);
  }
}

void run_few_results(const ConvGeometry& g, const float* dy, const float* w, const ConvEpilogue& e, float* dx) {
  // Row h meets filter row r in result row h + top - r dilation, which is row h + (R - 1 - r) dilation of the copy if that begins `above`
  // rows before dy.
  const int64_t reach_h = (g.r - 1) * g.dilation[0], reach_w = (g.s - 1) * g.dilation[1];
  const int64_t above = reach_h - g.before[0], left = reach_w - g.before[1];
  const int64_t rows = g.h + reach_h, columns = g.w + reach_w;
  const Tensor border = Tensor::zeros({g.n, rows, columns, g.k});
  parallel_for(g.n * g.p, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i % g.p + above, from = std::max<int64_t>(0, -left), to = std::min(g.q, columns - left);
      if (row < 0 || row >= rows || from >= to) continue;
      const float* source = dy + i * g.q * g.k;
      std::copy(source + from * g.k, source + to * g.k,
                border.data<float>() + ((i / g.p * rows + row) * columns + from + left) * g.k);
    }
  });
  const int64_t vectors = (g.c + lanes - 1) / lanes, numbers = g.r * g.s * g.k;
  const Tensor filter = Tensor::zeros({vectors, numbers, lanes});
  FewResults f{g, e, border.data<float>(), rows, columns, {}, filter.data<float>(), dx};
  for (int64_t r = 0; r < g.r; ++r)
    for (int64_t s = 0; s < g.s; ++s)
      for (int64_t k = 0; k < g.k; ++k) {
        const int64_t number = std::ssize(f.offsets);
        f.offsets.push_back((((g.r - 1 - r) * g.dilation[0]) * columns + (g.s - 1 - s) * g.dilation[1]) * g.k + k);
        const float* from = w + ((k * g.r + r) * g.s + s) * g.c;
        for (int64_t c = 0; c < g.c; ++c) filter.data<float>()[(c / lanes * numbers + number) * lanes + c % lanes] = from[c];
      }
  constexpr int most = 8;
  parallel_for(g.n * g.h, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t q = 0; q < g.w;) {
        const float* from = f.border + ((i / g.h * rows + i % g.h) * columns + q) * g.k;
        const bool full = q + most <= g.w;
        for (int64_t v = 0; v < vectors; ++v) (full ? few_pixels<most> : few_pixels<1>)(f, from, i * g.w + q, v);
        q += full ? most : 1;
      }
  });
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

bool few_results_applicable(const ConvGeometry& g, ConvPass pass) {
  return pass == ConvPass::data_gradient && g.groups == 1 && g.k >= 1 && g.k <= 4 && g.r * g.s > 1 && g.r * g.s <= 25 &&
         g.stride == std::array<int64_t, 2>{1, 1};
}

HWY_EXPORT(run_few_results);
void few_results_data_gradient(const ConvGeometry& g, const float* dy, const float* w, const ConvEpilogue& e, float* dx) {
  HWY_DYNAMIC_DISPATCH(run_few_results)(g, dy, w, e, dx);
}

}  // namespace glia::cpu
#endif
