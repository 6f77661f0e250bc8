#include "kernels/loss.h"

namespace glia {

Reduction parse_reduction(std::string_view text) {
  if (text == "none") return Reduction::none;
  if (text == "mean") return Reduction::mean;
  if (text == "sum") return Reduction::sum;
  throw UsageError("loss reduction '{}': want none, mean or sum", text);
}

namespace detail {

TensorSpec infer_loss(const Tensor& x, const Tensor& t, Reduction reduction, const char* op) {
  GLIA_CHECK(is_floating(x.dtype()) && x.dtype() == t.dtype(), "{}: x is {}, the target {}, want both float32 or both float64",
             op, name_of(x.dtype()), name_of(t.dtype()));
  GLIA_CHECK(same_shape(x, t), "{}: x is {}, the target {}, want the same shape", op, x.shape(), t.shape());
  return {reduction == Reduction::none ? x.shape() : Shape{}, x.dtype()};
}

}  // namespace detail

TensorSpec BceWithLogits::infer(const Tensor& x, const Tensor& t, const Tensor& weight, const Tensor& pos_weight) const {
  const TensorSpec spec = detail::infer_loss(x, t, reduction, "bce_with_logits");
  const int64_t channels = x.rank() ? x.dim(-1) : 1;
  if (weight) {
    Shape pixels = x.shape();
    if (x.rank()) pixels.set(-1, 1);
    GLIA_CHECK(weight.dtype() == x.dtype() && (same_shape(weight, x) || weight.shape() == pixels),
               "bce_with_logits: weight is {} {}, want {} {} or {}", name_of(weight.dtype()), weight.shape(), name_of(x.dtype()),
               x.shape(), pixels);
  }
  if (pos_weight) {
    GLIA_CHECK(pos_weight.dtype() == x.dtype() && (pos_weight.size() == 1 || pos_weight.shape() == Shape{channels}),
               "bce_with_logits: pos_weight is {} {}, want {} ({}) for x {}, or one value", name_of(pos_weight.dtype()),
               pos_weight.shape(), name_of(x.dtype()), channels, x.shape());
  }
  return spec;
}

TensorSpec SmoothL1Loss::infer(const Tensor& x, const Tensor& t) const {
  GLIA_CHECK(beta >= 0, "smooth_l1_loss: beta {}, want 0 or more", beta);
  return detail::infer_loss(x, t, reduction, "smooth_l1_loss");
}

TensorSpec HuberLoss::infer(const Tensor& x, const Tensor& t) const {
  GLIA_CHECK(delta > 0, "huber_loss: delta {}, want more than 0", delta);
  return detail::infer_loss(x, t, reduction, "huber_loss");
}

std::array<TensorSpec, 3> CrossEntropy::infer(const Tensor& x, const Tensor& target, const Tensor& class_weight,
                                              const Tensor& pixel_weight) const {
  GLIA_CHECK(x.rank() >= 1 && x.dim(-1) >= 1, "cross_entropy: x is {}, want (..., classes)", x.shape());
  const int64_t classes = x.dim(-1);
  const Shape pixels(x.shape().dims().first(static_cast<size_t>(x.rank() - 1)));
  GLIA_CHECK(target.dtype() == DType::int64 && target.shape() == pixels,
             "cross_entropy: the target is {} {}, want int64 {} for x {}", name_of(target.dtype()), target.shape(), pixels,
             x.shape());
  GLIA_CHECK(!class_weight || (class_weight.dtype() == x.dtype() && class_weight.shape() == Shape{classes}),
             "cross_entropy: class_weight is {} {}, want {} ({})", name_of(class_weight.dtype()), class_weight.shape(),
             name_of(x.dtype()), classes);
  GLIA_CHECK(!pixel_weight || (pixel_weight.dtype() == x.dtype() && pixel_weight.shape() == pixels),
             "cross_entropy: pixel_weight is {} {}, want {} {}", name_of(pixel_weight.dtype()), pixel_weight.shape(),
             name_of(x.dtype()), pixels);
  GLIA_CHECK(label_smoothing >= 0 && label_smoothing <= 1, "cross_entropy: label_smoothing {}, want 0 to 1", label_smoothing);
  return {TensorSpec{reduction == Reduction::none ? pixels : Shape{}, x.dtype()}, TensorSpec{pixels, x.dtype()},
          TensorSpec{{}, DType::float64}};
}

}  // namespace glia
