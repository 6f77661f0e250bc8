#include "kernels/upsample_conv.h"

#include "kernels/resize.h"

namespace glia {
namespace {

Resize doubled(const Tensor& x) { return {.mode = ResizeMode::nearest, .size = {2 * x.dim(1), 2 * x.dim(2)}}; }

Tensor upsample(const Tensor& x) {
  const Resize op = doubled(x);
  Tensor up(op.infer(x).shape, x.dtype(), x.device());
  Resize::forward.pick(x.device(), x.dtype())(op, x, up);
  return up;
}

}  // namespace

TensorSpec UpsampleConv2d::infer(const Tensor& x, const Tensor& w, const Tensor& bias) const {
  GLIA_CHECK(x.rank() == 4, "upsample_conv2d: x is {}, want (N, H, W, C)", x.shape());
  // The shape rule needs no data: an empty batch of the doubled image stands for it.
  const Tensor stand_in({0, 2 * x.dim(1), 2 * x.dim(2), x.dim(3)}, x.dtype(), x.device());
  TensorSpec spec = conv.infer(stand_in, w, bias, Tensor(), Tensor());
  spec.shape.set(0, x.dim(0));
  return spec;
}

void upsample_conv2d(const UpsampleConv2d& op, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y) {
  Conv2d::forward.pick(x.device(), x.dtype())(op.conv, upsample(x), w, bias, Tensor(), Tensor(), y);
}

void upsample_conv2d_backward(const UpsampleConv2d& op, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y,
                              const Tensor& dy, Tensor* dx, Tensor* dw, Tensor* dbias) {
  Tensor up, dup;
  if (dw) up = upsample(x);
  const Resize resize = doubled(x);
  if (!dw) up = Tensor(resize.infer(x).shape, x.dtype(), x.device());
  if (dx) dup = Tensor(up.shape(), x.dtype(), x.device());
  Conv2d::backward.pick(dy.device(), dy.dtype())(op.conv, up, w, bias, Tensor(), Tensor(), y, dy, dx ? &dup : nullptr, dw, dbias,
                                                 nullptr, nullptr);
  up = {};
  if (dx) Resize::backward.pick(dy.device(), dy.dtype())(resize, x, Tensor(), dup, dx);
}

}  // namespace glia
