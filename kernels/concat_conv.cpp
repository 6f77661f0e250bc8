#include "kernels/concat_conv.h"

#include "kernels/shape.h"

namespace glia {
namespace {

Tensor joined(const Tensor& a, const Tensor& b) {
  const std::array parts{a, b};
  const Concat op{.axis = 3};
  const TensorSpec spec = op.infer(parts);
  Tensor x(spec.shape, spec.dtype, a.device());
  Concat::forward.pick(x.device(), x.dtype())(op, parts, x);
  return x;
}

}  // namespace

TensorSpec ConcatConv2d::infer(const Tensor& a, const Tensor& b, const Tensor& w, const Tensor& bias) const {
  GLIA_CHECK(a.rank() == 4 && b.rank() == 4, "concat_conv2d: a is {}, b is {}, want (N, H, W, C)", a.shape(), b.shape());
  Shape shape = a.shape();
  shape.set(3, b.dim(3));
  GLIA_CHECK(shape == b.shape() && a.dtype() == b.dtype(),
             "concat_conv2d: a is {} {}, b is {} {}: they may differ in channels alone", name_of(a.dtype()), a.shape(),
             name_of(b.dtype()), b.shape());
  GLIA_CHECK(conv.groups == 1, "concat_conv2d: {} groups", conv.groups);
  // The shape rule needs no data: an empty batch stands for the joined image.
  const Tensor stand_in({0, a.dim(1), a.dim(2), a.dim(3) + b.dim(3)}, a.dtype(), a.device());
  TensorSpec spec = conv.infer(stand_in, w, bias, Tensor(), Tensor());
  spec.shape.set(0, a.dim(0));
  return spec;
}

void concat_conv2d(const ConcatConv2d& op, const Tensor& a, const Tensor& b, const Tensor& w, const Tensor& bias, Tensor& y) {
  Conv2d::forward.pick(y.device(), y.dtype())(op.conv, joined(a, b), w, bias, Tensor(), Tensor(), y);
}

void concat_conv2d_backward(const ConcatConv2d& op, const Tensor& a, const Tensor& b, const Tensor& w, const Tensor& bias,
                            const Tensor& y, const Tensor& dy, Tensor* da, Tensor* db, Tensor* dw, Tensor* dbias) {
  const Tensor x = joined(a, b);
  Tensor dx;
  if (da || db) dx = Tensor(x.shape(), x.dtype(), x.device());
  Conv2d::backward.pick(dy.device(), dy.dtype())(op.conv, x, w, bias, Tensor(), Tensor(), y, dy, dx ? &dx : nullptr, dw, dbias,
                                                 nullptr, nullptr);
  if (!dx) return;
  const std::array specs{TensorSpec{a.shape(), a.dtype()}, TensorSpec{b.shape(), b.dtype()}};
  const std::array<Tensor*, 2> parts{da, db};
  const Concat op_of_parts{.axis = 3};
  Concat::backward.pick(dx.device(), dx.dtype())(op_of_parts, specs, dx, parts);
}

}  // namespace glia
