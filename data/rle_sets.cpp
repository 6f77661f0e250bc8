// Overlaps and unions of run lengths, and label maps to and from sets of masks.
#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "data/rle.h"

#include "data/limits.h"

namespace glia {
namespace {

void check_same_size(const Rle& a, const Rle& b, const char* what) {
  if (a.height != b.height || a.width != b.width)
    throw DataError("{}: masks of {} x {} and {} x {} pixels (height x width), want the same size", what, a.height, a.width,
                    b.height, b.width);
}

// Sweeps two masks together: f(length, in_a, in_b) for each stretch where neither changes.
template <class F>
void sweep(std::span<const uint32_t> a, std::span<const uint32_t> b, F&& f) {
  size_t i = 0, j = 0;
  uint32_t left_a = a.empty() ? 0 : a[0], left_b = b.empty() ? 0 : b[0];
  while (i < a.size() && j < b.size()) {
    const uint32_t n = std::min(left_a, left_b);
    if (n) f(n, i % 2 == 1, j % 2 == 1);
    left_a -= n;
    left_b -= n;
    if (left_a == 0 && ++i < a.size()) left_a = a[i];
    if (left_b == 0 && ++j < b.size()) left_b = b[j];
  }
}

bool boxes_overlap(const Box& a, const Box& b) {
  return std::min(a[0] + a[2], b[0] + b[2]) > std::max(a[0], b[0]) && std::min(a[1] + a[3], b[1] + b[3]) > std::max(a[1], b[1]);
}

double ratio(int64_t intersection, int64_t area_a, int64_t area_b, bool crowd) {
  if (intersection == 0) return 0;
  return double(intersection) / double(crowd ? area_a : area_a + area_b - intersection);
}

}  // namespace

int64_t intersection_area(const Rle& a, const Rle& b) {
  check_same_size(a, b, "intersection_area");
  int64_t n = 0;
  sweep(a.counts, b.counts, [&](uint32_t length, bool in_a, bool in_b) { n += in_a && in_b ? length : 0; });
  return n;
}

double iou(const Rle& a, const Rle& b, bool crowd) { return ratio(intersection_area(a, b), area(a), area(b), crowd); }

double iou(const Box& a, const Box& b, bool crowd) {
  const double w = std::min(a[0] + a[2], b[0] + b[2]) - std::max(a[0], b[0]);
  const double h = std::min(a[1] + a[3], b[1] + b[3]) - std::max(a[1], b[1]);
  if (w <= 0 || h <= 0) return 0;
  const double i = w * h, area_a = a[2] * a[3], area_b = b[2] * b[3];
  return i / (crowd ? area_a : area_a + area_b - i);
}

Tensor pairwise_iou(std::span<const Rle> a, std::span<const Rle> b, std::span<const uint8_t> crowd) {
  GLIA_CHECK(crowd.empty() || crowd.size() == b.size(), "pairwise_iou: {} crowd flags for {} masks", crowd.size(), b.size());
  Tensor result = Tensor::zeros({int64_t(a.size()), int64_t(b.size())}, DType::float64);
  std::vector<Box> boxes;
  std::vector<int64_t> areas;
  for (const Rle& m : b) {
    boxes.push_back(bounding_box(m));
    areas.push_back(area(m));
  }
  for (size_t i = 0; i < a.size(); ++i) {
    const Box box = bounding_box(a[i]);
    const int64_t area_a = area(a[i]);
    double* row = result.data<double>() + i * b.size();
    for (size_t j = 0; j < b.size(); ++j)
      if (boxes_overlap(box, boxes[j]))
        row[j] = ratio(intersection_area(a[i], b[j]), area_a, areas[j], !crowd.empty() && crowd[j]);
  }
  return result;
}

Rle merge(std::span<const Rle> masks, MergeMode mode) {
  GLIA_CHECK(!masks.empty(), "merge: no masks");
  Rle result = masks[0];
  for (const Rle& m : masks.subspan(1)) {
    check_same_size(result, m, "merge");
    std::vector<uint32_t> counts{0};  // index parity is the value of the run being written
    sweep(result.counts, m.counts, [&](uint32_t length, bool in_a, bool in_b) {
      const bool value = mode == MergeMode::unite ? in_a || in_b : in_a && in_b;
      if (value != (counts.size() % 2 == 0)) counts.push_back(0);
      counts.back() += length;
    });
    result.counts = std::move(counts);
  }
  return result;
}

std::vector<Rle> masks_of_labels(const Tensor& labels, std::vector<int32_t>* values) {
  GLIA_CHECK(labels.rank() == 2, "masks_of_labels: labels {}, want (H, W)", labels.shape());
  const int64_t h = labels.dim(0), w = labels.dim(1);
  const int32_t* map = labels.data<int32_t>();
  struct Entry {
    int32_t label;
    int64_t end;  // of the last run
    Rle rle;
  };
  std::vector<Entry> found;
  std::unordered_map<int32_t, size_t> index;
  constexpr int64_t strip = 16;  // columns read together: one cache line of a row
  std::vector<int32_t> columns(size_t(strip * h));
  int32_t last_label = 0;
  size_t last_index = 0;
  for (int64_t x0 = 0; x0 < w; x0 += strip) {
    const int64_t n = std::min(strip, w - x0);
    for (int64_t y = 0; y < h; ++y)
      for (int64_t i = 0; i < n; ++i) columns[size_t(i * h + y)] = map[y * w + x0 + i];
    for (int64_t p = 0; p < n * h;) {
      const int32_t label = columns[size_t(p)];
      const int64_t begin = p;
      while (p < n * h && columns[size_t(p)] == label) ++p;
      if (label <= 0) {
        if (label < 0) throw DataError("label map: the value {}, want 0 (background) or more", label);
        continue;
      }
      if (label != last_label) {
        const auto [at, is_new] = index.try_emplace(label, found.size());
        if (is_new) {
          if (int64_t(found.size()) == file_limits().instances)
            throw DataError("label map: more than {} instances (is this an image, not a label map?){}", file_limits().instances,
                            raise_hint("instances"));
          found.push_back({label, 0, Rle{h, w, {}}});
        }
        last_label = label;
        last_index = at->second;
      }
      Entry& e = found[last_index];
      const int64_t first = x0 * h + begin, end = x0 * h + p;
      if (first == e.end && !e.rle.counts.empty()) {
        e.rle.counts.back() += uint32_t(end - first);
      } else {
        e.rle.counts.push_back(uint32_t(first - e.end));
        e.rle.counts.push_back(uint32_t(end - first));
      }
      e.end = end;
    }
  }
  std::sort(found.begin(), found.end(), [](const Entry& a, const Entry& b) { return a.label < b.label; });
  std::vector<Rle> masks;
  masks.reserve(found.size());
  if (values) values->clear();
  for (Entry& e : found) {
    if (e.end < h * w) e.rle.counts.push_back(uint32_t(h * w - e.end));
    masks.push_back(std::move(e.rle));
    if (values) values->push_back(e.label);
  }
  return masks;
}

Tensor labels_of_masks(std::span<const Rle> masks, int64_t height, int64_t width) {
  Tensor labels = Tensor::zeros({height, width}, DType::int32);
  for (size_t i = 0; i < masks.size(); ++i) paint_label(masks[i], int32_t(i + 1), labels);
  return labels;
}

Tensor labels_of_instances(std::span<const Instance> instances, int64_t height, int64_t width) {
  std::vector<size_t> order;
  std::vector<int64_t> areas(instances.size());
  for (size_t i = 0; i < instances.size(); ++i) {
    areas[i] = area(instances[i].mask);
    if (!instances[i].crowd) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return areas[a] > areas[b]; });
  Tensor labels = Tensor::zeros({height, width}, DType::int32);
  for (size_t i : order) paint_label(instances[i].mask, int32_t(i + 1), labels);
  return labels;
}

}  // namespace glia
