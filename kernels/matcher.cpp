// The checks of matcher.h.
#include "kernels/matcher.h"

#include <algorithm>

#include "kernels/boxes.h"

namespace glia {
namespace {

void check_rule(const std::vector<double>& thresholds, const std::vector<int64_t>& labels, const char* op) {
  GLIA_CHECK(thresholds.size() <= 8 && std::is_sorted(thresholds.begin(), thresholds.end()),
             "{}: {} thresholds, want at most 8, ascending", op, thresholds.size());
  GLIA_CHECK(labels.size() == thresholds.size() + 1, "{}: {} labels for {} thresholds, want one more than thresholds", op,
             labels.size(), thresholds.size());
}

}  // namespace

std::array<TensorSpec, 2> Matcher::infer(const Tensor& iou) const {
  check_rule(thresholds, labels, "matcher");
  GLIA_CHECK(iou.rank() == 2 && is_floating(iou.dtype()), "matcher: iou is {} of {}, want (M, N) of float32", iou.shape(),
             name_of(iou.dtype()));
  const TensorSpec spec{{iou.dim(1)}, DType::int64};
  return {spec, spec};
}

std::array<TensorSpec, 3> MatchBoxes::infer(const Tensor& gt, const Tensor& boxes) const {
  check_rule(thresholds, labels, "match_boxes");
  const TensorSpec matrix = PairwiseIou{}.infer(gt, boxes);
  const Shape list{boxes.dim(0)};
  return {TensorSpec{list, DType::int64}, TensorSpec{list, DType::int64}, TensorSpec{list, matrix.dtype}};
}

}  // namespace glia
