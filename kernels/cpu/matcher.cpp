// Matching by blocks of candidates. Neighbours in the list of anchors are neighbours in the image, so most of the ground truth misses a
// block's bounding box, where IoUs are 0. The rest is compared with vectors of the block's candidates. A ground truth's largest
// IoU in a block is noted; low-quality matches are then sought only in the blocks where that is the largest of all.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matcher.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <limits>
#include <span>
#include <vector>

#include "kernels/cpu/box-inl.h"
#include "kernels/matcher.h"

#ifndef GLIA_KERNELS_CPU_MATCHER_ONCE
#define GLIA_KERNELS_CPU_MATCHER_ONCE
namespace glia::cpu {

constexpr int64_t match_block = 128;  // candidates

struct Candidates {
  std::span<const float> gt;
  const float* boxes;
  int64_t count;
};

// In a block: ground truth `gt` has at most IoU `iou`, above 0.
struct Peak {
  int64_t gt;
  float iou;
};

}  // namespace glia::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

// The smallest box around boxes; NaN and, so, boxes that overlap nothing are left out.
box::Corners<float> around(const float* boxes, int64_t count) {
  constexpr float far = std::numeric_limits<float>::infinity();
  box::Corners<float> hull{far, far, -far, -far};
  for (int64_t j = 0; j < count; ++j) {
    const auto b = box::load(boxes + 4 * j);
    hull = {box::smaller(b.x1, hull.x1), box::smaller(b.y1, hull.y1), box::larger(b.x2, hull.x2), box::larger(b.y2, hull.y2)};
  }
  return hull;
}

// Candidates [begin, end), one block: each one's largest IoU and its ground truth. Adds to `peaks`.
void best_of_block(const Candidates& in, int64_t begin, int64_t end, int64_t* matches, float* iou, std::vector<Peak>& peaks) {
  using Int = hn::RebindToSigned<VectorTag>;
  const VectorTag d;
  const Int di;
  HWY_ALIGN float memory[5 * match_block] = {}, best[match_block] = {};
  HWY_ALIGN int32_t match[match_block] = {};
  BoxColumns columns(memory, match_block);
  for (int64_t j = begin; j < end; ++j) columns.set(j - begin, box::load(in.boxes + 4 * j));
  const box::Corners<float> hull = around(in.boxes + 4 * begin, end - begin);
  const int64_t lanes = vector_lanes(), ground_truths = std::ssize(in.gt) / 4;
  for (int64_t i = 0; i < ground_truths; ++i) {
    const auto g = box::load(in.gt.data() + 4 * i);
    if (!(g.x1 < hull.x2 && g.x2 > hull.x1 && g.y1 < hull.y2 && g.y2 > hull.y1)) continue;
    const BoxVector one(g);
    Vector peak = splat(0);
    for (int64_t j = 0; j < end - begin; j += lanes) {
      const Vector v = box_iou(one, columns, j), so_far = hn::Load(d, best + j);
      const auto better = hn::Gt(v, so_far);
      peak = hn::Max(peak, v);
      if (hn::AllFalse(d, better)) continue;
      hn::Store(hn::IfThenElse(better, v, so_far), d, best + j);
      const auto number = hn::Set(di, static_cast<int32_t>(i));
      hn::Store(hn::IfThenElse(hn::RebindMask(di, better), number, hn::Load(di, match + j)), di, match + j);
    }
    const float largest = hn::GetLane(hn::MaxOfLanes(d, peak));
    if (largest > 0) peaks.push_back({i, largest});
  }
  std::copy_n(best, end - begin, iou + begin);
  std::copy_n(match, end - begin, matches + begin);
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(best_of_block);

namespace {

// Labels 1 where a candidate's IoU with some ground truth is that one's largest of all.
void add_low_quality(const Candidates& in, const std::vector<std::vector<Peak>>& peaks, int64_t* labels) {
  std::vector<float> largest(in.gt.size() / 4);
  for (const auto& block : peaks)
    for (const Peak& p : block) largest[size_t(p.gt)] = std::max(largest[size_t(p.gt)], p.iou);
  if (std::find(largest.begin(), largest.end(), 0.0f) != largest.end()) {  // which every candidate has
    std::fill_n(labels, in.count, int64_t{1});
    return;
  }
  for (size_t block = 0; block < peaks.size(); ++block) {
    for (const Peak& p : peaks[block]) {
      if (p.iou != largest[size_t(p.gt)]) continue;
      const auto g = box::load(in.gt.data() + 4 * p.gt);
      const int64_t begin = int64_t(block) * match_block, end = std::min(begin + match_block, in.count);
      for (int64_t j = begin; j < end; ++j) {
        const auto b = box::load(in.boxes + 4 * j);
        if (box::iou(g, box::area(g), b, box::area(b)) == p.iou) labels[j] = 1;
      }
    }
  }
}

}  // namespace

void match_boxes(const MatchBoxes& op, const Tensor& gt, const Tensor& boxes, Tensor& matches, Tensor& labels, Tensor& iou) {
  if (gt.dtype() == DType::float64) return reference::match_boxes(op, gt, boxes, matches, labels, iou);
  const Candidates in{gt.values<const float>(), boxes.data<float>(), boxes.dim(0)};
  GLIA_CHECK(in.gt.size() / 4 <= INT32_MAX, "match_boxes: {} boxes of ground truth", in.gt.size() / 4);
  std::vector<std::vector<Peak>> peaks(size_t(num_chunks(in.count, match_block)));
  int64_t* label = labels.data<int64_t>();
  const std::vector<float> thresholds(op.thresholds.begin(), op.thresholds.end());
  parallel_for(in.count, match_block, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(best_of_block)
    (in, begin, end, matches.data<int64_t>(), iou.data<float>(), peaks[size_t(begin / match_block)]);
    for (int64_t j = begin; j < end; ++j) {
      size_t passed = 0;
      while (!in.gt.empty() && passed < thresholds.size() && thresholds[passed] <= iou.data<float>()[j]) ++passed;
      label[j] = op.labels[passed];
    }
  });
  if (op.allow_low_quality && !in.gt.empty()) add_low_quality(in, peaks, label);
}

}  // namespace glia::cpu
#endif
