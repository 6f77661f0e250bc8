#include "data/selection.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "data/rle.h"
#include "data/rle_runs.h"
#include "tensor/error.h"

namespace glia {
namespace {

// The number of `category` in a list of one per class, or of one for all.
template <class T>
T of_class(const std::vector<T>& list, int category, const char* key) {
  if (list.empty()) return T{};
  if (list.size() == 1) return list[0];
  if (category < 0 || static_cast<size_t>(category) >= list.size())
    throw UsageError("{}: {} values, but class {} (from 0) was predicted; want one per class, or one for all", key, list.size(),
                     category);
  return list[static_cast<size_t>(category)];
}

// The pixels of the mask that are 0 in `taken` (column-major, one byte per pixel).
Rle free_part(const Rle& mask, const std::vector<uint8_t>& taken) {
  Rle rest{mask.height, mask.width, {}};
  RunWriter writer(rest.counts);
  for_each_run(mask, [&](int64_t begin, int64_t end) {
    const uint8_t* data = taken.data();
    for (int64_t at = begin; at < end;) {
      const void* used = std::memchr(data + at, 1, static_cast<size_t>(end - at));
      const int64_t stop = used ? static_cast<const uint8_t*>(used) - data : end;
      if (stop > at) writer.add(at, stop);
      for (at = stop; at < end && data[at]; ++at) {
      }
    }
  });
  writer.finish(mask.height * mask.width);
  return rest;
}

}  // namespace

int most_frequent_class(std::span<const Instance> instances) {
  std::vector<int64_t> counts(1);
  for (const Instance& i : instances) {
    GLIA_CHECK(i.category >= 0, "selection: category {}", i.category);
    counts.resize(std::max(counts.size(), static_cast<size_t>(i.category) + 1));
    ++counts[static_cast<size_t>(i.category)];
  }
  return static_cast<int>(std::max_element(counts.begin(), counts.end()) - counts.begin());
}

std::vector<Instance> select_instances(std::span<const Instance> instances, const Selection& selection) {
  std::vector<Instance> kept;
  if (instances.empty()) return kept;
  std::vector<size_t> order(instances.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return instances[a].score > instances[b].score; });
  const int image_class = selection.class_of_image ? most_frequent_class(instances) : 0;
  const Rle& first = instances[0].mask;
  std::vector<uint8_t> taken(selection.remove_overlaps ? static_cast<size_t>(first.height * first.width) : 0);
  for (const size_t i : order) {
    const int category = selection.class_of_image ? image_class : instances[i].category;
    if (instances[i].score < of_class(selection.thresholds, category, "eval.class_thresholds")) continue;
    const int64_t least = of_class(selection.min_sizes, category, "eval.min_sizes");
    Instance instance = instances[i];
    if (selection.remove_overlaps) {
      GLIA_CHECK(instance.mask.height == first.height && instance.mask.width == first.width,
                 "selection: masks of {} x {} and {} x {}", first.height, first.width, instance.mask.height, instance.mask.width);
      Rle rest = free_part(instance.mask, taken);
      if (rest.counts != instance.mask.counts) {
        instance.mask = std::move(rest);
        instance.box = bounding_box(instance.mask);
        instance.area = -1;
      }
      if (area(instance.mask) == 0) continue;
    }
    if (least > 0 && area(instance.mask) < least) continue;
    if (selection.remove_overlaps)
      for_each_run(instance.mask,
                   [&](int64_t begin, int64_t end) { std::fill(taken.begin() + begin, taken.begin() + end, uint8_t{1}); });
    kept.push_back(std::move(instance));
  }
  return kept;
}

}  // namespace glia
