// Both ops are separable: what a pixel or bin gets is a product of a weight along y and one along x. So a box costs about its area
// once per axis, and nothing outside of its window or of the mask's is visited.
#include "kernels/masks.h"

#include <algorithm>
#include <cmath>

#include "kernels/index.h"
#include "kernels/paste_axis.h"
#include "tensor/parallel.h"

namespace glia::cpu {
namespace {

using detail::MaskWindow;

// Along one axis: which pixels of a window each bin of a box takes, and with what weight. A bin's pixels are neighbours.
struct CropAxis {
  std::vector<int64_t> first, count;  // per bin; pixels counted from the window's first
  std::vector<float> weight;          // all bins' one after the other
  float samples = 0;                  // per bin

  // Interval [low, high) of an axis with `image` pixels, of which the window has [origin, origin + length).
  void set(float low, float high, int64_t bins, int64_t image, int64_t origin, int64_t length) {
    first.assign(size_t(bins), 0);
    count.assign(size_t(bins), 0);
    weight.clear();
    const float start = low - .5f, bin = (high - .5f - start) / float(bins);
    samples = std::ceil(bin);
    if (!(samples > 0)) return;
    const float step = bin / samples;
    for (int64_t i = 0; i < bins; ++i) {
      // Samples further than a pixel from the window see only zeros.
      const float from = start + float(i) * bin;
      const float a = (float(origin - 1) - from) / step - 2, b = (float(origin + length) - from) / step + 2;
      const auto begin = static_cast<int64_t>(std::clamp(a, 0.0f, samples)),
                 end = static_cast<int64_t>(std::clamp(b, 0.0f, samples));
      const size_t base = weight.size();
      const auto add = [&](int64_t pixel, float w) {
        if (w == 0 || pixel < 0 || pixel >= length) return;
        auto& n = count[size_t(i)];
        if (n == 0) first[size_t(i)] = pixel;
        n = std::max(n, pixel - first[size_t(i)] + 1);
        weight.resize(base + size_t(n), 0.0f);
        weight[base + size_t(pixel - first[size_t(i)])] += w;
      };
      for (int64_t s = begin; s < end; ++s) {
        const float at = from + (float(s) + .5f) * bin / samples;
        if (!(at >= -1 && at <= float(image))) continue;
        const float inside = std::clamp(at, 0.0f, float(image - 1)), below = std::floor(inside);
        const int64_t pixel = static_cast<int64_t>(below) - origin;
        add(pixel, 1 - (inside - below));
        add(pixel + 1, inside - below);
      }
    }
  }
};

struct CropScratch {
  CropAxis y, x;
  std::vector<float> row;
};

void crop(int64_t size, const MaskWindow& window, const uint8_t* bits, const float* box, CropScratch& scratch, float* soft) {
  std::fill(soft, soft + size * size, 0.0f);
  const bool near = std::all_of(box, box + 4, [](float v) { return std::abs(v) < float(1 << 24); });
  if (!near || !(box[2] > box[0] && box[3] > box[1]) || window.height == 0 || window.width == 0) return;
  auto& [y, x, row] = scratch;
  y.set(box[1], box[3], size, window.image_height, window.y0, window.height);
  x.set(box[0], box[2], size, window.image_width, window.x0, window.width);
  const float samples = std::max(y.samples * x.samples, 1.0f);
  row.resize(size_t(window.width));
  const float* wy = y.weight.data();
  for (int64_t i = 0; i < size; ++i) {
    const int64_t rows = y.count[size_t(i)];
    if (rows == 0) continue;
    std::fill(row.begin(), row.end(), 0.0f);
    for (int64_t a = 0; a < rows; ++a) {
      const uint8_t* from = bits + window.first + (y.first[size_t(i)] + a) * window.width;
      for (int64_t c = 0; c < window.width; ++c) row[size_t(c)] += wy[a] * float(from[c]);
    }
    wy += rows;
    const float* wx = x.weight.data();
    for (int64_t j = 0; j < size; ++j) {
      const int64_t columns = x.count[size_t(j)];
      const float* from = row.data() + x.first[size_t(j)];
      float sum = 0;
      for (int64_t b = 0; b < columns; ++b) sum += wx[b] * from[b];
      wx += columns;
      soft[i * size + j] = sum / samples;
    }
  }
}

void paste(const float* map, int64_t m, const PasteAxis& y, const PasteAxis& x, int64_t width, float* soft) {
  std::vector<float> row(size_t(m + 2));  // the map at the pixel's y, a zero on each side
  for (int64_t i = 0; i < y.size(); ++i) {
    const int64_t before = y.before[size_t(i)];
    const float share = y.share[size_t(i)];
    for (int64_t k = 0; k < m; ++k)
      row[size_t(k + 1)] =
          (before >= 0 ? (1 - share) * map[before * m + k] : 0) + (before + 1 < m ? share * map[(before + 1) * m + k] : 0);
    float* to = soft + (y.begin + i) * width + x.begin;
    for (int64_t j = 0; j < x.size(); ++j) {
      const float* at = row.data() + x.before[size_t(j)] + 1;
      to[j] = (1 - x.share[size_t(j)]) * at[0] + x.share[size_t(j)] * at[1];
    }
  }
}

}  // namespace

void mask_crop(const MaskCrop& op, const Tensor& bits, const Tensor& windows, const Tensor& boxes, const Tensor& instance,
               Tensor& soft) {
  detail::check_windows(bits, windows, "mask_crop");
  detail::check_indices(instance, windows.dim(0), "mask_crop");
  const auto* rows = reinterpret_cast<const MaskWindow*>(windows.data<int64_t>());
  const int64_t* which = instance.data<int64_t>();
  const uint8_t* pixels = bits.data<uint8_t>();
  const float* box = boxes.data<float>();
  float* to = soft.data<float>();
  parallel_for(boxes.dim(0), 16, [&](int64_t begin, int64_t end) {
    CropScratch scratch;
    for (int64_t r = begin; r < end; ++r) crop(op.size, rows[which[r]], pixels, box + 4 * r, scratch, to + r * op.size * op.size);
  });
}

void paste_masks(const PasteMasks& op, const Tensor& masks, const Tensor& boxes, Tensor& soft) {
  const int64_t m = masks.dim(1);
  const float* map = masks.data<float>();
  const float* box = boxes.data<float>();
  float* to = soft.data<float>();
  parallel_for(masks.dim(0), 1, [&](int64_t begin, int64_t end) {
    PasteAxis y, x;
    for (int64_t n = begin; n < end; ++n) {
      float* image = to + n * op.height * op.width;
      std::fill(image, image + op.height * op.width, 0.0f);
      x.set(box[4 * n], box[4 * n + 2], m, op.width);
      y.set(box[4 * n + 1], box[4 * n + 3], m, op.height);
      paste(map + n * m * m, m, y, x, op.width, image);
    }
  });
}

}  // namespace glia::cpu
