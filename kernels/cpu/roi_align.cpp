// RoiAlign over lists of taps (RoiAxis): the weights of a roi's rows and columns are made once, and what is left are sums of pixels over
// whole vectors of channels. Backward goes by bands of rows of the maps: a task owns a band and adds to it what the rois that reach into
// it give, in their order. A band of a few rows stays in the second-level cache.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/roi_align.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/cpu/vector-inl.h"
#include "kernels/roi_align.h"

#ifndef GLIA_KERNELS_CPU_ROI_ALIGN_ONCE
#define GLIA_KERNELS_CPU_ROI_ALIGN_ONCE
namespace glia::cpu {

struct Tap {
  int64_t at;  // pixel, or bin
  float weight;
};

// Lists of taps: of bins, those of list i are taps[begin[i]] .. taps[begin[i + 1]].
struct TapLists {
  std::vector<size_t> begin{0};
  std::vector<Tap> taps;
  std::span<const Tap> operator[](size_t i) const { return {taps.data() + begin[i], begin[i + 1] - begin[i]}; }
};

// The same by pixel, from the first one that has any: the bins that read it.
struct TapsByPixel {
  int64_t first = 0;
  TapLists bins;
  int64_t end() const { return first + static_cast<int64_t>(bins.begin.size()) - 1; }
};

struct PooledRoi {
  const float* map;  // of the image and level; null in backward
  int64_t row;       // floats
  TapLists rows, columns;
};

// A band of rows of a gradient's image, and the rois that reach into it.
struct Band {
  float* image;
  int64_t row, begin, end;  // floats of a row; rows
  std::vector<size_t> rois;
};
struct SpreadRoi {
  TapsByPixel rows, columns;
};

}  // namespace glia::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

// to[c] = sum over pixels of weight * from[at + c], c < count vectors.
template <int count>
HWY_INLINE void sum_vectors(std::span<const Tap> pixels, const float* from, float* to) {
  Vector sums[count];
  for (Vector& s : sums) s = splat(0);
  for (const Tap& pixel : pixels) {
    const Vector weight = hn::Set(VectorTag(), pixel.weight);
    for (int v = 0; v < count; ++v) sums[v] = hn::MulAdd(weight, load(from + pixel.at + v * vector_lanes()), sums[v]);
  }
  for (int v = 0; v < count; ++v) store<false>(sums[v], to + v * vector_lanes());
}

void sum_pixels(std::span<const Tap> pixels, const float* from, float* to, int64_t channels) {
  constexpr int most = HWY_TARGET <= HWY_AVX3 ? 16 : 8;  // half of the registers
  const int64_t lanes = vector_lanes();
  int64_t c = 0;
  for (; c + most * lanes <= channels; c += most * lanes) sum_vectors<most>(pixels, from + c, to + c);
  for (; c + 4 * lanes <= channels; c += 4 * lanes) sum_vectors<4>(pixels, from + c, to + c);
  for (; c + lanes <= channels; c += lanes) sum_vectors<1>(pixels, from + c, to + c);
  if (c == channels) return;
  Vector sum = splat(0);
  for (const Tap& pixel : pixels)
    sum = hn::MulAdd(hn::Set(VectorTag(), pixel.weight), load_part(from + pixel.at + c, channels - c), sum);
  store_part(sum, to + c, channels - c);
}

// y (bins, bins, channels) of one roi.
void pool(const PooledRoi& roi, int64_t bins, int64_t channels, float* y) {
  std::vector<Tap> pixels;
  for (size_t p = 0; p < static_cast<size_t>(bins); ++p)
    for (size_t q = 0; q < static_cast<size_t>(bins); ++q, y += channels) {
      pixels.clear();
      for (const Tap& row : roi.rows[p])
        for (const Tap& column : roi.columns[q])
          pixels.push_back({row.at * roi.row + column.at * channels, row.weight * column.weight});
      sum_pixels(pixels, roi.map, y, channels);
    }
}

// to += factor * sum of weight * line[bin].
HWY_INLINE void add_bins(std::span<const Tap> bins, float factor, const float* line, int64_t channels, float* to) {
  for (size_t i = 0; i < bins.size(); i += 2) {
    const Vector w0 = hn::Set(VectorTag(), factor * bins[i].weight);
    const float* first = line + bins[i].at * channels;
    if (i + 1 == bins.size()) {
      map_span<false>(
          channels, to, [&](Vector sum, Vector a) HWY_ATTR { return hn::MulAdd(w0, a, sum); }, to, first);
    } else {
      const Vector w1 = hn::Set(VectorTag(), factor * bins[i + 1].weight);
      map_span<false>(
          channels, to, [&](Vector sum, Vector a, Vector b) HWY_ATTR { return hn::MulAdd(w1, b, hn::MulAdd(w0, a, sum)); }, to,
          first, line + bins[i + 1].at * channels);
    }
  }
}

void fill_band(const Band& band, const std::vector<SpreadRoi>& rois, int64_t bins, int64_t channels, const float* dy) {
  std::fill(band.image + band.begin * band.row, band.image + band.end * band.row, 0.0f);
  const int64_t line = bins * channels;
  std::vector<float> combined(static_cast<size_t>(line));
  std::vector<Tap> sources;
  for (const size_t r : band.rois) {
    const SpreadRoi& roi = rois[r];
    const float* from = dy + static_cast<int64_t>(r) * bins * line;
    for (int64_t i = std::max(band.begin, roi.rows.first); i < std::min(band.end, roi.rows.end()); ++i) {
      const std::span<const Tap> of_row = roi.rows.bins[static_cast<size_t>(i - roi.rows.first)];
      if (of_row.empty()) continue;
      const float* at = from + of_row[0].at * line;
      float factor = of_row[0].weight;
      if (of_row.size() > 1) {  // the lines of bins that read this row become one
        sources.assign(of_row.begin(), of_row.end());
        for (Tap& s : sources) s.at *= line;
        sum_pixels(sources, from, combined.data(), line);
        at = combined.data();
        factor = 1;
      }
      float* to = band.image + i * band.row + roi.columns.first * channels;
      for (size_t j = 0; j + 1 < roi.columns.bins.begin.size(); ++j, to += channels)
        add_bins(roi.columns.bins[j], factor, at, channels, to);
    }
  }
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(pool);
HWY_EXPORT(fill_band);

namespace {

constexpr int64_t band_floats = 1 << 17;

TapLists taps_of(const RoiAxis<float>& axis, int64_t bins, float factor) {
  TapLists lists;
  for (int64_t p = 0; p < bins; ++p) {
    axis.for_each_tap(p, [&](int64_t pixel, float weight) { lists.taps.push_back({pixel, factor * weight}); });
    lists.begin.push_back(lists.taps.size());
  }
  return lists;
}

// Taps of the rows and columns of a roi; the rows' weights are divided by the number of samples.
std::pair<TapLists, TapLists> taps_of(const RoiAlign& op, size_t level, const float* roi, const Shape& map) {
  const auto scale = static_cast<float>(op.scales[level]);
  const RoiAxis<float> rows(op, scale, roi[2], roi[4], map[1]), columns(op, scale, roi[1], roi[3], map[2]);
  const float count = std::max(static_cast<float>(rows.samples) * static_cast<float>(columns.samples), 1.0f);
  return {taps_of(rows, op.size, 1 / count), taps_of(columns, op.size, 1)};
}

TapsByPixel by_pixel(const TapLists& bins) {
  TapsByPixel result;
  if (bins.taps.empty()) return result;
  const auto less = [](const Tap& a, const Tap& b) { return a.at < b.at; };
  const auto [low, high] = std::minmax_element(bins.taps.begin(), bins.taps.end(), less);
  result.first = low->at;
  std::vector<size_t>& begin = result.bins.begin;
  begin.assign(static_cast<size_t>(high->at - low->at + 2), 0);
  const auto place = [&](const Tap& tap) { return static_cast<size_t>(tap.at - result.first); };
  for (const Tap& tap : bins.taps) ++begin[place(tap) + 1];
  std::partial_sum(begin.begin(), begin.end(), begin.begin());
  std::vector<size_t> next(begin.begin(), begin.end() - 1);
  result.bins.taps.resize(bins.taps.size());
  for (size_t bin = 0; bin + 1 < bins.begin.size(); ++bin)
    for (const Tap& tap : bins[bin]) result.bins.taps[next[place(tap)]++] = {static_cast<int64_t>(bin), tap.weight};
  return result;
}

}  // namespace

void roi_align(const RoiAlign& op, const Tensor& x0, const Tensor& x1, const Tensor& x2, const Tensor& x3, const Tensor& rois,
               const Tensor& levels, Tensor& y) {
  const std::array<const Tensor*, 4> maps{&x0, &x1, &x2, &x3};
  const auto places = detail::roi_places(rois, levels, x0.dim(0), maps);
  const int64_t channels = x0.dim(3);
  parallel_for(rois.dim(0), 1, [&](int64_t r, int64_t) {
    const auto [image, level] = places[static_cast<size_t>(r)];
    const Tensor& x = *maps[static_cast<size_t>(level)];
    auto [rows, columns] = taps_of(op, static_cast<size_t>(level), rois.data<float>() + 5 * r, x.shape());
    const PooledRoi roi{x.data<float>() + image * x.shape().product(1, 4), x.dim(2) * channels, std::move(rows),
                        std::move(columns)};
    HWY_DYNAMIC_DISPATCH(pool)(roi, op.size, channels, y.data<float>() + r * op.size * op.size * channels);
  });
}

void roi_align_backward(const RoiAlign& op, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor& rois,
                        const Tensor& levels, const Tensor&, const Tensor& dy, Tensor* dx0, Tensor* dx1, Tensor* dx2, Tensor* dx3,
                        Tensor* drois, Tensor*) {
  if (drois) drois->fill(0);
  const std::array<Tensor*, 4> gradients{dx0, dx1, dx2, dx3};
  const int64_t channels = dy.dim(3);
  std::vector<SpreadRoi> spread(static_cast<size_t>(rois.dim(0)));
  std::vector<Band> bands;
  for (size_t level = 0; level < 4; ++level) {
    const Tensor* dx = gradients[level];
    if (!dx) continue;
    const int64_t images = dx->dim(0), height = dx->dim(1), row = dx->dim(2) * channels;
    const int64_t rows_of_band = std::max<int64_t>(1, band_floats / std::max<int64_t>(1, row));
    const auto places = detail::roi_places(rois, levels, images);
    parallel_for(rois.dim(0), 16, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        if (places[static_cast<size_t>(r)].level != static_cast<int64_t>(level)) continue;
        const auto [rows, columns] = taps_of(op, level, rois.data<float>() + 5 * r, dx->shape());
        spread[static_cast<size_t>(r)] = {by_pixel(rows), by_pixel(columns)};
      }
    });
    const size_t first = bands.size();
    const int64_t bands_of_image = num_chunks(height, rows_of_band);
    for (int64_t image = 0; image < images; ++image)
      for (int64_t i = 0; i < height; i += rows_of_band)
        bands.push_back({dx->data<float>() + image * height * row, row, i, std::min(height, i + rows_of_band), {}});
    for (size_t r = 0; r < places.size(); ++r) {
      const TapsByPixel& rows = spread[r].rows;
      if (places[r].level != static_cast<int64_t>(level) || rows.end() == rows.first) continue;
      for (int64_t b = rows.first / rows_of_band; b <= (rows.end() - 1) / rows_of_band; ++b)
        bands[first + static_cast<size_t>(places[r].image * bands_of_image + b)].rois.push_back(r);
    }
  }
  parallel_for(static_cast<int64_t>(bands.size()), 1, [&](int64_t b, int64_t) {
    HWY_DYNAMIC_DISPATCH(fill_band)(bands[static_cast<size_t>(b)], spread, op.size, channels, dy.data<float>());
  });
}

void fpn_level(const FpnLevel& op, const Tensor& boxes, Tensor& level) {
  parallel_for(boxes.dim(0), 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* box = boxes.data<float>() + 4 * i;
      level.data<int64_t>()[i] = op.level(box[0], box[1], box[2], box[3]);
    }
  });
}

}  // namespace glia::cpu
#endif
