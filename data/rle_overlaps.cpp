#include "data/rle_overlaps.h"

#include <algorithm>
#include <numeric>

#include "data/rle_runs.h"

namespace glia {
namespace {

void check_sizes(const MaskList& a, const MaskList& b) {
  const Rle* first = a.empty() ? b.empty() ? nullptr : b[0] : a[0];
  for (const MaskList* list : {&a, &b})
    for (const Rle* m : *list)
      if (m->height != first->height || m->width != first->width)
        throw DataError("overlaps of masks: {} x {} and {} x {} pixels (height x width), want the same size", first->height,
                        first->width, m->height, m->width);
}

struct Run {
  int64_t begin, end;  // pixels, column-major
  uint32_t mask;
};

// The runs of all masks, cut at the ends of columns (so that none is long), by their beginnings.
std::vector<Run> sorted_runs(const MaskList& masks) {
  std::vector<Run> runs;
  size_t count = 0;
  for (const Rle* m : masks) count += m->counts.size() / 2;
  runs.reserve(count);
  for (size_t i = 0; i < masks.size(); ++i) {
    const int64_t height = masks[i]->height;
    int64_t column_end = 0;
    for_each_run(*masks[i], [&](int64_t begin, int64_t end) {
      if (begin >= column_end) column_end = (begin / height + 1) * height;
      while (begin < end) {
        runs.push_back({begin, std::min(end, column_end), uint32_t(i)});
        begin = column_end;
        if (begin < end) column_end += height;
      }
    });
  }
  std::sort(runs.begin(), runs.end(), [](const Run& x, const Run& y) { return x.begin < y.begin; });
  return runs;
}

// The first index from `from` on where ends[index] > value; ends ascend. Doubling steps: the next one is mostly near.
template <class T>
size_t first_beyond(const std::vector<T>& ends, size_t from, T value) {
  size_t step = 1, low = from;
  while (low + step < ends.size() && !(ends[low + step] > value)) {
    low += step;
    step *= 2;
  }
  const auto end = ends.begin() + std::ptrdiff_t(std::min(ends.size(), low + step + 1));
  return size_t(std::upper_bound(ends.begin() + std::ptrdiff_t(low), end, value) - ends.begin());
}

}  // namespace

void for_each_overlap(const MaskList& a, const MaskList& b, FunctionRef<void(size_t i, size_t j, int64_t pixels)> f) {
  check_sizes(a, b);
  const std::vector<Run> runs = sorted_runs(b);
  std::vector<int64_t> reach(runs.size());  // the farthest end so far: ascends where ends do not
  for (size_t k = 0; k < runs.size(); ++k) reach[k] = k ? std::max(reach[k - 1], runs[k].end) : runs[k].end;
  std::vector<int64_t> common(b.size(), 0);
  std::vector<uint32_t> touched;
  for (size_t i = 0; i < a.size(); ++i) {
    size_t from = 0;
    for_each_run(*a[i], [&](int64_t begin, int64_t end) {
      from = first_beyond(reach, from, begin);
      for (size_t k = from; k < runs.size() && runs[k].begin < end; ++k) {
        const int64_t n = std::min(end, runs[k].end) - std::max(begin, runs[k].begin);
        if (n <= 0) continue;
        if (common[runs[k].mask] == 0) touched.push_back(runs[k].mask);
        common[runs[k].mask] += n;
      }
    });
    std::sort(touched.begin(), touched.end());
    for (const uint32_t j : touched) {
      f(i, j, common[j]);
      common[j] = 0;
    }
    touched.clear();
  }
}

void for_each_overlap(std::span<const Box> a, std::span<const Box> b, FunctionRef<void(size_t i, size_t j)> f) {
  std::vector<size_t> order(b.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t x, size_t y) { return b[x][0] < b[y][0]; });
  std::vector<double> reach;  // the farthest right edge so far
  for (const size_t j : order) reach.push_back(std::max(reach.empty() ? b[j][0] : reach.back(), b[j][0] + b[j][2]));
  std::vector<size_t> found;
  for (size_t i = 0; i < a.size(); ++i) {
    const Box& x = a[i];
    auto k = size_t(std::upper_bound(reach.begin(), reach.end(), x[0]) - reach.begin());
    for (; k < order.size() && b[order[k]][0] < x[0] + x[2]; ++k) {
      const Box& y = b[order[k]];
      if (y[0] + y[2] > x[0] && y[1] + y[3] > x[1] && x[1] + x[3] > y[1]) found.push_back(order[k]);
    }
    std::sort(found.begin(), found.end());
    for (const size_t j : found) f(i, j);
    found.clear();
  }
}

MaskList pointers_to(std::span<const Rle> masks) {
  MaskList list;
  list.reserve(masks.size());
  for (const Rle& m : masks) list.push_back(&m);
  return list;
}

}  // namespace glia
