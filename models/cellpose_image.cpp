#include "models/cellpose_image.h"

#include <algorithm>
#include <cmath>
#include <deque>

#include "models/cellpose_taps.h"
#include "tensor/parallel.h"

namespace glia {
namespace {

// An image resized and padded, of which windows are made when they are asked for.
class PaddedImage {
 public:
  PaddedImage(const Tensor& x, double rescale)
      : x_(x),
        size_(cellpose_network_size(x.dim(0), x.dim(1), rescale)),
        rows_(x.dim(0), size_[0]),
        columns_(x.dim(1), size_[1]) {
    for (size_t axis = 0; axis < 2; ++axis) {
      const int64_t rest = (16 - size_[axis] % 16) % 16;
      before_[axis] = 8 + rest / 2;
      padded_[axis] = size_[axis] + 16 + rest;
    }
  }

  const std::array<int64_t, 2>& size() const { return size_; }
  const std::array<int64_t, 2>& before() const { return before_; }
  const std::array<int64_t, 2>& padded() const { return padded_; }

  // Window (h, w, C) at row `top`, column `left` of the padded image; beyond it are zeros too.
  void window(int64_t top, int64_t left, int64_t h, int64_t w, float* to) const {
    const int64_t channels = x_.dim(2), stride = x_.dim(1) * channels;
    for (int64_t i = 0; i < h; ++i) {
      const int64_t y = top + i - before_[0];
      for (int64_t j = 0; j < w; ++j, to += channels) {
        const int64_t x = left + j - before_[1];
        if (y < 0 || y >= size_[0] || x < 0 || x >= size_[1]) {
          std::fill_n(to, channels, 0.0f);
          continue;
        }
        const float* above = x_.data<float>() + rows_.at[size_t(y)] * stride;
        const float* below = x_.data<float>() + rows_.next[size_t(y)] * stride;
        const int64_t a = columns_.at[size_t(x)] * channels, b = columns_.next[size_t(x)] * channels;
        const float across = columns_.share[size_t(x)], down = rows_.share[size_t(y)];
        for (int64_t c = 0; c < channels; ++c) {
          const float upper = above[a + c] + across * (above[b + c] - above[a + c]);
          const float lower = below[a + c] + across * (below[b + c] - below[a + c]);
          to[c] = upper + down * (lower - upper);
        }
      }
    }
  }

 private:
  const Tensor& x_;
  std::array<int64_t, 2> size_, before_{}, padded_{};
  CellposeTaps rows_, columns_;
};

// The sum of a tile's weights at each place of an axis, over all tiles.
std::vector<double> total_weights(int64_t size, const CellposeTiles& tiles, const std::vector<double>& taper) {
  std::vector<double> total(size_t(size), 0.0);
  for (const int64_t start : tiles.starts)
    for (int64_t i = 0; i < tiles.length; ++i) total[size_t(start + i)] += taper[size_t(i)];
  return total;
}

// The rows of the maps under the current row of tiles: weighted sums.
class Band {
 public:
  Band(int64_t height, int64_t width) : sums_(Tensor::zeros({height, width, maps})) {}

  void add(const Tensor& tile, int64_t left, const CellposeTaper& taper) {
    const int64_t h = tile.dim(0), w = tile.dim(1);
    parallel_for(h, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float* from = tile.data<float>() + i * w * maps;
        float* to = sums_.data<float>() + (i * sums_.dim(1) + left) * maps;
        for (int64_t j = 0; j < w; ++j) {
          const auto weight = static_cast<float>(taper.rows[size_t(i)] * taper.columns[size_t(j)]);
          for (int64_t c = 0; c < maps; ++c) to[j * maps + c] += weight * from[j * maps + c];
        }
      }
    });
  }

  const float* row(int64_t i) const { return sums_.data<float>() + i * sums_.dim(1) * maps; }

  void move_up(int64_t by) {
    const int64_t row = sums_.dim(1) * maps;
    float* const all = sums_.data<float>();
    std::copy(all + by * row, all + sums_.size(), all);
    std::fill(all + sums_.size() - by * row, all + sums_.size(), 0.0f);
  }

  static constexpr int64_t maps = 3;

 private:
  Tensor sums_;
};

}  // namespace

CellposeTiles cellpose_tiles(int64_t size, int64_t tile, double overlap, bool augment) {
  overlap = std::clamp(overlap, 0.05, 0.5);
  CellposeTiles tiles{.length = std::min(size, tile), .starts = {}};
  const double exact = (augment ? 2 : 1 + 2 * overlap) * double(size) / double(tile);
  int64_t count = static_cast<int64_t>(std::ceil(exact));
  if (augment) {
    count = std::max<int64_t>(2, count);
  } else if (size <= tile) {
    count = 1;
  }
  const double step = count > 1 ? double(size - tiles.length) / double(count - 1) : 0;
  for (int64_t i = 0; i < count; ++i)
    tiles.starts.push_back(i + 1 < count ? static_cast<int64_t>(double(i) * step) : count > 1 ? size - tiles.length : 0);
  return tiles;
}

CellposeTaper cellpose_taper(int64_t height, int64_t width) {
  const int64_t size = std::max<int64_t>({224, height, width});
  const auto weights = [&](int64_t length) {
    std::vector<double> w;
    for (int64_t i = size / 2 - length / 2; i < size / 2 + length / 2 + length % 2; ++i)
      w.push_back(1 / (1 + std::exp((std::abs(double(i) - double(size - 1) / 2) - (double(size) / 2 - 20)) / 7.5)));
    return w;
  };
  return {weights(height), weights(width)};
}

CellposeFlip cellpose_flip(int64_t row, int64_t column) {
  if (row % 2 == 0) return column % 2 == 0 ? CellposeFlip::none : CellposeFlip::y;
  return column % 2 == 0 ? CellposeFlip::x : CellposeFlip::both;
}

Tensor cellpose_flipped(const Tensor& tile, CellposeFlip flip, bool is_flow) {
  if (flip == CellposeFlip::none) return tile;
  const bool y = flip != CellposeFlip::x, x = flip != CellposeFlip::y;
  const int64_t h = tile.dim(0), w = tile.dim(1), channels = tile.dim(2);
  Tensor flipped(tile.shape());
  float* to = flipped.data<float>();
  for (int64_t i = 0; i < h; ++i)
    for (int64_t j = 0; j < w; ++j, to += channels) {
      std::copy_n(tile.data<float>() + ((y ? h - 1 - i : i) * w + (x ? w - 1 - j : j)) * channels, channels, to);
      if (is_flow && y) to[0] = -to[0];
      if (is_flow && x) to[1] = -to[1];
    }
  return flipped;
}

std::array<int64_t, 2> cellpose_network_size(int64_t height, int64_t width, double rescale) {
  const auto side = [&](int64_t n) { return std::max<int64_t>(1, static_cast<int64_t>(double(n) * rescale)); };
  return {side(height), side(width)};
}

void cellpose_run(const Tensor& x, double rescale, const CellposeTiling& tiling,
                  const std::function<Tensor(const Tensor& tiles)>& network,
                  const std::function<void(int64_t first, const Tensor& rows)>& rows) {
  const PaddedImage image(x, rescale);
  const auto axis_size = [&](size_t axis) {
    return tiling.augment ? std::max(image.padded()[axis], tiling.tile) : image.padded()[axis];
  };
  const CellposeTiles ys = cellpose_tiles(axis_size(0), tiling.tile, tiling.overlap, tiling.augment);
  const CellposeTiles xs = cellpose_tiles(axis_size(1), tiling.tile, tiling.overlap, tiling.augment);
  const int64_t h = ys.length, w = xs.length, channels = x.dim(2), columns = static_cast<int64_t>(xs.starts.size());
  const CellposeTaper taper = cellpose_taper(h, w);
  const std::vector<double> row_weights = total_weights(axis_size(0), ys, taper.rows);
  const std::vector<double> column_weights = total_weights(axis_size(1), xs, taper.columns);
  const int64_t first_row = image.before()[0], first_column = image.before()[1];
  const int64_t end_row = first_row + image.size()[0], width = image.size()[1];

  Band band(h, axis_size(1));
  for (size_t j = 0; j < ys.starts.size(); ++j) {
    const auto flip = [&](int64_t i) { return tiling.augment ? cellpose_flip(static_cast<int64_t>(j), i) : CellposeFlip::none; };
    for (int64_t begin = 0; begin < columns; begin += tiling.batch_size) {
      const int64_t count = std::min(tiling.batch_size, columns - begin);
      const Tensor batch({count, h, w, channels});
      for (int64_t i = 0; i < count; ++i) {
        const Tensor tile = batch.slice(i, i + 1).reshape({h, w, channels});
        image.window(ys.starts[j], xs.starts[size_t(begin + i)], h, w, tile.data<float>());
        if (flip(begin + i) != CellposeFlip::none) tile.copy_from(cellpose_flipped(tile, flip(begin + i), false));
      }
      const Tensor maps = network(batch);
      for (int64_t i = 0; i < count; ++i) {
        const Tensor tile = maps.slice(i, i + 1).reshape({h, w, Band::maps});
        band.add(cellpose_flipped(tile, flip(begin + i), true), xs.starts[size_t(begin + i)], taper);
      }
    }
    // Rows that no further tile reaches are complete.
    const int64_t top = ys.starts[j], end = j + 1 < ys.starts.size() ? ys.starts[j + 1] : top + h;
    const int64_t from = std::max(top, first_row), to = std::min(end, end_row);
    if (from < to) {
      const Tensor done({to - from, width, Band::maps});
      float* value = done.data<float>();
      for (int64_t y = from; y < to; ++y) {
        const float* sums = band.row(y - top) + first_column * Band::maps;
        for (int64_t k = 0; k < width; ++k) {
          const auto scale = static_cast<float>(1 / (row_weights[size_t(y)] * column_weights[size_t(first_column + k)]));
          for (int64_t c = 0; c < Band::maps; ++c) *value++ = *sums++ * scale;
        }
      }
      rows(from - first_row, done);
    }
    band.move_up(end - top);
  }
}

Tensor cellpose_maps(const Tensor& x, double rescale, const CellposeTiling& tiling,
                     const std::function<Tensor(const Tensor& tiles)>& network) {
  const auto [height, width] = cellpose_network_size(x.dim(0), x.dim(1), rescale);
  const Tensor maps({height, width, Band::maps});
  cellpose_run(x, rescale, tiling, network, [&](int64_t first, const Tensor& rows) {
    std::copy_n(rows.data<float>(), rows.size(), maps.data<float>() + first * width * Band::maps);
  });
  return maps;
}

Tensor cellpose_maps_resampled(const Tensor& x, double rescale, const CellposeTiling& tiling,
                               const std::function<Tensor(const Tensor& tiles)>& network) {
  const auto [height, width] = cellpose_network_size(x.dim(0), x.dim(1), rescale);
  if (height == x.dim(0) && width == x.dim(1)) return cellpose_maps(x, rescale, tiling, network);
  const CellposeTaps ys(height, x.dim(0)), xs(width, x.dim(1));
  const Tensor maps({x.dim(0), x.dim(1), Band::maps});
  std::deque<std::vector<float>> waiting;  // rows of the network's from `oldest` on, resized along x
  int64_t oldest = 0, done = 0;
  cellpose_run(x, rescale, tiling, network, [&](int64_t, const Tensor& rows) {
    for (int64_t i = 0; i < rows.dim(0); ++i) {
      const float* from = rows.data<float>() + i * rows.dim(1) * Band::maps;
      std::vector<float>& row = waiting.emplace_back();
      for (size_t k = 0; k < xs.at.size(); ++k)
        for (int64_t c = 0; c < Band::maps; ++c) {
          const float a = from[xs.at[k] * Band::maps + c];
          row.push_back(a + xs.share[k] * (from[xs.next[k] * Band::maps + c] - a));
        }
    }
    const int64_t end = oldest + static_cast<int64_t>(waiting.size());
    for (; done < x.dim(0) && ys.next[size_t(done)] < end; ++done) {
      const std::vector<float>& above = waiting[size_t(ys.at[size_t(done)] - oldest)];
      const std::vector<float>& below = waiting[size_t(ys.next[size_t(done)] - oldest)];
      float* to = maps.data<float>() + done * x.dim(1) * Band::maps;
      for (size_t k = 0; k < above.size(); ++k) to[k] = above[k] + ys.share[size_t(done)] * (below[k] - above[k]);
    }
    const int64_t needed = done < x.dim(0) ? ys.at[size_t(done)] : end;
    for (; oldest < std::min(needed, end); ++oldest) waiting.pop_front();
  });
  return maps;
}

}  // namespace glia
