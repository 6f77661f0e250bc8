#pragma once
// Losses that compare a predicted region with the true one, over the whole batch or per sample (the first axis) and then
// averaged. x is the prediction, t the mask in [0, 1] of the same shape and type; s is `smooth`.
//   DiceLoss      1 - (2I + s) / (U + s), I = sum p t, U = sum p + sum t, or with `squared` sum p^2 + sum t^2 (V-Net,
//                 Milletari 2016); x holds probabilities
//   BceDiceLoss   bce_weight mean(bce) + dice_weight DiceLoss(sigmoid(x)); x holds logits
//   TverskyLoss   1 - (TP + s) / (TP + alpha FP + beta FN + s) of sigmoid(x) (Salehi 2017); x holds logits
//   LovaszHinge   the Lovasz extension of the Jaccard loss of hinge errors 1 - x (2t - 1), t 0 or 1 (Berman 2018); x holds logits
// Each gives the loss and a by-product that backward reads, so that value and gradient are one pass over x each:
//   const Tensor loss = apply(BceDiceLoss{.per = Per::sample}, x, t)[0];
// No region at all (an empty batch) has the loss 0. Gradients go to x alone.
#include "kernels/op.h"

namespace glia {

enum class Per { batch, sample };

// "batch" or "sample"; throws UsageError for other text.
Per parse_per(std::string_view text);

namespace detail {
// Loss (scalar) and by-product: three sums (I, U or TP, FP, FN) per region in float64.
std::array<TensorSpec, 2> infer_region_loss(const Tensor& x, const Tensor& t, Per per, const char* op);
// Number of regions in x.
int64_t regions_of(const Tensor& x, Per per);
}  // namespace detail

struct DiceLoss {
  Per per = Per::batch;
  double smooth = 1;
  bool squared = false;
  std::array<TensorSpec, 2> infer(const Tensor& x, const Tensor& t) const {
    return detail::infer_region_loss(x, t, per, "dice_loss");
  }
  using Forward = void(const DiceLoss&, const Tensor& x, const Tensor& t, Tensor& y, Tensor& sums);
  using Backward = void(const DiceLoss&, const Tensor& x, const Tensor& t, const Tensor& y, const Tensor& sums, const Tensor& dy,
                        Tensor* dx, Tensor* dt);
  static constexpr SaveSet saves = save::input(0) | save::input(1) | save::output(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

struct BceDiceLoss {
  Per per = Per::batch;
  double smooth = 1;
  double bce_weight = 1;
  double dice_weight = 1;
  std::array<TensorSpec, 2> infer(const Tensor& x, const Tensor& t) const {
    return detail::infer_region_loss(x, t, per, "bce_dice_loss");
  }
  using Forward = void(const BceDiceLoss&, const Tensor& x, const Tensor& t, Tensor& y, Tensor& sums);
  using Backward = void(const BceDiceLoss&, const Tensor& x, const Tensor& t, const Tensor& y, const Tensor& sums,
                        const Tensor& dy, Tensor* dx, Tensor* dt);
  static constexpr SaveSet saves = save::input(0) | save::input(1) | save::output(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

struct TverskyLoss {
  Per per = Per::batch;
  double alpha = 0.5;  // of false positives
  double beta = 0.5;   // of false negatives
  double smooth = 1;
  std::array<TensorSpec, 2> infer(const Tensor& x, const Tensor& t) const {
    return detail::infer_region_loss(x, t, per, "tversky_loss");
  }
  using Forward = void(const TverskyLoss&, const Tensor& x, const Tensor& t, Tensor& y, Tensor& sums);
  using Backward = void(const TverskyLoss&, const Tensor& x, const Tensor& t, const Tensor& y, const Tensor& sums,
                        const Tensor& dy, Tensor* dx, Tensor* dt);
  static constexpr SaveSet saves = save::input(0) | save::input(1) | save::output(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// The by-product is the gradient itself (like x): the sort is the cost, and is done once.
struct LovaszHinge {
  Per per = Per::batch;
  std::array<TensorSpec, 2> infer(const Tensor& x, const Tensor& t) const;
  using Forward = void(const LovaszHinge&, const Tensor& x, const Tensor& t, Tensor& y, Tensor& slope);
  using Backward = void(const LovaszHinge&, const Tensor& x, const Tensor& t, const Tensor& y, const Tensor& slope,
                        const Tensor& dy, Tensor* dx, Tensor* dt);
  static constexpr SaveSet saves = save::output(1);
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
GLIA_DECLARE_LOSS(dice_loss, DiceLoss)
GLIA_DECLARE_LOSS(bce_dice_loss, BceDiceLoss)
GLIA_DECLARE_LOSS(tversky_loss, TverskyLoss)
GLIA_DECLARE_LOSS(lovasz_hinge_loss, LovaszHinge)
#undef GLIA_DECLARE_LOSS

}  // namespace glia
