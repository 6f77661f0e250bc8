// Losses. Fixtures have the classes on axis 1, Glia on the last one.
#include <numeric>

#include "kernels/loss.h"
#include "kernels/loss_region.h"
#include "tests/parity.h"

namespace glia::tests {
namespace {

Reduction reduction_of(const ParityCase& c) { return parse_reduction(c.text("reduction", "")); }
Per per_of(const ParityCase& c) { return parse_per(c.text("per", "")); }

// The permutation that puts axis 1 last, and its inverse.
Axes classes_last(int rank) {
  Axes axes(size_t(rank), 0);
  for (int i = 1; i < rank - 1; ++i) axes[size_t(i)] = i + 1;
  axes[size_t(rank - 1)] = 1;
  return axes;
}
Axes classes_second(int rank) {
  Axes axes(size_t(rank), 0);
  axes[1] = rank - 1;
  for (int i = 2; i < rank; ++i) axes[size_t(i)] = i - 1;
  return axes;
}

template <class Op>
void element_loss(const ParityCase& c, const Op& op) {
  const Tensor x = c.grad_input("x");
  const Tensor loss = apply(op, x, c.input("y"));
  c.check("loss", loss);
  c.backward(loss, "loss");
  c.check_grad("x", x);
}

template <class Op>
void region_loss(const ParityCase& c, const Op& op) {
  const Tensor x = c.grad_input("x");
  const Tensor loss = apply(op, x, c.input("y"))[0];
  c.check("loss", loss);
  c.backward(loss, "loss");
  c.check_grad("x", x);
}

}  // namespace

PARITY_OP(bce) { element_loss(c, Bce{.reduction = reduction_of(c), .clip = c.number("clip", 0)}); }

PARITY_OP(bce_with_logits) {
  const int rank = c.input("x").rank();
  const Axes in = classes_last(rank), out = classes_second(rank);
  const Tensor x = c.grad_input("x", in), pos_weight = c.input("pos_weight");
  const BceWithLogits op{.reduction = reduction_of(c)};
  const Tensor loss =
      apply(op, x, c.input("y", in), c.input("weight", in), pos_weight ? pos_weight.reshape({pos_weight.size()}) : Tensor());
  c.check("loss", loss, loss.rank() ? out : Axes{});
  c.backward(loss, "loss", loss.rank() ? in : Axes{});
  c.check_grad("x", x, out);
}

PARITY_OP(focal_loss) {
  element_loss(c, FocalLoss{.reduction = reduction_of(c), .alpha = c.number("alpha", 0), .gamma = c.number("gamma", 0)});
}
PARITY_OP(mse_loss) { element_loss(c, MseLoss{.reduction = reduction_of(c)}); }
PARITY_OP(l1_loss) { element_loss(c, L1Loss{.reduction = reduction_of(c)}); }
PARITY_OP(smooth_l1_loss) { element_loss(c, SmoothL1Loss{.reduction = reduction_of(c), .beta = c.number("beta", -1)}); }
PARITY_OP(huber_loss) { element_loss(c, HuberLoss{.reduction = reduction_of(c), .delta = c.number("delta", -1)}); }

PARITY_OP(cross_entropy) {
  const int rank = c.input("x").rank();
  const Tensor x = c.grad_input("x", classes_last(rank));
  const CrossEntropy op{.reduction = reduction_of(c),
                        .ignore_index = c.integer("ignore_index", -100),
                        .label_smoothing = c.number("label_smoothing", 0)};
  const Tensor loss = apply(op, x, c.input("y").cast(DType::int64), c.input("class_weight"), Tensor())[0];
  c.check("loss", loss);
  c.backward(loss, "loss");
  c.check_grad("x", x, classes_second(rank));
}

PARITY_OP(dice_loss) {
  region_loss(c, DiceLoss{.per = per_of(c), .smooth = c.number("smooth", -1), .squared = c.flag("squared", false)});
}
PARITY_OP(bce_dice_loss) {
  region_loss(c, BceDiceLoss{.per = per_of(c),
                             .smooth = c.number("smooth", -1),
                             .bce_weight = c.number("bce_weight", 0),
                             .dice_weight = c.number("dice_weight", 0)});
}
PARITY_OP(tversky_loss) {
  region_loss(
      c, TverskyLoss{
             .per = per_of(c), .alpha = c.number("alpha", 0), .beta = c.number("beta", 0), .smooth = c.number("smooth", -1)});
}
PARITY_OP(lovasz_hinge_loss) { region_loss(c, LovaszHinge{.per = per_of(c)}); }

}  // namespace glia::tests
