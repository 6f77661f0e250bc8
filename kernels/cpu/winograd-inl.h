// The transforms of F(4x4, 3x3), one axis at a time, over vectors of channels. Included inside HWY_NAMESPACE by the files that use it.
// Exact coefficients: Lavin and Gray 2016, section 4.1.
#include <hwy/cache_control.h>

#include <algorithm>

#include "kernels/cpu/winograd.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr int64_t lanes = HWY_LANES(float);
constexpr int64_t panel_width = 2 * lanes;  // columns of a matrix product that are computed together

constexpr int tile_in = 6, tile_out = 4, elements = tile_in * tile_in;

HWY_INLINE V constant(float x) { return hn::Set(D(), x); }

// The first `valid` (at least 1) elements; zeros behind them.
HWY_INLINE V load_first(const float* from, int64_t valid) {
  const D d;
  return valid >= lanes ? hn::LoadU(d, from) : hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(valid)), d, from);
}
HWY_INLINE void store_first(V x, float* to, int64_t valid) {
  const D d;
  if (valid >= lanes) {
    hn::StoreU(x, d, to);
  } else {
    hn::BlendedStore(x, hn::FirstN(d, static_cast<size_t>(valid)), d, to);
  }
}

// B^T d
HWY_INLINE void transform_input(const V (&d)[6], V (&o)[6]) {
  const V a = hn::NegMulAdd(constant(4), d[2], d[4]), b = hn::NegMulAdd(constant(4), d[1], d[3]);
  const V c = hn::Sub(d[4], d[2]), e = hn::Mul(constant(2), hn::Sub(d[3], d[1]));
  o[0] = hn::MulAdd(constant(4), d[0], hn::NegMulAdd(constant(5), d[2], d[4]));
  o[1] = hn::Add(a, b);
  o[2] = hn::Sub(a, b);
  o[3] = hn::Add(c, e);
  o[4] = hn::Sub(c, e);
  o[5] = hn::MulAdd(constant(4), d[1], hn::NegMulAdd(constant(5), d[3], d[5]));
}

// G g
HWY_INLINE void transform_filter(const V (&g)[3], V (&o)[6]) {
  const V sixth = constant(1.0f / 6), s = hn::Mul(constant(-1.0f / 6), hn::Add(g[0], g[2]));
  const V t = hn::MulAdd(constant(1.0f / 24), g[0], hn::Mul(sixth, g[2])), twelfth = hn::Mul(constant(1.0f / 12), g[1]);
  o[0] = hn::Mul(constant(0.25f), g[0]);
  o[1] = hn::NegMulAdd(sixth, g[1], s);
  o[2] = hn::MulAdd(sixth, g[1], s);
  o[3] = hn::Add(t, twelfth);
  o[4] = hn::Sub(t, twelfth);
  o[5] = g[2];
}

// A^T m
HWY_INLINE void transform_output(const V (&m)[6], V (&o)[4]) {
  const V p = hn::Add(m[1], m[2]), q = hn::Sub(m[1], m[2]), r = hn::Add(m[3], m[4]), s = hn::Sub(m[3], m[4]);
  o[0] = hn::Add(hn::Add(m[0], p), r);
  o[1] = hn::MulAdd(constant(2), s, q);
  o[2] = hn::MulAdd(constant(4), r, p);
  o[3] = hn::Add(hn::MulAdd(constant(8), s, q), m[5]);
}

// A y, the adjoint of the above: what the gradient of the results is to the products.
HWY_INLINE void transform_output_adjoint(const V (&y)[4], V (&o)[6]) {
  const V p = hn::Add(y[0], y[2]), q = hn::Add(y[1], y[3]);
  const V r = hn::MulAdd(constant(4), y[2], y[0]), s = hn::MulAdd(constant(8), y[3], hn::Add(y[1], y[1]));
  o[0] = y[0];
  o[1] = hn::Add(p, q);
  o[2] = hn::Sub(p, q);
  o[3] = hn::Add(r, s);
  o[4] = hn::Sub(r, s);
  o[5] = y[3];
}

// G^T u, the adjoint of the filter's transform.
HWY_INLINE void transform_filter_adjoint(const V (&u)[6], V (&o)[3]) {
  const V low = hn::Add(u[1], u[2]), high = hn::Add(u[3], u[4]);
  const V low_difference = hn::Sub(u[2], u[1]), high_difference = hn::Sub(u[3], u[4]);
  o[0] = hn::MulAdd(constant(0.25f), u[0], hn::MulAdd(constant(1.0f / 24), high, hn::Mul(constant(-1.0f / 6), low)));
  o[1] = hn::MulAdd(constant(1.0f / 12), high_difference, hn::Mul(constant(1.0f / 6), low_difference));
  o[2] = hn::Add(hn::Mul(constant(1.0f / 6), hn::Sub(high, low)), u[5]);
}

// Rows of 6x6 (or 4x4) tiles over images: tile t of the grid that covers p x q results.
struct TileGrid {
  int64_t images, p, q, rows, columns;
  TileGrid(int64_t n, int64_t p_, int64_t q_)
      : images(n), p(p_), q(q_), rows((p_ + tile_out - 1) / tile_out), columns((q_ + tile_out - 1) / tile_out) {}
  int64_t count() const { return images * rows * columns; }
  struct Place {
    int64_t image, row, column;  // of the tile's first result
  };
  Place place(int64_t t) const { return {t / (rows * columns), t / columns % rows * tile_out, t % columns * tile_out}; }
};

// The first `valid` channels of the SIZE x SIZE pixels from (row, column) on of an image of h x w pixels with c channels; the rest are
// zeros. Hands column j, as a vector for each row, to f.
template <int SIZE, class F>
HWY_INLINE void for_each_column(const float* image, int64_t h, int64_t w, int64_t c, int64_t row, int64_t column, int64_t valid,
                                F&& f) {
  const D d;
  const bool inside = row >= 0 && column >= 0 && row + SIZE <= h && column + SIZE <= w && valid >= lanes;
#pragma GCC unroll 6
  for (int j = 0; j < SIZE; ++j) {
    V pixels[SIZE];
    if (inside) {
#pragma GCC unroll 6
      for (int i = 0; i < SIZE; ++i) pixels[i] = hn::LoadU(d, image + ((row + i) * w + column + j) * c);
    } else {
      for (int i = 0; i < SIZE; ++i) {
        const int64_t y = row + i, x = column + j;
        const bool here = y >= 0 && y < h && x >= 0 && x < w;
        pixels[i] = here && valid > 0 ? load_first(image + (y * w + x) * c, valid) : hn::Zero(d);
      }
    }
    f(j, pixels);
  }
}

// Asks the caches for `rows` x `columns` pixels from (row, column) on, as far as they are in the image. Rows of a tile lie too far apart
// for the processor to see by itself what the next tile reads or writes. Once for the channels of a line: c counts them.
HWY_INLINE void prefetch_pixels(const float* image, int64_t h, int64_t w, int64_t pixel, int64_t row, int64_t column,
                                int64_t rows, int64_t columns, int64_t c) {
  if (c % static_cast<int64_t>(64 / sizeof(float)) != 0) return;
  for (int64_t y = std::max<int64_t>(0, row); y < std::min(h, row + rows); ++y)
    for (int64_t x = std::max<int64_t>(0, column); x < std::min(w, column + columns); ++x)
      hwy::Prefetch(image + (y * w + x) * pixel);
}

// B^T d B of one tile and `lanes` channels; element e goes to v[e * stride].
HWY_INLINE void input_tile(const float* image, int64_t h, int64_t w, int64_t c, int64_t row, int64_t column, int64_t valid,
                           float* v, int64_t stride) {
  V t[6][6];
  for_each_column<6>(image, h, w, c, row, column, valid, [&](int j, const V(&pixels)[6]) HWY_ATTR {
    V o[6];
    transform_input(pixels, o);
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) t[i][j] = o[i];
  });
#pragma GCC unroll 6
  for (int i = 0; i < 6; ++i) {
    V o[6];
    transform_input(t[i], o);
#pragma GCC unroll 6
    for (int j = 0; j < 6; ++j) hn::Store(o[j], D(), v + (i * 6 + j) * stride);
  }
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
