// The checks of boxes.h.
#include "kernels/boxes.h"

namespace glia {

namespace detail {

void check_boxes(const Tensor& x, const char* op, const char* what) {
  GLIA_CHECK(x && x.rank() == 2 && x.dim(1) % 4 == 0 && is_floating(x.dtype()),
             "{}: {} is {} of {}, want (N, 4) or (N, 4k) of floating point: x1, y1, x2, y2", op, what, x.shape(),
             name_of(x.dtype()));
}

}  // namespace detail

namespace {

// Throws unless both have four columns and one type.
void check_pair(const Tensor& a, const Tensor& b, const char* op, const char* what_a, const char* what_b) {
  detail::check_boxes(a, op, what_a);
  detail::check_boxes(b, op, what_b);
  GLIA_CHECK(a.dim(1) == 4 && b.dim(1) == 4 && a.dtype() == b.dtype(), "{}: {} {} of {} and {} {} of {}, want (N, 4) of one type",
             op, what_a, a.shape(), name_of(a.dtype()), what_b, b.shape(), name_of(b.dtype()));
}
void check_rows(const Tensor& a, const Tensor& b, const char* op, const char* what_a, const char* what_b) {
  GLIA_CHECK(a.dim(0) == b.dim(0), "{}: {} {} for {} {}, want as many rows", op, what_a, a.shape(), what_b, b.shape());
}

}  // namespace

TensorSpec PairwiseIou::infer(const Tensor& a, const Tensor& b) const {
  check_pair(a, b, "pairwise_iou", "a", "b");
  return {{a.dim(0), b.dim(0)}, a.dtype()};
}

TensorSpec BoxEncode::infer(const Tensor& src, const Tensor& dst) const {
  check_pair(src, dst, "box_encode", "src", "dst");
  check_rows(src, dst, "box_encode", "src", "dst");
  return {src.shape(), src.dtype()};
}

TensorSpec BoxDecode::infer(const Tensor& deltas, const Tensor& boxes) const {
  detail::check_boxes(deltas, "box_decode", "deltas");
  check_pair(boxes, boxes, "box_decode", "boxes", "boxes");
  check_rows(deltas, boxes, "box_decode", "deltas", "boxes");
  GLIA_CHECK(deltas.dtype() == boxes.dtype(), "box_decode: deltas of {} for boxes of {}", name_of(deltas.dtype()),
             name_of(boxes.dtype()));
  return {deltas.shape(), deltas.dtype()};
}

TensorSpec BoxClip::infer(const Tensor& boxes) const {
  detail::check_boxes(boxes, "box_clip", "boxes");
  GLIA_CHECK(height >= 0 && width >= 0, "box_clip: an image of {} x {}", height, width);
  return {boxes.shape(), boxes.dtype()};
}

TensorSpec BoxIouLoss::infer(const Tensor& pred, const Tensor& target) const {
  check_pair(pred, target, "box_iou_loss", "pred", "target");
  check_rows(pred, target, "box_iou_loss", "pred", "target");
  return {{pred.dim(0)}, pred.dtype()};
}

}  // namespace glia
