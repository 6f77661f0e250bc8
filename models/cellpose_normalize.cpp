// Normalisation of models/cellpose_image.h.
#include <algorithm>
#include <cmath>
#include <functional>

#include "models/cellpose_image.h"
#include "models/cellpose_taps.h"
#include "models/image_input.h"

namespace glia {
namespace {

using Channel = std::vector<float>;

Channel channel_of(const Tensor& x, int64_t c, int64_t row_step, int64_t column_step) {
  Channel values;
  for (int64_t i = 0; i < x.dim(0); i += row_step)
    for (int64_t j = 0; j < x.dim(1); j += column_step) values.push_back(x.data<float>()[(i * x.dim(1) + j) * x.dim(2) + c]);
  return values;
}

double percentile_of(const Channel& values, double percent) {
  return percentile(Tensor::from({static_cast<int64_t>(values.size())}, values), percent / 100);
}

// What becomes 0 and 1, by pixel or for all.
struct Limits {
  double low = 0, high = 1;
};

void apply_limits(const Tensor& x, int64_t c, bool invert, const std::function<Limits(int64_t row, int64_t column)>& limits) {
  for (int64_t i = 0; i < x.dim(0); ++i)
    for (int64_t j = 0; j < x.dim(1); ++j) {
      const Limits l = limits(i, j);
      float& v = x.data<float>()[(i * x.dim(1) + j) * x.dim(2) + c];
      v = static_cast<float>((double(v) - l.low) / (l.high - l.low));
      if (invert) v = 1 - v;
    }
}

// Gaussian of sigma 1 over the rows of blocks, mirrored at the ends with the edge repeated. (Cellpose 3 smooths twice, along this
// axis alone.)
std::vector<double> smoothed_rows(const std::vector<double>& x, int64_t rows, int64_t columns) {
  constexpr int64_t radius = 4;
  double kernel[2 * radius + 1], sum = 0;
  for (int64_t k = -radius; k <= radius; ++k) sum += kernel[k + radius] = std::exp(-0.5 * double(k * k));
  const auto mirrored = [&](int64_t i) {
    i = ((i % (2 * rows)) + 2 * rows) % (2 * rows);
    return i < rows ? i : 2 * rows - 1 - i;
  };
  std::vector<double> y(x.size());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j)
      for (int64_t k = -radius; k <= radius; ++k)
        y[size_t(i * columns + j)] += kernel[k + radius] / sum * x[size_t(mirrored(i + k) * columns + j)];
  return y;
}

// Blocks without contrast take the limits of the nearest block (of blocks, counted in blocks) that has some.
void fill_flat(std::vector<double>& low, std::vector<double>& high, int64_t columns) {
  const auto count = static_cast<int64_t>(low.size());
  std::vector<int64_t> good;
  for (int64_t i = 0; i < count; ++i)
    if (high[size_t(i)] - low[size_t(i)] >= 1e-3) good.push_back(i);
  std::vector<double> filled_low = low, filled_high = high;
  for (int64_t i = 0; i < count; ++i) {
    if (high[size_t(i)] - low[size_t(i)] >= 1e-3) continue;
    filled_low[size_t(i)] = 0;
    filled_high[size_t(i)] = 1;
    int64_t nearest = INT64_MAX;
    for (const int64_t g : good) {
      const int64_t dy = g / columns - i / columns, dx = g % columns - i % columns, distance = dy * dy + dx * dx;
      if (distance >= nearest) continue;
      nearest = distance;
      filled_low[size_t(i)] = low[size_t(g)];
      filled_high[size_t(i)] = high[size_t(g)];
    }
  }
  low = filled_low;
  high = filled_high;
}

// The first row of blocks, between whose centres the limits of the image's columns lie. (Cellpose 3 takes them for all of its
// rows.)
double interpolated(const std::vector<double>& x, const CellposeTaps& taps, int64_t column) {
  const double a = x[size_t(taps.at[size_t(column)])], b = x[size_t(taps.next[size_t(column)])];
  return a + double(taps.share[size_t(column)]) * (b - a);
}

void normalize_blocks(const Tensor& x, int64_t c, const CellposeNormalization& how) {
  const CellposeTiles ys = cellpose_tiles(x.dim(0), how.block, 0.1, false), xs = cellpose_tiles(x.dim(1), how.block, 0.1, false);
  const auto rows = static_cast<int64_t>(ys.starts.size()), columns = static_cast<int64_t>(xs.starts.size());
  std::vector<double> low, high;
  for (const int64_t top : ys.starts)
    for (const int64_t left : xs.starts) {
      Channel values;
      for (int64_t i = top; i < top + ys.length; ++i)
        for (int64_t j = left; j < left + xs.length; ++j) values.push_back(x.data<float>()[(i * x.dim(1) + j) * x.dim(2) + c]);
      low.push_back(percentile_of(values, how.percentiles[0]));
      high.push_back(percentile_of(values, how.percentiles[1]));
    }
  fill_flat(low, high, columns);
  for (int twice = 0; twice < 2; ++twice) {
    low = smoothed_rows(low, rows, columns);
    high = smoothed_rows(high, rows, columns);
  }
  const CellposeTaps taps(columns, x.dim(1));
  apply_limits(x, c, how.invert, [&](int64_t, int64_t column) {
    return Limits{interpolated(low, taps, column), interpolated(high, taps, column)};
  });
}

void normalize_whole(const Tensor& x, int64_t c, const CellposeNormalization& how) {
  constexpr int64_t large = 224 * 224 * 224;
  const bool skip = x.dim(0) * x.dim(1) > large;
  const Channel values =
      channel_of(x, c, skip ? std::max<int64_t>(1, x.dim(0) / 224) : 1, skip ? std::max<int64_t>(1, x.dim(1) / 224) : 1);
  const Limits limits{percentile_of(values, how.percentiles[0]), percentile_of(values, how.percentiles[1])};
  if (limits.high - limits.low > 1e-3) return apply_limits(x, c, how.invert, [&](int64_t, int64_t) { return limits; });
  const float flat = how.invert ? 1 : 0;
  for (int64_t i = 0; i < x.dim(0) * x.dim(1); ++i) x.data<float>()[i * x.dim(2) + c] = flat;
}

}  // namespace

Tensor cellpose_normalized(const Tensor& x, const CellposeNormalization& how) {
  GLIA_CHECK(x.rank() == 3 && x.size() > 0, "cellpose: image is {}, want (H, W, C)", x.shape());
  const auto values = x.values<float>();
  const auto bad = std::find_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
  if (bad != values.end()) {
    const int64_t pixel = (bad - values.begin()) / x.dim(2);
    throw DataError("image: pixel (row {}, column {}) is {}, want finite values", pixel / x.dim(1), pixel % x.dim(1), *bad);
  }
  const Tensor y = x.clone();
  for (int64_t c = 0; c < y.dim(2); ++c) {
    float least = y.data<float>()[c], largest = least;
    for (int64_t i = 0; i < y.dim(0) * y.dim(1); ++i) {
      least = std::min(least, y.data<float>()[i * y.dim(2) + c]);
      largest = std::max(largest, y.data<float>()[i * y.dim(2) + c]);
    }
    if (how.low_high[0] < how.low_high[1]) {
      apply_limits(y, c, how.invert, [&](int64_t, int64_t) { return Limits{how.low_high[0], how.low_high[1]}; });
    } else if (least == largest) {
      continue;
    } else if (how.block > 0) {
      normalize_blocks(y, c, how);
    } else {
      normalize_whole(y, c, how);
    }
  }
  return y;
}

}  // namespace glia
