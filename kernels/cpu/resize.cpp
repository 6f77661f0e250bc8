// Resampling as two sparse products per output row: rows of the input are combined into one row in the first-level caches, then its
// pixels into the pixels of the output. Backward is the same with the transposed taps: a gather, so no two tasks write the same element.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/resize.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <vector>

#include "kernels/cpu/vector-inl.h"
#include "kernels/resize.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

// to[i] = sum over k of weight[k] from[k][i], up to four sources at a time.
template <bool streaming>
HWY_INLINE void combine(int64_t n, const double* weight, const float* const* from, int64_t sources, float* to) {
  const auto add = [](Vector a, Vector b) HWY_ATTR { return hn::Add(a, b); };
  const Vector w0 = splat(sources > 0 ? weight[0] : 0), w1 = splat(sources > 1 ? weight[1] : 0);
  if (sources == 0)
    return map_span<streaming>(
        n, to, [](Vector) HWY_ATTR { return splat(0); }, to);
  if (sources == 1 && weight[0] == 1)
    return map_span<streaming>(
        n, to, [](Vector a) HWY_ATTR { return a; }, from[0]);
  if (sources == 1)
    return map_span<streaming>(
        n, to, [&](Vector a) HWY_ATTR { return hn::Mul(w0, a); }, from[0]);
  const auto two = [&](Vector a, Vector b) HWY_ATTR { return hn::MulAdd(w1, b, hn::Mul(w0, a)); };
  if (sources == 2 && weight[0] == 1 && weight[1] == 1) return map_span<streaming>(n, to, add, from[0], from[1]);
  if (sources == 2) return map_span<streaming>(n, to, two, from[0], from[1]);
  const Vector w2 = splat(weight[2]), w3 = splat(sources > 3 ? weight[3] : 0);
  const auto three = [&](Vector a, Vector b, Vector c) HWY_ATTR { return hn::MulAdd(w2, c, two(a, b)); };
  const auto four = [&](Vector a, Vector b, Vector c, Vector d) HWY_ATTR { return hn::MulAdd(w3, d, three(a, b, c)); };
  if (sources == 3) return map_span<streaming>(n, to, three, from[0], from[1], from[2]);
  if (sources == 4) return map_span<streaming>(n, to, four, from[0], from[1], from[2], from[3]);
  map_span<false>(n, to, four, from[0], from[1], from[2], from[3]);
  for (int64_t k = 4; k < sources; ++k) {
    const Vector w = splat(weight[k]);
    map_span<false>(
        n, to, [&](Vector old, Vector a) HWY_ATTR { return hn::MulAdd(w, a, old); }, to, from[k]);
  }
}

struct Plane {
  int64_t rows, columns, channels;
  int64_t row_size() const { return columns * channels; }
  int64_t size() const { return rows * row_size(); }
};

// out (n, rows.outputs(), columns.outputs(), c) = rows x in x columns.
template <bool streaming>
void resample(const ResizeTaps& rows, const ResizeTaps& columns, const float* in, const Plane& from, float* out, int64_t n) {
  const Plane to{rows.outputs(), columns.outputs(), from.channels};
  const int64_t grain = std::max<int64_t>(65536 / std::max<int64_t>(to.row_size(), 1), 1);
  parallel_for(n * to.rows, grain, [&](int64_t begin, int64_t end) {
    std::vector<float> combined(size_t(from.row_size()));
    std::vector<const float*> sources;
    for (int64_t i = begin; i < end; ++i) {
      const auto p = size_t(i % to.rows);
      const float* image = in + i / to.rows * from.size();
      const int64_t first = rows.begin[p], count = rows.begin[p + 1] - first;
      sources.clear();
      for (int64_t k = 0; k < count; ++k) sources.push_back(image + rows.index[size_t(first + k)] * from.row_size());
      const float* line = combined.data();
      if (count == 1 && rows.weight[size_t(first)] == 1) {
        line = sources[0];
      } else {
        combine<false>(from.row_size(), rows.weight.data() + first, sources.data(), count, combined.data());
      }
      for (int64_t q = 0; q < to.columns; ++q) {
        const int64_t tap = columns.begin[size_t(q)], taps = columns.begin[size_t(q) + 1] - tap;
        sources.clear();
        for (int64_t k = 0; k < taps; ++k) sources.push_back(line + columns.index[size_t(tap + k)] * from.channels);
        combine<streaming>(from.channels, columns.weight.data() + tap, sources.data(), taps,
                           out + (i * to.columns + q) * to.channels);
      }
    }
    if (streaming) hwy::FlushStream();
  });
}

bool doubles(const ResizeTaps& taps, int64_t in) {
  if (taps.outputs() != 2 * in || static_cast<int64_t>(taps.index.size()) != 2 * in) return false;
  for (int64_t o = 0; o < 2 * in; ++o)
    if (taps.index[size_t(o)] != o / 2 || taps.weight[size_t(o)] != 1) return false;
  return true;
}

// Nearest, twice the size: each pixel is stored four times.
template <bool streaming>
void double_pixels(const float* x, const Plane& from, float* y, int64_t n) {
  const int64_t c = from.channels, line = 2 * from.row_size();
  parallel_for(n * from.rows, std::max<int64_t>(16384 / std::max<int64_t>(from.row_size(), 1), 1),
               [&](int64_t begin, int64_t end) {
                 for (int64_t row = begin; row < end; ++row)
                   for (int64_t w = 0; w < from.columns; ++w) {
                     const float* source = x + row * from.row_size() + w * c;
                     float* to = y + 2 * row * line + 2 * w * c;
                     for (float* target : {to, to + c, to + line, to + line + c})
                       map_span<streaming>(
                           c, target, [](Vector a) HWY_ATTR { return a; }, source);
                   }
                 if (streaming) hwy::FlushStream();
               });
}

// Its gradient: the sum over 2x2 pixels.
void sum_pixels(const float* dy, const Plane& to, float* dx, int64_t n) {
  const int64_t c = to.channels, line = 2 * to.row_size();
  parallel_for(n * to.rows, std::max<int64_t>(16384 / std::max<int64_t>(to.row_size(), 1), 1), [&](int64_t begin, int64_t end) {
    const auto sum = [](Vector a, Vector b, Vector d, Vector e) HWY_ATTR { return hn::Add(hn::Add(a, b), hn::Add(d, e)); };
    for (int64_t row = begin; row < end; ++row)
      for (int64_t w = 0; w < to.columns; ++w) {
        const float* g = dy + 2 * row * line + 2 * w * c;
        map_span<false>(c, dx + row * to.row_size() + w * c, sum, g, g + c, g + line, g + line + c);
      }
  });
}

void resize(const Resize& op, const Tensor& x, Tensor& y) {
  const Plane from{x.dim(1), x.dim(2), x.dim(3)};
  const ResizeTaps rows = resize_taps(op, 0, from.rows), columns = resize_taps(op, 1, from.columns);
  const bool streaming = worth_streaming(y.data<float>(), y.size()) && from.channels % vector_lanes() == 0;
  if (doubles(rows, from.rows) && doubles(columns, from.columns))
    return (streaming ? double_pixels<true> : double_pixels<false>)(x.data<float>(), from, y.data<float>(), x.dim(0));
  (streaming ? resample<true> : resample<false>)(rows, columns, x.data<float>(), from, y.data<float>(), x.dim(0));
}

void resize_backward(const Resize& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (!dx) return;
  const Plane to{dx->dim(1), dx->dim(2), dx->dim(3)};
  const ResizeTaps rows = resize_taps(op, 0, to.rows), columns = resize_taps(op, 1, to.columns);
  if (doubles(rows, to.rows) && doubles(columns, to.columns))
    return sum_pixels(dy.data<float>(), to, dx->data<float>(), dx->dim(0));
  resample<false>(transposed(rows, to.rows), transposed(columns, to.columns), dy.data<float>(), {dy.dim(1), dy.dim(2), dy.dim(3)},
                  dx->data<float>(), dx->dim(0));
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(resize);
HWY_EXPORT(resize_backward);

void resize(const Resize& op, const Tensor& x, Tensor& y) { HWY_DYNAMIC_DISPATCH(resize)(op, x, y); }
void resize_backward(const Resize& op, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {
  HWY_DYNAMIC_DISPATCH(resize_backward)(op, x, y, dy, dx);
}

}  // namespace glia::cpu
#endif
