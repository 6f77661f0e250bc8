#pragma once
// Everyday names for apply(Op{...}, ...): relu(x), a + b, concat({a, b}, 3), upsample_nearest(x, 2).
#include <initializer_list>

#include "autograd/apply.h"
#include "kernels/binary.h"
#include "kernels/pool.h"
#include "kernels/reduce.h"
#include "kernels/resize.h"
#include "kernels/shape.h"
#include "kernels/softmax.h"
#include "kernels/unary.h"

namespace glia {

inline Tensor relu(const Tensor& x) { return apply(Relu{}, x); }
inline Tensor leaky_relu(const Tensor& x, double slope = 0.01) { return apply(LeakyRelu{.slope = slope}, x); }
inline Tensor elu(const Tensor& x, double alpha = 1) { return apply(Elu{.alpha = alpha}, x); }
inline Tensor sigmoid(const Tensor& x) { return apply(Sigmoid{}, x); }
inline Tensor tanh(const Tensor& x) { return apply(Tanh{}, x); }
inline Tensor square(const Tensor& x) { return apply(Square{}, x); }
inline Tensor softmax(const Tensor& x, int axis = -1) { return apply(Softmax{.axis = axis}, x); }

inline Tensor operator+(const Tensor& a, const Tensor& b) { return apply(Add{}, a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return apply(Sub{}, a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return apply(Mul{}, a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return apply(Div{}, a, b); }
inline Tensor operator*(const Tensor& a, double factor) { return apply(Mul{}, a, Tensor::full({}, factor, a.dtype(), a.device())); }
inline Tensor operator*(double factor, const Tensor& a) { return a * factor; }

inline Tensor concat(std::span<const Tensor> parts, int axis) { return apply_list(Concat{.axis = axis}, parts); }
inline Tensor concat(std::initializer_list<Tensor> parts, int axis) {
  return concat(std::span<const Tensor>(parts.begin(), parts.size()), axis);
}

// Images (N, H, W, C).
inline Tensor max_pool2d(const Tensor& x, int64_t size) {
  return apply(MaxPool2d{.kernel = {size, size}, .stride = {size, size}}, x);
}
inline Tensor upsample_nearest(const Tensor& x, int64_t factor) {
  return apply(Resize{.mode = ResizeMode::nearest, .size = {x.dim(1) * factor, x.dim(2) * factor}}, x);
}
inline Tensor upsample_bilinear(const Tensor& x, int64_t factor, bool align_corners) {
  return apply(
      Resize{.mode = ResizeMode::bilinear, .size = {x.dim(1) * factor, x.dim(2) * factor}, .align_corners = align_corners}, x);
}
// Zeros around, or a crop where negative.
inline Tensor pad2d(const Tensor& x, int64_t top, int64_t left, int64_t bottom, int64_t right) {
  if (top == 0 && left == 0 && bottom == 0 && right == 0) return x;
  return apply(Pad{.pads = {{0, 0}, {top, bottom}, {left, right}, {0, 0}}}, x);
}

}  // namespace glia
