#pragma once
// Losses that are a sum over elements or pixels: x is the prediction, t the target of the same shape and type.
//   reduction none: one value per element; sum; mean: divided by the number of elements. The mean over no elements is 0 with no
//   gradient, so that a batch without a single target doesn't stop a training.
// Sums are kept in double. Gradients go to x (and to t for the regression losses); forward and backward are one pass each.
//
//   Bce             -t log p - (1 - t) log(1 - p), p = x clipped to [clip, 1 - clip] (Keras); no gradient outside
//   BceWithLogits   w [(1 - t) x + (1 + (w+ - 1) t) (log1p(e^-|x|) + max(-x, 0))]
//   FocalLoss       alpha_t (1 - p_t)^gamma bce, p = sigmoid(x) (Lin et al. 2017, eq. 5; torchvision); alpha < 0: alpha_t = 1
//   MseLoss         d^2, d = x - t
//   L1Loss          |d|, gradient 0 at 0
//   SmoothL1Loss    d^2 / (2 beta) for |d| < beta, else |d| - beta / 2 (Girshick 2015); beta 0 is L1Loss
//   HuberLoss       d^2 / 2 for |d| <= delta, else delta (|d| - delta / 2)
//   CrossEntropy    -log softmax(x)_t over the last axis
// Losses over regions (dice and its kin) are in kernels/loss_region.h.
#include "kernels/op.h"

namespace glia {

enum class Reduction { none, mean, sum };

// "none", "mean" or "sum"; throws UsageError for other text.
Reduction parse_reduction(std::string_view text);

namespace detail {
TensorSpec infer_loss(const Tensor& x, const Tensor& t, Reduction reduction, const char* op);

// What the sum of `count` values is multiplied by.
inline double reduction_factor(Reduction reduction, int64_t count) {
  return reduction != Reduction::mean ? 1.0 : count > 0 ? 1.0 / static_cast<double>(count) : 0.0;
}
}  // namespace detail

struct Bce {
  Reduction reduction = Reduction::mean;
  double clip = 1e-7;
  TensorSpec infer(const Tensor& x, const Tensor& t) const { return detail::infer_loss(x, t, reduction, "bce"); }
  using Forward = void(const Bce&, const Tensor& x, const Tensor& t, Tensor& y);
  using Backward = void(const Bce&, const Tensor& x, const Tensor& t, const Tensor& y, const Tensor& dy, Tensor* dx, Tensor* dt);
  static constexpr SaveSet saves = save::input(0) | save::input(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// `weight` (like x, or one value per pixel: the last axis 1) and `pos_weight` (one value per channel, (C); or one value) are
// optional (absent: Tensor{}). The mean is over the number of elements, whatever the weights (PyTorch).
struct BceWithLogits {
  Reduction reduction = Reduction::mean;
  TensorSpec infer(const Tensor& x, const Tensor& t, const Tensor& weight, const Tensor& pos_weight) const;
  using Forward = void(const BceWithLogits&, const Tensor& x, const Tensor& t, const Tensor& weight, const Tensor& pos_weight,
                       Tensor& y);
  using Backward = void(const BceWithLogits&, const Tensor& x, const Tensor& t, const Tensor& weight, const Tensor& pos_weight,
                        const Tensor& y, const Tensor& dy, Tensor* dx, Tensor* dt, Tensor* dweight, Tensor* dpos_weight);
  static constexpr SaveSet saves = save::input(0) | save::input(1) | save::input(2) | save::input(3);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

struct FocalLoss {
  Reduction reduction = Reduction::mean;
  double alpha = 0.25;
  double gamma = 2;
  TensorSpec infer(const Tensor& x, const Tensor& t) const { return detail::infer_loss(x, t, reduction, "focal_loss"); }
  using Forward = void(const FocalLoss&, const Tensor& x, const Tensor& t, Tensor& y);
  using Backward = void(const FocalLoss&, const Tensor& x, const Tensor& t, const Tensor& y, const Tensor& dy, Tensor* dx,
                        Tensor* dt);
  static constexpr SaveSet saves = save::input(0) | save::input(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

struct MseLoss {
  Reduction reduction = Reduction::mean;
  TensorSpec infer(const Tensor& x, const Tensor& t) const { return detail::infer_loss(x, t, reduction, "mse_loss"); }
  using Forward = void(const MseLoss&, const Tensor& x, const Tensor& t, Tensor& y);
  using Backward = void(const MseLoss&, const Tensor& x, const Tensor& t, const Tensor& y, const Tensor& dy, Tensor* dx,
                        Tensor* dt);
  static constexpr SaveSet saves = save::input(0) | save::input(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

struct L1Loss {
  Reduction reduction = Reduction::mean;
  TensorSpec infer(const Tensor& x, const Tensor& t) const { return detail::infer_loss(x, t, reduction, "l1_loss"); }
  using Forward = void(const L1Loss&, const Tensor& x, const Tensor& t, Tensor& y);
  using Backward = void(const L1Loss&, const Tensor& x, const Tensor& t, const Tensor& y, const Tensor& dy, Tensor* dx,
                        Tensor* dt);
  static constexpr SaveSet saves = save::input(0) | save::input(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

struct SmoothL1Loss {
  Reduction reduction = Reduction::mean;
  double beta = 1;
  TensorSpec infer(const Tensor& x, const Tensor& t) const;
  using Forward = void(const SmoothL1Loss&, const Tensor& x, const Tensor& t, Tensor& y);
  using Backward = void(const SmoothL1Loss&, const Tensor& x, const Tensor& t, const Tensor& y, const Tensor& dy, Tensor* dx,
                        Tensor* dt);
  static constexpr SaveSet saves = save::input(0) | save::input(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

struct HuberLoss {
  Reduction reduction = Reduction::mean;
  double delta = 1;
  TensorSpec infer(const Tensor& x, const Tensor& t) const;
  using Forward = void(const HuberLoss&, const Tensor& x, const Tensor& t, Tensor& y);
  using Backward = void(const HuberLoss&, const Tensor& x, const Tensor& t, const Tensor& y, const Tensor& dy, Tensor* dx,
                        Tensor* dt);
  static constexpr SaveSet saves = save::input(0) | save::input(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// x (..., C) logits, target (...) int64. Optional (absent: Tensor{}): class_weight (C), pixel_weight (...).
//   value of a pixel = pixel_weight [(1 - s) class_weight_t (-log p_t) + s / C sum_c class_weight_c (-log p_c)], s =
//   label_smoothing, 0 where target = ignore_index. The mean divides by the sum of class_weight_t over the pixels that count
//   (PyTorch); with a pixel_weight by the number of pixels (Ronneberger 2015). A target out of range is an error that names the
//   pixel; on a device, where a kernel cannot raise one, the pixel's value and gradient are NaN.
// By-products: log sum exp(x) per pixel, and the divisor of the mean (float64 scalar).
struct CrossEntropy {
  Reduction reduction = Reduction::mean;
  int64_t ignore_index = -100;
  double label_smoothing = 0;
  std::array<TensorSpec, 3> infer(const Tensor& x, const Tensor& target, const Tensor& class_weight,
                                  const Tensor& pixel_weight) const;
  using Forward = void(const CrossEntropy&, const Tensor& x, const Tensor& target, const Tensor& class_weight,
                       const Tensor& pixel_weight, Tensor& y, Tensor& logsumexp, Tensor& divisor);
  using Backward = void(const CrossEntropy&, const Tensor& x, const Tensor& target, const Tensor& class_weight,
                        const Tensor& pixel_weight, const Tensor& y, const Tensor& logsumexp, const Tensor& divisor,
                        const Tensor& dy, Tensor* dx, Tensor* dtarget, Tensor* dclass_weight, Tensor* dpixel_weight);
  static constexpr SaveSet saves =
      save::input(0) | save::input(1) | save::input(2) | save::input(3) | save::output(1) | save::output(2);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// Every one has all four bodies.
#define GLIA_DECLARE_LOSS(function, Op)                                                                            \
  namespace reference { Op::Forward function; Op::Backward function##_backward; }                                  \
  namespace cpu { Op::Forward function; Op::Backward function##_backward; }                                        \
  namespace emulated { Op::Forward function; Op::Backward function##_backward; }                                   \
  namespace cuda { Op::Forward function; Op::Backward function##_backward; }                                       \
  inline constexpr Variants<Op::Forward> Op::forward{                                                              \
      .name = #function, .reference = reference::function, .cpu = cpu::function,                                   \
      .emulated = emulated::function, .cuda = GLIA_CUDA(cuda::function)};                                          \
  inline constexpr Variants<Op::Backward> Op::backward{                                                            \
      .name = #function "_backward", .reference = reference::function##_backward, .cpu = cpu::function##_backward, \
      .emulated = emulated::function##_backward, .cuda = GLIA_CUDA(cuda::function##_backward)};
GLIA_DECLARE_LOSS(bce, Bce)
GLIA_DECLARE_LOSS(bce_with_logits, BceWithLogits)
GLIA_DECLARE_LOSS(focal_loss, FocalLoss)
GLIA_DECLARE_LOSS(mse_loss, MseLoss)
GLIA_DECLARE_LOSS(l1_loss, L1Loss)
GLIA_DECLARE_LOSS(smooth_l1_loss, SmoothL1Loss)
GLIA_DECLARE_LOSS(huber_loss, HuberLoss)
GLIA_DECLARE_LOSS(cross_entropy, CrossEntropy)
#undef GLIA_DECLARE_LOSS

}  // namespace glia
