#pragma once
// Matching of candidate boxes (anchors, proposals) with ground truth by IoU: detectron2's Matcher.
//
// A candidate's match is the ground truth of largest IoU, of equals the first. Its label is labels[i], where i is the number of thresholds
// that are <= this IoU. With allow_low_quality, the label is 1 for each candidate whose IoU with some ground truth equals that
// ground truth's largest over all candidates (also ties, and also 0: a ground truth that no candidate overlaps makes all
// positive); the match stays. Without ground truth, matches are 0 and labels labels[0].
//
// IoUs are compared in their own type: with float32, thresholds are rounded to it. NaN loses to every number.
#include <vector>

#include "kernels/op.h"

namespace glia {

// iou (M, N), ground truth by candidate -> matches (N) int64, labels (N) int64.
struct Matcher {
  std::vector<double> thresholds{0.3, 0.7};  // ascending, at most 8
  std::vector<int64_t> labels{0, -1, 1};     // one more than thresholds
  bool allow_low_quality = false;
  std::array<TensorSpec, 2> infer(const Tensor& iou) const;
  using Forward = void(const Matcher&, const Tensor& iou, Tensor& matches, Tensor& labels);
  static const Variants<Forward> forward;
};

// The same, to the bit, of PairwiseIou of gt (M, 4) and boxes (N, 4), without storing that -> matches (N) int64, labels (N) int64,
// iou (N): each candidate's largest, 0 without ground truth.
struct MatchBoxes {
  std::vector<double> thresholds{0.3, 0.7};
  std::vector<int64_t> labels{0, -1, 1};
  bool allow_low_quality = false;
  std::array<TensorSpec, 3> infer(const Tensor& gt, const Tensor& boxes) const;
  using Forward = void(const MatchBoxes&, const Tensor& gt, const Tensor& boxes, Tensor& matches, Tensor& labels, Tensor& iou);
  static const Variants<Forward> forward;
};

namespace reference {
Matcher::Forward matcher;
MatchBoxes::Forward match_boxes;
}  // namespace reference
namespace cpu {
MatchBoxes::Forward match_boxes;
}  // namespace cpu
namespace emulated {
Matcher::Forward matcher;
MatchBoxes::Forward match_boxes;
}  // namespace emulated
namespace cuda {
Matcher::Forward matcher;
MatchBoxes::Forward match_boxes;
}  // namespace cuda

inline constexpr Variants<Matcher::Forward> Matcher::forward{
    .name = "matcher", .reference = reference::matcher, .emulated = emulated::matcher, .cuda = GLIA_CUDA(cuda::matcher)};
inline constexpr Variants<MatchBoxes::Forward> MatchBoxes::forward{.name = "match_boxes",
                                                                   .reference = reference::match_boxes,
                                                                   .cpu = cpu::match_boxes,
                                                                   .emulated = emulated::match_boxes,
                                                                   .cuda = GLIA_CUDA(cuda::match_boxes)};

}  // namespace glia
