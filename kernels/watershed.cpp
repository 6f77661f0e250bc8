// Peaks and watershed on the host, by the rules of scikit-image, ties included.
#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/flood_frame.h"
#include "kernels/labels.h"

namespace glia {
namespace {

struct Area {  // [y0, y1) x [x0, x1)
  int64_t y0, y1, x0, x1;
};

// Maximum over squares of side 2 r + 1, clipped at the edges. (h, w) in place of `x`.
void square_maximum(std::vector<float>& x, int64_t h, int64_t w, int64_t r) {
  std::vector<float> line(size_t(std::max(h, w)));
  const auto pass = [&](float* data, int64_t n, int64_t stride) {
    for (int64_t i = 0; i < n; ++i) line[size_t(i)] = data[i * stride];
    int64_t best = -1;  // where the window's maximum stands
    for (int64_t i = 0; i < n; ++i) {
      const int64_t low = std::max<int64_t>(0, i - r), high = std::min(n - 1, i + r);
      if (best < low) {
        best = low;
        for (int64_t j = low + 1; j <= high; ++j)
          if (line[size_t(j)] >= line[size_t(best)]) best = j;
      } else if (line[size_t(high)] >= line[size_t(best)]) {
        best = high;
      }
      data[i * stride] = line[size_t(best)];
    }
  };
  for (int64_t y = 0; y < h; ++y) pass(x.data() + y * w, w, 1);
  for (int64_t c = 0; c < w; ++c) pass(x.data() + c, h, w);
}

// Pixels of the mask that an opening by a cross removes.
std::vector<uint8_t> isolated(const std::vector<uint8_t>& mask, int64_t h, int64_t w) {
  std::vector<uint8_t> eroded(mask.size()), result(mask.size());
  const auto at = [&](const std::vector<uint8_t>& m, int64_t y, int64_t x) {
    return y >= 0 && y < h && x >= 0 && x < w && m[size_t(y * w + x)];
  };
  for (int64_t y = 0; y < h; ++y)
    for (int64_t x = 0; x < w; ++x)
      eroded[size_t(y * w + x)] =
          at(mask, y, x) && at(mask, y - 1, x) && at(mask, y + 1, x) && at(mask, y, x - 1) && at(mask, y, x + 1);
  for (int64_t y = 0; y < h; ++y)
    for (int64_t x = 0; x < w; ++x)
      result[size_t(y * w + x)] = at(mask, y, x) && !(at(eroded, y, x) || at(eroded, y - 1, x) || at(eroded, y + 1, x) ||
                                                      at(eroded, y, x - 1) || at(eroded, y, x + 1));
  return result;
}

struct Peak {
  float value;
  int32_t y, x;
};

// Peaks of x inside `area`; with a label, pixels of other labels don't count.
std::vector<Peak> find_peaks(const Tensor& x, const Area& area, int64_t r, float threshold, const Tensor& labels, int32_t label) {
  const int64_t h = area.y1 - area.y0, w = area.x1 - area.x0, stride = x.dim(1);
  std::vector<float> values(size_t(h * w));
  std::vector<uint8_t> mask(size_t(h * w), 1);
  for (int64_t i = 0; i < h * w; ++i) {
    const int64_t p = (area.y0 + i / w) * stride + area.x0 + i % w;
    if (labels) mask[size_t(i)] = labels.data<int32_t>()[p] == label;
    values[size_t(i)] = mask[size_t(i)] ? x.data<float>()[p] : std::numeric_limits<float>::lowest();
  }
  std::vector<uint8_t> is_peak(values.size(), 1);
  if (r > 0 && h * w > 1) {
    std::vector<float> top = values;
    square_maximum(top, h, w, r);
    bool trivial = true;  // a flat image has no peaks, a flat label those of its pixels that stand alone
    for (size_t i = 0; i < values.size(); ++i) {
      is_peak[i] = values[i] == top[i];
      trivial = trivial && (is_peak[i] || !mask[i]);
    }
    if (trivial) is_peak = labels ? isolated(mask, h, w) : std::vector<uint8_t>(is_peak.size(), 0);
  }
  std::vector<Peak> peaks;
  for (int64_t i = 0; i < h * w; ++i)
    if (is_peak[size_t(i)] && values[size_t(i)] > threshold)
      peaks.push_back({values[size_t(i)], int32_t(area.y0 + i / w), int32_t(area.x0 + i % w)});
  std::stable_sort(peaks.begin(), peaks.end(), [](const Peak& a, const Peak& b) { return a.value > b.value; });
  return peaks;
}

// Keeps a peak unless a kept one is closer than r (Chebyshev), highest first; kept peaks are found through a grid of cells of
// side r.
void keep_spaced(std::vector<Peak>& peaks, const Area& area, int64_t r) {
  if (r <= 1) return;
  const int64_t rows = (area.y1 - area.y0) / r + 1, columns = (area.x1 - area.x0) / r + 1;
  std::vector<std::vector<Peak>> cells(size_t(rows * columns));
  std::erase_if(peaks, [&](const Peak& p) {
    const int64_t cy = (p.y - area.y0) / r, cx = (p.x - area.x0) / r;
    for (int64_t y = std::max<int64_t>(0, cy - 1); y <= std::min(rows - 1, cy + 1); ++y)
      for (int64_t x = std::max<int64_t>(0, cx - 1); x <= std::min(columns - 1, cx + 1); ++x)
        for (const Peak& q : cells[size_t(y * columns + x)])
          if (std::max(std::abs(p.y - q.y), std::abs(p.x - q.x)) < r) return true;
    cells[size_t(cy * columns + cx)].push_back(p);
    return false;
  });
}

// A binary heap of pixels, lowest (level, age) first. scikit-image gives all markers age 0, and which of two equal ones
// comes first follows from the plain sift-up and sift-down below; std::push_heap sifts in another way.
class PixelQueue {
 public:
  struct Item {
    uint64_t key;  // level, then age
    int32_t pixel, source;
    uint32_t level() const { return static_cast<uint32_t>(key >> 32); }
  };
  static uint64_t key(uint32_t level, uint32_t age) { return uint64_t{level} << 32 | age; }
  bool empty() const { return items_.empty(); }
  const Item& top() const { return items_.front(); }

  void push(const Item& item) {
    size_t child = items_.size();
    items_.push_back(item);
    while (child > 0) {
      const size_t parent = (child - 1) / 2;
      if (items_[parent].key <= item.key) break;
      items_[child] = items_[parent];
      child = parent;
    }
    items_[child] = item;
  }

  Item pop() {
    const Item top = items_.front(), last = items_.back();
    items_.pop_back();
    const size_t size = items_.size();
    if (size == 0) return top;
    size_t i = 0, child = 1;
    for (; child + 1 < size; child = 2 * i + 1) {
      child += items_[child + 1].key < items_[child].key ? 1 : 0;  // no branch: which child is lower cannot be foreseen
      if (last.key <= items_[child].key) break;
      items_[i] = items_[child];
      i = child;
    }
    if (child + 1 == size && items_[child].key < last.key) {  // an only child
      items_[i] = items_[child];
      i = child;
    }
    items_[i] = last;
    return top;
  }

 private:
  std::vector<Item> items_;
};

}  // namespace

Tensor peak_local_max(const Tensor& x, const PeakLocalMax& op, const Tensor& labels) {
  GLIA_CHECK(x.rank() == 2 && x.dtype() == DType::float32, "peak_local_max: x {} of {}, want (H, W) of float32", x.shape(),
             name_of(x.dtype()));
  GLIA_CHECK(!labels || (same_shape(x, labels) && labels.dtype() == DType::int32), "peak_local_max: labels {} of {} for x {}",
             labels.shape(), name_of(labels.dtype()), x.shape());
  const int64_t h = x.dim(0), w = x.dim(1), r = op.min_distance, border = op.exclude_border ? r : 0;
  float threshold = op.threshold;
  if (!op.use_threshold) threshold = x.size() ? *std::min_element(x.data<float>(), x.data<float>() + x.size()) : 0;
  std::vector<Peak> found;
  if (h > 2 * border && w > 2 * border) {
    if (!labels) {
      const Area whole{0, h, 0, w};
      found = find_peaks(x, whole, r, threshold, {}, 0);
      std::erase_if(found, [&](const Peak& p) { return p.y < border || p.y >= h - border || p.x < border || p.x >= w - border; });
      keep_spaced(found, whole, r);
    } else {
      Tensor inner = labels;
      if (border) {
        inner = Tensor::zeros(labels.shape(), DType::int32);
        for (int64_t y = border; y < h - border; ++y)
          copy_bytes(inner.data<int32_t>() + y * w + border, labels.data<int32_t>() + y * w + border, size_t(w - 2 * border) * 4);
      }
      const std::vector<LabelFacts> facts = label_facts(inner);
      for (size_t label = 1; label < facts.size(); ++label) {
        const LabelFacts& f = facts[label];
        if (f.pixels == 0) continue;
        const Area box{f.y0, f.y1, f.x0, f.x1};
        std::vector<Peak> peaks = find_peaks(x, box, r, threshold, labels, int32_t(label));
        keep_spaced(peaks, box, r);
        found.insert(found.end(), peaks.begin(), peaks.end());
      }
    }
  }
  Tensor result({int64_t(found.size()), 2}, DType::int32);
  for (size_t i = 0; i < found.size(); ++i) {
    result.data<int32_t>()[2 * i] = found[i].y;
    result.data<int32_t>()[2 * i + 1] = found[i].x;
  }
  return result;
}

Tensor watershed(const Tensor& x, const Tensor& markers, const Tensor& mask, const FirstComeWatershed& options) {
  GLIA_CHECK(
      x.device() == Device{} && x.dtype() == DType::float32,
      "watershed: x of {} on {}, want float32 on the CPU (ties and lines as scikit-image's need one pixel after another; the op "
      "Watershed runs on devices)",
      name_of(x.dtype()), to_string(x.device()));
  Watershed{options.connectivity}.infer(x, markers, mask);  // the checks
  GLIA_CHECK((x.dim(0) + 2) * (x.dim(1) + 2) < int64_t(1) << 29, "watershed: x {}, want fewer than 2^29 pixels",
             x.shape());  // ages: 8 per pixel
  flood::Frame frame(x, markers, mask, options.connectivity);
  std::vector<flood::Pixel>& pixels = frame.pixels;
  using flood::closed;  // as a level: masked, or on a line
  PixelQueue queue;
  for (size_t p = 0; p < pixels.size(); ++p)
    if (pixels[p].label) queue.push({PixelQueue::key(pixels[p].level, 0), int32_t(p), int32_t(p)});
  const auto meets_other_basin = [&](int64_t p, int32_t own) {
    return std::any_of(frame.neighbours.begin(), frame.neighbours.end(), [&](int64_t n) {
      const flood::Pixel& q = pixels[size_t(p + n)];
      return q.level != closed && q.label && q.label != own;
    });
  };
  uint32_t age = 0;
  while (!queue.empty()) {
    const PixelQueue::Item item = queue.pop();
    if (!queue.empty()) frame.prefetch_neighbours(size_t(queue.top().pixel));
    flood::Pixel& here = pixels[size_t(item.pixel)];
    if (options.line) {  // pixels are labelled when they leave the queue; those of a line pass the flood on without a label
      if (here.label && item.pixel != item.source) continue;
      const int32_t own = pixels[size_t(item.source)].label;
      if (here.level != closed && !meets_other_basin(item.pixel, own)) {
        here.label = own;
      } else {
        here.level = closed;
      }
    }
    for (const int64_t n : frame.neighbours) {
      flood::Pixel& q = pixels[size_t(item.pixel + n)];
      if (q.level == closed || q.label) continue;
      if (!options.line) q.label = here.label;
      queue.push({PixelQueue::key(std::max(q.level, item.level()), ++age), int32_t(item.pixel + n), item.source});
    }
  }
  Tensor result(x.shape(), DType::int32);
  frame.copy_labels(result);
  return result;
}

}  // namespace glia
