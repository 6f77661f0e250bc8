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

namespace reference {
DiceLoss::Forward dice_loss;
DiceLoss::Backward dice_loss_backward;
BceDiceLoss::Forward bce_dice_loss;
BceDiceLoss::Backward bce_dice_loss_backward;
TverskyLoss::Forward tversky_loss;
TverskyLoss::Backward tversky_loss_backward;
LovaszHinge::Forward lovasz_hinge_loss;
LovaszHinge::Backward lovasz_hinge_loss_backward;
}  // namespace reference

namespace cpu {
DiceLoss::Forward dice_loss;
DiceLoss::Backward dice_loss_backward;
BceDiceLoss::Forward bce_dice_loss;
BceDiceLoss::Backward bce_dice_loss_backward;
TverskyLoss::Forward tversky_loss;
TverskyLoss::Backward tversky_loss_backward;
LovaszHinge::Forward lovasz_hinge_loss;
LovaszHinge::Backward lovasz_hinge_loss_backward;
}  // namespace cpu

inline constexpr Variants<DiceLoss::Forward> DiceLoss::forward{
    .name = "dice_loss", .reference = reference::dice_loss, .cpu = cpu::dice_loss};
inline constexpr Variants<DiceLoss::Backward> DiceLoss::backward{
    .name = "dice_loss_backward", .reference = reference::dice_loss_backward, .cpu = cpu::dice_loss_backward};
inline constexpr Variants<BceDiceLoss::Forward> BceDiceLoss::forward{
    .name = "bce_dice_loss", .reference = reference::bce_dice_loss, .cpu = cpu::bce_dice_loss};
inline constexpr Variants<BceDiceLoss::Backward> BceDiceLoss::backward{
    .name = "bce_dice_loss_backward", .reference = reference::bce_dice_loss_backward, .cpu = cpu::bce_dice_loss_backward};
inline constexpr Variants<TverskyLoss::Forward> TverskyLoss::forward{
    .name = "tversky_loss", .reference = reference::tversky_loss, .cpu = cpu::tversky_loss};
inline constexpr Variants<TverskyLoss::Backward> TverskyLoss::backward{
    .name = "tversky_loss_backward", .reference = reference::tversky_loss_backward, .cpu = cpu::tversky_loss_backward};
inline constexpr Variants<LovaszHinge::Forward> LovaszHinge::forward{
    .name = "lovasz_hinge_loss", .reference = reference::lovasz_hinge_loss, .cpu = cpu::lovasz_hinge_loss};
inline constexpr Variants<LovaszHinge::Backward> LovaszHinge::backward{.name = "lovasz_hinge_loss_backward",
                                                                       .reference = reference::lovasz_hinge_loss_backward,
                                                                       .cpu = cpu::lovasz_hinge_loss_backward};

}  // namespace glia
