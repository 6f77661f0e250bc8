#pragma once
// Arithmetic that the bodies of kernels/flow.h share, for T float and double: each operation rounded by itself, in this order, so
// that all of them give the same bits (host files that include this are compiled with -ffp-contract=off).
#include "kernels/box_math.h"

namespace glia::flow {

using box::rounded_product;

// a + share (b - a).
template <class T>
GLIA_HOST_DEVICE inline T blend(T a, T b, T share) {
  return a + rounded_product(share, b - a);
}

// p kept in [0, last]; NaN becomes 0.
template <class T>
GLIA_HOST_DEVICE inline T keep_inside(T p, T last) {
  if (p > last) return last;
  return p >= 0 ? p : T(0);
}

template <class T>
struct Point {
  T y, x;
};

// One step of a point that is inside. `flow` is (h, w, 2).
template <class T>
GLIA_HOST_DEVICE inline Point<T> step(const T* flow, int64_t h, int64_t w, bool interpolate, Point<T> p) {
  const auto y0 = static_cast<int64_t>(p.y), x0 = static_cast<int64_t>(p.x);
  const T* at = flow + 2 * (y0 * w + x0);
  Point<T> v{at[0], at[1]};
  if (interpolate) {
    const T* right = x0 + 1 < w ? at + 2 : at;
    const int64_t down = y0 + 1 < h ? 2 * w : 0;
    const T share_y = p.y - T(y0), share_x = p.x - T(x0);
    v.y = blend(blend(at[0], right[0], share_x), blend(at[down], right[down], share_x), share_y);
    v.x = blend(blend(at[1], right[1], share_x), blend(at[down + 1], right[down + 1], share_x), share_y);
  }
  return {keep_inside(p.y + v.y, T(h - 1)), keep_inside(p.x + v.x, T(w - 1))};
}

template <class T>
GLIA_HOST_DEVICE inline bool same(Point<T> a, Point<T> b) {
  return a.y == b.y && a.x == b.x;
}

// A point's pixel in the grid of FlowSeeds.
template <class T>
GLIA_HOST_DEVICE inline int64_t grid_index(T y, T x, int64_t h, int64_t w, int64_t margin) {
  const auto row = static_cast<int64_t>(keep_inside(y, T(h - 1))), column = static_cast<int64_t>(keep_inside(x, T(w - 1)));
  return (row + margin) * (w + 2 * margin) + column + margin;
}

// ---- diffusion ----
constexpr double ninth = 1.0 / 9;

GLIA_HOST_DEVICE inline double sum3(double a, double b, double c) { return (a + b) + c; }

// How often the heat of a cell of that height and width spreads.
GLIA_HOST_DEVICE inline int64_t diffusion_steps(int64_t height, int64_t width) { return 2 * (height + width + 4); }

// The squared distance of a cell's pixel from the mean of its pixels, as NumPy computes it; coordinates count from 1 at the
// cell's bounding box.
GLIA_HOST_DEVICE inline double squared_distance(double y, double x, double mean_y, double mean_x) {
  const double dy = y - mean_y, dx = x - mean_x;
  return rounded_product(dx, dx) + rounded_product(dy, dy);
}

// The arrow of a pixel from the heat above, below, left and right of it.
GLIA_HOST_DEVICE inline Point<float> arrow(double above, double below, double left, double right) {
  const double dy = below - above, dx = right - left, length = sqrt(rounded_product(dy, dy) + rounded_product(dx, dx));
  constexpr double noise = 1e-12;  // of the heat
  if (!(length > noise * ((above + below) + (left + right)))) return {0, 0};
  return {float(dy / length), float(dx / length)};
}

// ---- seeds ----
constexpr int seed_points = 10, grow_points = 2;  // a seed has more than the one, grows over pixels with more than the other
constexpr int peak_radius = 2, grow_radius = 5, grow_size = 2 * grow_radius + 1;

GLIA_HOST_DEVICE inline bool is_peak(const int32_t* at, int64_t columns) {
  if (*at <= seed_points) return false;
  for (int dy = -peak_radius; dy <= peak_radius; ++dy)
    for (int dx = -peak_radius; dx <= peak_radius; ++dx)
      if (at[dy * columns + dx] > *at) return false;
  return true;
}

// What a seed grows over: bit c of rows[r] is the pixel at (r, c) - grow_radius from it.
struct Grown {
  uint32_t rows[grow_size];
};
GLIA_HOST_DEVICE inline Grown grow(const int32_t* seed, int64_t columns) {
  Grown allowed{}, reached{};
  for (int r = 0; r < grow_size; ++r)
    for (int c = 0; c < grow_size; ++c)
      if (seed[(r - grow_radius) * columns + c - grow_radius] > grow_points) allowed.rows[r] |= 1u << c;
  reached.rows[grow_radius] = 1u << grow_radius;
  for (int round = 0; round < grow_radius; ++round) {
    uint32_t before = 0, wide = reached.rows[0] | reached.rows[0] << 1 | reached.rows[0] >> 1;
    for (int r = 0; r < grow_size; ++r) {
      const uint32_t below = r + 1 < grow_size ? reached.rows[r + 1] : 0, after = below | below << 1 | below >> 1;
      reached.rows[r] = (before | wide | after) & allowed.rows[r];
      before = wide;
      wide = after;
    }
  }
  return reached;
}

}  // namespace glia::flow
