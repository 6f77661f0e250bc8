// NMS, group by group. Boxes come in order of score and are compared with those kept before them, vectors at a time. The kept ones lie in
// the cells of a grid by their centres; a cell knows the smallest box around its own, so that most cells are passed over: exactly
// those that could not hold an overlapping box.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/nms.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "kernels/cpu/box-inl.h"
#include "kernels/nms.h"
#include "kernels/sort_keys.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

using BoxF = box::Corners<float>;

// Others overlap nothing, by box::iou.
bool has_area(const BoxF& b) {
  const float area = box::area(b);
  return area > 0 && area < std::numeric_limits<float>::infinity();
}

// Cells over the centres of boxes.
class Grid {
 public:
  explicit Grid(const std::vector<BoxF>& boxes)
      : side_(std::clamp<int64_t>(std::lround(std::sqrt(double(boxes.size()) / 32)), 1, 64)) {
    constexpr float far = std::numeric_limits<float>::infinity();
    float high[2] = {-far, -far};
    low_[0] = low_[1] = far;
    for (const BoxF& b : boxes) {
      for (int axis = 0; axis < 2; ++axis) {
        low_[axis] = box::smaller(centre(b, axis), low_[axis]);
        high[axis] = box::larger(centre(b, axis), high[axis]);
      }
    }
    for (int axis = 0; axis < 2; ++axis) scale_[axis] = float(side_) / (high[axis] - low_[axis]);
  }

  int64_t cells() const { return side_ * side_; }
  int64_t cell_of(const BoxF& b) const { return place(centre(b, 1), 1) * side_ + place(centre(b, 0), 0); }

 private:
  static float centre(const BoxF& b, int axis) { return axis == 0 ? 0.5f * b.x1 + 0.5f * b.x2 : 0.5f * b.y1 + 0.5f * b.y2; }
  int64_t place(float at, int axis) const {
    const float cell = (at - low_[axis]) * scale_[axis];  // NaN where all centres are one
    return cell > 0 ? int64_t(box::smaller(cell, float(side_ - 1))) : 0;
  }

  int64_t side_;
  float low_[2], scale_[2];
};

class KeptBoxes {
 public:
  // `boxes` are all that may be added.
  explicit KeptBoxes(const std::vector<BoxF>& boxes)
      : grid_(boxes),
        first_(size_t(grid_.cells() + 1)),
        used_(size_t(grid_.cells())),
        padded_cells_(whole_vectors(grid_.cells())),
        hull_memory_(size_t(5 * padded_cells_), std::numeric_limits<float>::quiet_NaN()),
        hulls_(hull_memory_.data(), padded_cells_),
        memory_(places(boxes)),
        boxes_(memory_.data(), std::ssize(memory_) / 5) {}

  // Whether the IoU with a kept box is above the threshold.
  bool suppress(const BoxF& b, float threshold) const {
    const VectorTag d;
    const BoxVector one(b);
    for (int64_t cell = 0; cell < padded_cells_; cell += vector_lanes()) {
      const auto across = hn::And(hn::Lt(load(hulls_.x1 + cell), one.x2), hn::Gt(load(hulls_.x2 + cell), one.x1));
      const auto down = hn::And(hn::Lt(load(hulls_.y1 + cell), one.y2), hn::Gt(load(hulls_.y2 + cell), one.y1));
      uint8_t bits[8] = {};  // StoreMaskBits may write so many
      hn::StoreMaskBits(d, hn::And(across, down), bits);
      for (unsigned meets = unsigned(bits[0]) | unsigned(bits[1]) << 8; meets; meets &= meets - 1)
        if (suppress_in_cell(one, cell + std::countr_zero(meets), threshold)) return true;
    }
    return false;
  }

  void add(const BoxF& b) {
    const int64_t cell = grid_.cell_of(b);
    boxes_.set(first_[size_t(cell)] + used_[size_t(cell)]++, b);
    // A hull without boxes is NaN, which loses.
    hulls_.set(cell, {box::smaller(hulls_.x1[cell], b.x1), box::smaller(hulls_.y1[cell], b.y1),
                      box::larger(hulls_.x2[cell], b.x2), box::larger(hulls_.y2[cell], b.y2)});
  }

 private:
  // Gives each cell whole vectors. Returns memory for all boxes: zeros, which overlap nothing.
  std::vector<float> places(const std::vector<BoxF>& boxes) {
    for (const BoxF& b : boxes) ++first_[size_t(grid_.cell_of(b) + 1)];
    for (size_t cell = 1; cell < first_.size(); ++cell) first_[cell] = first_[cell - 1] + whole_vectors(first_[cell]);
    return std::vector<float>(size_t(5 * first_.back()));
  }

  bool suppress_in_cell(const BoxVector& one, int64_t cell, float threshold) const {
    const VectorTag d;
    const int64_t begin = first_[size_t(cell)], end = begin + used_[size_t(cell)];
    for (int64_t i = begin; i < end; i += vector_lanes())
      if (!hn::AllFalse(d, hn::Gt(box_iou(one, boxes_, i), hn::Set(d, threshold)))) return true;
    return false;
  }

  Grid grid_;
  std::vector<int64_t> first_, used_;  // of each cell
  int64_t padded_cells_;
  std::vector<float> hull_memory_;
  BoxColumns hulls_;
  std::vector<float> memory_;
  BoxColumns boxes_;
};

// Of boxes in order of score: which are kept, at most `most`.
void keep_of_group(std::span<const BoxF> boxes, float threshold, int64_t most, uint8_t* kept) {
  std::vector<BoxF> able;
  std::copy_if(boxes.begin(), boxes.end(), std::back_inserter(able), has_area);
  KeptBoxes so_far(able);
  for (size_t i = 0; i < boxes.size() && most > 0; ++i) {
    const bool compare = has_area(boxes[i]);
    if (compare && so_far.suppress(boxes[i], threshold)) continue;
    if (compare) so_far.add(boxes[i]);
    kept[i] = 1;
    --most;
  }
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(keep_of_group);

namespace {

// Indices by descending score.
std::vector<uint32_t> best_first(const Tensor& scores) {
  const size_t n = size_t(scores.size());
  std::vector<uint64_t> keys(n), scratch(n);
  for (size_t i = 0; i < n; ++i) keys[i] = sort_key(scores.data<float>()[i], uint32_t(i), true);
  sort_keys(keys, scratch);
  std::vector<uint32_t> order(n);
  std::transform(keys.begin(), keys.end(), order.begin(), place_of);
  return order;
}

}  // namespace

void nms(const Nms& op, const Tensor& boxes, const Tensor& scores, const Tensor& groups, Tensor& keep, Tensor& count) {
  if (boxes.dtype() == DType::float64) return reference::nms(op, boxes, scores, groups, keep, count);
  const size_t n = size_t(scores.size());
  GLIA_CHECK(n <= UINT32_MAX, "nms: {} boxes, want fewer than 2^32", n);
  const std::vector<uint32_t> order = best_first(scores);
  std::vector<uint32_t> ranks(n);  // by group, in order of score within each
  for (size_t i = 0; i < n; ++i) ranks[i] = uint32_t(i);
  const int64_t* const group = groups ? groups.data<int64_t>() : nullptr;
  const auto group_of = [&](uint32_t rank) { return group[order[rank]]; };
  std::vector<size_t> first{0};  // of each group
  if (group) {
    std::stable_sort(ranks.begin(), ranks.end(), [&](uint32_t a, uint32_t b) { return group_of(a) < group_of(b); });
    for (size_t i = 1; i < n; ++i)
      if (group_of(ranks[i]) != group_of(ranks[i - 1])) first.push_back(i);
  }
  first.push_back(n);
  std::vector<box::Corners<float>> sorted(n);
  const float* const corners = boxes.data<float>();
  for (size_t i = 0; i < n; ++i) sorted[i] = box::load(corners + 4 * size_t(order[ranks[i]]));
  std::vector<uint8_t> kept(n);
  parallel_for(std::ssize(first) - 1, 1, [&](int64_t begin, int64_t end) {
    for (size_t g = size_t(begin); g < size_t(end); ++g) {
      const std::span of_group(sorted.data() + first[g], first[g + 1] - first[g]);
      HWY_DYNAMIC_DISPATCH(keep_of_group)(of_group, box::rounded_down(op.threshold), keep.size(), kept.data() + first[g]);
    }
  });

  std::vector<uint8_t> by_rank(n);
  for (size_t i = 0; i < n; ++i) by_rank[ranks[i]] = kept[i];
  int64_t found = 0;
  for (size_t rank = 0; rank < n && found < keep.size(); ++rank)
    if (by_rank[rank]) keep.data<int64_t>()[found++] = order[rank];
  std::fill(keep.data<int64_t>() + found, keep.data<int64_t>() + keep.size(), int64_t{-1});
  *count.data<int64_t>() = found;
}

}  // namespace glia::cpu
#endif
