#include "kernels/softmax.h"

namespace glia {

AxisView axis_view(const Shape& shape, int axis, const char* op) {
  const int a = normalize_axis(axis, shape.rank(), op);
  return {shape.product(0, a), shape[a], shape.product(a + 1, shape.rank())};
}

TensorSpec Softmax::infer(const Tensor& x) const {
  axis_view(x.shape(), axis, "softmax");
  return {x.shape(), x.dtype()};
}

TensorSpec LogSoftmax::infer(const Tensor& x) const {
  axis_view(x.shape(), axis, "log_softmax");
  return {x.shape(), x.dtype()};
}

}  // namespace glia
