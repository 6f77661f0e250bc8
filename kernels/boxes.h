#pragma once
// Boxes of detectors. A box is x1, y1, x2, y2 in continuous coordinates: an image of W pixels spans [0, W], without "+1" anywhere.
// Formulas are detectron2's.
//
//   PairwiseIou  a (M, 4), b (N, 4) -> (M, N): intersection over union, 0 where boxes do not overlap or it is not a number
//   BoxEncode    src, dst (N, 4) -> deltas (N, 4): wx (X - x) / w, wy (Y - y) / h, ww ln(W / w), wh ln(H / h) of the centres and sizes
//                of src (small letters) and dst. Boxes need a width and a height, or the deltas are not finite
//   BoxDecode    deltas (N, 4k), boxes (N, 4) -> (N, 4k): the inverse, ln(W / w) and ln(H / h) limited to scale_clamp from above.
//                The gradient goes to the deltas
//   BoxClip      boxes (N, 4k) -> the same: x to [0, width], y to [0, height]. NaN stays
//   BoxIouLoss   pred, target (N, 4) -> (N). The gradient goes to pred
//
// float32 and float64. PairwiseIou rounds after each operation (kernels/box_math.h), so that its bits are the same everywhere.
#include <array>

#include "kernels/box_math.h"
#include "kernels/op.h"

namespace glia {

struct PairwiseIou {
  TensorSpec infer(const Tensor& a, const Tensor& b) const;
  using Forward = void(const PairwiseIou&, const Tensor& a, const Tensor& b, Tensor& iou);
  static const Variants<Forward> forward;
};

struct BoxEncode {
  std::array<double, 4> weights{1, 1, 1, 1};
  TensorSpec infer(const Tensor& src, const Tensor& dst) const;
  using Forward = void(const BoxEncode&, const Tensor& src, const Tensor& dst, Tensor& deltas);
  static const Variants<Forward> forward;
};

struct BoxDecode {
  std::array<double, 4> weights{1, 1, 1, 1};
  double scale_clamp = 4.135166556742356;  // ln(1000 / 16)
  TensorSpec infer(const Tensor& deltas, const Tensor& boxes) const;
  using Forward = void(const BoxDecode&, const Tensor& deltas, const Tensor& boxes, Tensor& y);
  using Backward = void(const BoxDecode&, const Tensor& deltas, const Tensor& boxes, const Tensor& y, const Tensor& dy,
                        Tensor* ddeltas, Tensor* dboxes);
  static constexpr SaveSet saves = save::input(0) | save::input(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

struct BoxClip {
  int64_t height = 0, width = 0;
  TensorSpec infer(const Tensor& boxes) const;
  using Forward = void(const BoxClip&, const Tensor& boxes, Tensor& y);
  static const Variants<Forward> forward;
};

// With I, U and C the areas of the intersection, the union and the smallest box around both, c its diagonal, d the distance of the
// centres and e = 1e-7 (fvcore's losses):
//   giou  1 - I / (U + e) + (C - U) / (C + e)              Rezatofighi et al. 2019
//   diou  1 - I / (U + e) + d^2 / (c^2 + e)                Zheng et al. 2020
//   ciou  diou + a v, v = 4 / pi^2 (atan(W / H) - atan(w / h))^2 of target and pred, a = v / (1 - IoU + v + e) without gradient
struct BoxIouLoss {
  using Kind = box::IouKind;
  Kind kind = Kind::giou;
  TensorSpec infer(const Tensor& pred, const Tensor& target) const;
  using Forward = void(const BoxIouLoss&, const Tensor& pred, const Tensor& target, Tensor& loss);
  using Backward = void(const BoxIouLoss&, const Tensor& pred, const Tensor& target, const Tensor& loss, const Tensor& dloss,
                        Tensor* dpred, Tensor* dtarget);
  static constexpr SaveSet saves = save::input(0) | save::input(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

namespace detail {
// x is (N, 4k), of float32 or float64. Throws naming the op and what x is.
void check_boxes(const Tensor& x, const char* op, const char* what);
}  // namespace detail

namespace reference {
PairwiseIou::Forward pairwise_iou;
BoxEncode::Forward box_encode;
BoxDecode::Forward box_decode;
BoxDecode::Backward box_decode_backward;
BoxClip::Forward box_clip;
BoxIouLoss::Forward box_iou_loss;
BoxIouLoss::Backward box_iou_loss_backward;
}  // namespace reference
namespace cpu {
PairwiseIou::Forward pairwise_iou;
}  // namespace cpu
namespace emulated {
PairwiseIou::Forward pairwise_iou;
BoxEncode::Forward box_encode;
BoxDecode::Forward box_decode;
BoxDecode::Backward box_decode_backward;
BoxClip::Forward box_clip;
BoxIouLoss::Forward box_iou_loss;
BoxIouLoss::Backward box_iou_loss_backward;
}  // namespace emulated
namespace cuda {
PairwiseIou::Forward pairwise_iou;
BoxEncode::Forward box_encode;
BoxDecode::Forward box_decode;
BoxDecode::Backward box_decode_backward;
BoxClip::Forward box_clip;
BoxIouLoss::Forward box_iou_loss;
BoxIouLoss::Backward box_iou_loss_backward;
}  // namespace cuda

inline constexpr Variants<PairwiseIou::Forward> PairwiseIou::forward{.name = "pairwise_iou",
                                                                     .reference = reference::pairwise_iou,
                                                                     .cpu = cpu::pairwise_iou,
                                                                     .emulated = emulated::pairwise_iou,
                                                                     .cuda = GLIA_CUDA(cuda::pairwise_iou)};
inline constexpr Variants<BoxEncode::Forward> BoxEncode::forward{.name = "box_encode",
                                                                 .reference = reference::box_encode,
                                                                 .emulated = emulated::box_encode,
                                                                 .cuda = GLIA_CUDA(cuda::box_encode)};
inline constexpr Variants<BoxDecode::Forward> BoxDecode::forward{.name = "box_decode",
                                                                 .reference = reference::box_decode,
                                                                 .emulated = emulated::box_decode,
                                                                 .cuda = GLIA_CUDA(cuda::box_decode)};
inline constexpr Variants<BoxDecode::Backward> BoxDecode::backward{.name = "box_decode_backward",
                                                                   .reference = reference::box_decode_backward,
                                                                   .emulated = emulated::box_decode_backward,
                                                                   .cuda = GLIA_CUDA(cuda::box_decode_backward)};
inline constexpr Variants<BoxClip::Forward> BoxClip::forward{
    .name = "box_clip", .reference = reference::box_clip, .emulated = emulated::box_clip, .cuda = GLIA_CUDA(cuda::box_clip)};
inline constexpr Variants<BoxIouLoss::Forward> BoxIouLoss::forward{.name = "box_iou_loss",
                                                                   .reference = reference::box_iou_loss,
                                                                   .emulated = emulated::box_iou_loss,
                                                                   .cuda = GLIA_CUDA(cuda::box_iou_loss)};
inline constexpr Variants<BoxIouLoss::Backward> BoxIouLoss::backward{.name = "box_iou_loss_backward",
                                                                     .reference = reference::box_iou_loss_backward,
                                                                     .emulated = emulated::box_iou_loss_backward,
                                                                     .cuda = GLIA_CUDA(cuda::box_iou_loss_backward)};

}  // namespace glia
