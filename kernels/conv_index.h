#pragma once
// The index arithmetic of the convolution kernels on devices, as plain functions of integers that the kernels and the host share:
// how a pass of a convolution becomes matrix products, which pixel a row of such a product is, which filter element a place along
// its inner dimension is. Start reading at TapGrid.
//
// Both forward and the data gradient are sums over taps t and channels c, for pixels (i, j) of the result:
//   d[i, j, column] = sum_t sum_c a[i step_h + dh(t), j step_w + dw(t), c] b[column, t, c].
// Forward is one such problem, a = x. The data gradient is one for each class of pixels by their phase against the stride, a = dy
// with steps of 1, since only every stride-th filter row meets a given pixel.
#include <algorithm>
#include <numeric>

#include "kernels/conv.h"

namespace glia {

// n / d for 0 <= n < 2^31 by one multiplication (Granlund and Montgomery, "Division by invariant integers", 1994).
struct Divisor {
  uint32_t divisor = 1, multiplier = 1u << 31, shift = 31;

  Divisor() = default;
  explicit Divisor(int64_t d) : divisor(uint32_t(std::max<int64_t>(d, 1))) {
    uint32_t bits = 0;  // smallest with divisor <= 2^bits
    while ((uint64_t{1} << bits) < divisor) ++bits;
    shift = 31 + bits;
    multiplier = uint32_t((uint64_t{1} << shift) / divisor + 1);
    if (divisor == 1) multiplier = 1u << 31;
  }
  GLIA_HOST_DEVICE int divide(int n) const { return int((uint64_t(uint32_t(n)) * multiplier) >> shift); }
  GLIA_HOST_DEVICE int divide(int n, int& rest) const {
    const int quotient = divide(n);
    rest = n - quotient * int(divisor);
    return quotient;
  }
};

// Pixels of a batch in memory order.
struct PixelOrder {
  Divisor image, row;  // by pixels of an image, of a row

  PixelOrder() = default;
  PixelOrder(int64_t height, int64_t width) : image(height * width), row(width) {}
  GLIA_HOST_DEVICE void decode(int pixel, int& n, int& i, int& j) const {
    int rest;
    n = image.divide(pixel, rest);
    i = row.divide(rest, j);
  }
};

// Taps along one axis: tap t reads `first + t step` beyond the pixel's place and multiplies filter row `filter + t filter_step`.
struct TapAxis {
  int count = 0, first = 0, step = 0, filter = 0, filter_step = 1;
};

inline TapAxis forward_taps(const ConvGeometry& g, size_t axis) {
  return {.count = int(axis == 0 ? g.r : g.s), .first = int(-g.before[axis]), .step = int(g.dilation[axis])};
}

// Row h = i stride + phase of the image meets filter row r in result row i + first + ..., where h + before = p stride + r
// dilation: every (stride / gcd(stride, dilation))-th filter row or none.
inline TapAxis gradient_taps(const ConvGeometry& g, size_t axis, int64_t phase) {
  const int64_t stride = g.stride[axis], dilation = g.dilation[axis], size = axis == 0 ? g.r : g.s;
  const int64_t period = stride / std::gcd(stride, dilation), reach = phase + g.before[axis];
  int64_t r = 0;
  while (r < std::min(period, size) && (reach - r * dilation) % stride != 0) ++r;
  if (r >= std::min(period, size)) return {};
  return {.count = int((size - r + period - 1) / period),
          .first = int((reach - r * dilation) / stride),
          .step = int(-period * dilation / stride),
          .filter = int(r),
          .filter_step = int(period)};
}

// One problem of the title comment: the pixels of a phase and their taps.
struct TapGrid {
  TapAxis rows, columns;
  int phase_h = 0, phase_w = 0;
  int p = 0, q = 0;   // pixels of the result in this class
  int filter_at = 0;  // where its filters begin among those of all classes, in elements of one column and one channel
  PixelOrder order{};

  GLIA_HOST_DEVICE int taps() const { return rows.count * columns.count; }
};

constexpr int most_classes = 16;  // strides up to 4 x 4
constexpr int most_taps = 16;     // along an axis: bits of a row's mask

inline TapGrid forward_grid(const ConvGeometry& g) {
  return {.rows = forward_taps(g, 0), .columns = forward_taps(g, 1), .p = int(g.p), .q = int(g.q), .order = {g.p, g.q}};
}

// The classes of the data gradient, largest number of taps first so that the longest blocks start first.
inline std::vector<TapGrid> gradient_grids(const ConvGeometry& g) {
  std::vector<TapGrid> grids;
  for (int64_t i = 0; i < g.stride[0]; ++i)
    for (int64_t j = 0; j < g.stride[1]; ++j) {
      const int64_t p = (g.h - i + g.stride[0] - 1) / g.stride[0], q = (g.w - j + g.stride[1] - 1) / g.stride[1];
      grids.push_back({.rows = gradient_taps(g, 0, i),
                       .columns = gradient_taps(g, 1, j),
                       .phase_h = int(i),
                       .phase_w = int(j),
                       .p = int(std::max<int64_t>(p, 0)),
                       .q = int(std::max<int64_t>(q, 0)),
                       .order = {p, q}});
    }
  std::stable_sort(grids.begin(), grids.end(), [](const TapGrid& a, const TapGrid& b) { return a.taps() > b.taps(); });
  int at = 0;
  for (TapGrid& grid : grids) grid.filter_at = at, at += grid.taps();
  return grids;
}

// A place along the inner dimension of a matrix product. It runs over blocks of channels, in a block over the taps, in a tap over
// the block's channels: so the taps of a block follow each other while the pixels that they share are still in a near cache. The
// block is `width` channels: the kernel's step where it divides the channels, else all of them.
struct InnerPlace {
  int block = 0, r = 0, s = 0, channel = 0;  // behind the end: block >= channels

  InnerPlace() = default;
  GLIA_HOST_DEVICE InnerPlace(int first, int width, int rows, int columns) { advance(first, width, rows, columns); }
  GLIA_HOST_DEVICE void advance(int by, int width, int rows, int columns) {
    for (channel += by; channel >= width; channel -= width)
      if (++s == columns) {
        s = 0;
        if (++r == rows) r = 0, block += width;
      }
  }
};
GLIA_HOST_DEVICE constexpr int inner_block(int channels, int step) { return channels % step == 0 ? step : channels; }
GLIA_HOST_DEVICE constexpr int inner_steps(int channels, int taps, int step) { return (channels * taps + step - 1) / step; }

// Bit r: row r of the taps lies inside the image for a pixel whose place is `at`.
GLIA_HOST_DEVICE inline unsigned valid_taps(const TapAxis& axis, int at, int size) {
  unsigned mask = 0;
  for (int t = 0; t < axis.count; ++t)
    if (unsigned(at + axis.first + t * axis.step) < unsigned(size)) mask |= 1u << t;
  return mask;
}

// Tiles of a product in the order in which blocks take them: bands of 8 columns of tiles, in a band row by row, so that blocks
// that run together share rows and columns in the L2 cache.
struct TileOrder {
  int rows = 0, columns = 0;
  GLIA_HOST_DEVICE void decode(int id, int& row, int& column) const {
    const int band = id / (8 * rows), first = band * 8;
    const int width = columns - first < 8 ? columns - first : 8;
    const int rest = id - first * rows;
    row = rest / width;
    column = first + rest % width;
  }
};

// Which tile sizes a product takes: the smallest estimate of time, which is that of the busiest multiprocessor: how many tiles it
// gets, times a tile's arithmetic. The number of multiprocessors is an H200's on every device, so that every device gives the
// same bits; one whose blocks get too little shared memory for a tile does without that tile.
constexpr int64_t multiprocessors = 132;
struct TileShape {
  int rows, columns;
  int resident;       // blocks on a multiprocessor at once
  double efficiency;  // of its inner loop, relative to the others
  size_t shared_bytes = 0;
};
inline size_t choose_tile(std::span<const TileShape> shapes, int64_t rows, int64_t columns, int64_t batch,
                          size_t shared_bytes = SIZE_MAX) {
  size_t best = shapes.size();
  double best_time = 0;
  for (size_t i = 0; i < shapes.size(); ++i) {
    const TileShape& t = shapes[i];
    const int64_t tiles = (rows + t.rows - 1) / t.rows * ((columns + t.columns - 1) / t.columns) * batch;
    const double time = double((tiles + multiprocessors - 1) / multiprocessors) * t.rows * t.columns / t.efficiency;
    if (t.shared_bytes <= shared_bytes && (best == shapes.size() || time < best_time)) best = i, best_time = time;
  }
  GLIA_CHECK(best < shapes.size(), "convolution: no tile fits into {} bytes of shared memory", shared_bytes);
  return best;
}

// A sum over pixels cut into `parts` of `steps` steps each, for products with too few tiles to fill a device; every part has
// work, the parts are added in order.
struct SplitPlan {
  int parts = 1, steps = 0;
};
inline SplitPlan split_plan(int64_t tiles, int64_t resident, int64_t all_steps) {
  constexpr int64_t shortest = 4;  // steps; below that the parts' sums cost more than they bring
  const int64_t wanted = std::max<int64_t>(1, multiprocessors * resident / std::max<int64_t>(tiles, 1));
  const int64_t parts = std::clamp<int64_t>(all_steps / shortest, 1, wanted);
  const int64_t steps = (all_steps + parts - 1) / parts;
  return {.parts = int(steps ? (all_steps + steps - 1) / steps : 1), .steps = int(steps)};
}

}  // namespace glia
