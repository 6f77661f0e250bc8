#pragma once
// Element-wise functions of one tensor, y = f(x), dx = dy f'(x): one line of GLIA_UNARY_OPS each, parameters included.
// Gradients at 0: relu 0, leaky_relu slope, elu alpha, abs 0; clamp 0 on its bounds (PyTorch's conventions).
#include <cmath>
#include <limits>

#include "kernels/op.h"

// The expressions see x, y, the op's parameters as op.NAME and the element type T; the helpers named in them are below.
//  function    op struct  saves      y from x, and dy/dx from x (saves input) or y (saves output), then the parameters
#define GLIA_UNARY_OPS(X)                                                                                                 \
  X(relu,       Relu,      output(0), x > 0 ? x : (x != x ? x : T(0)), y > 0 ? T(1) : T(0), )                             \
  X(leaky_relu, LeakyRelu, output(0), x > 0 ? x : T(op.slope) * x, y > 0 ? T(1) : T(op.slope), double slope = 0.01;)      \
  X(elu,        Elu,       output(0), x > 0 ? x : T(op.alpha) * std::expm1(x), y > 0 ? T(1) : y + T(op.alpha),            \
    double alpha = 1;)                                                                                                    \
  X(gelu,       Gelu,      input(0),  unary::gelu(x, op.tanh_approximation), unary::gelu_slope(x, op.tanh_approximation), \
    bool tanh_approximation = false;)                                                                                     \
  X(silu,       Silu,      input(0),  x * unary::sigmoid(x),                                                              \
    unary::sigmoid(x) * (T(1) + x * (T(1) - unary::sigmoid(x))), )                                                        \
  X(sigmoid,    Sigmoid,   output(0), unary::sigmoid(x), y * (T(1) - y), )                                                \
  X(tanh,       Tanh,      output(0), std::tanh(x), T(1) - y * y, )                                                       \
  X(abs,        Abs,       input(0),  std::abs(x), x > 0 ? T(1) : x < 0 ? T(-1) : T(0), )                                 \
  X(square,     Square,    input(0),  x * x, T(2) * x, )                                                                  \
  X(neg,        Neg,       nothing,   -x, T(-1), )                                                                        \
  X(exp,        Exp,       output(0), std::exp(x), y, )                                                                   \
  X(log,        Log,       input(0),  std::log(x), T(1) / x, )                                                            \
  X(sqrt,       Sqrt,      output(0), std::sqrt(x), T(0.5) / y, )                                                         \
  X(clamp,      Clamp,     input(0),  x < T(op.min) ? T(op.min) : x > T(op.max) ? T(op.max) : x,                          \
    x > T(op.min) && x < T(op.max) ? T(1) : T(0),                                                                       \
    double min = -std::numeric_limits<double>::infinity(); double max = std::numeric_limits<double>::infinity();)

namespace glia {

namespace unary {

template <class T>
GLIA_HOST_DEVICE T sigmoid(T x) {  // never exponentiates a positive number
  const T e = std::exp(-std::abs(x));
  return x >= 0 ? T(1) / (T(1) + e) : e / (T(1) + e);
}

// Hendrycks and Gimpel, "Gaussian error linear units" (2016): x Phi(x), or with tanh(sqrt(2/pi) (x + 0.044715 x^3)) for 2 Phi - 1.
template <class T>
GLIA_HOST_DEVICE T gelu_probability(T x, bool tanh_approximation) {
  if (tanh_approximation) return sigmoid(T(1.5957691216057308) * (x + T(0.044715) * x * x * x));  // (1 + tanh u) / 2 = sigmoid(2u)
  return T(0.5) * std::erfc(x * T(-0.7071067811865476));
}

template <class T>
GLIA_HOST_DEVICE T gelu(T x, bool tanh_approximation) {
  return x * gelu_probability(x, tanh_approximation);
}

template <class T>
GLIA_HOST_DEVICE T gelu_slope(T x, bool tanh_approximation) {
  const T p = gelu_probability(x, tanh_approximation);
  if (!tanh_approximation) return p + x * T(0.3989422804014327) * std::exp(T(-0.5) * x * x);
  return p + x * p * (T(1) - p) * T(1.5957691216057308) * (T(1) + T(3 * 0.044715) * x * x);
}

// Slopes below 0 would let the sign of y differ from that of x, from which backward tells the two sides.
template <class Op>
void check(const Op& op) {
  if constexpr (requires { op.slope; }) GLIA_CHECK(op.slope >= 0, "leaky_relu: slope {}, want at least 0", op.slope);
  if constexpr (requires { op.alpha; }) GLIA_CHECK(op.alpha >= 0, "elu: alpha {}, want at least 0", op.alpha);
  if constexpr (requires { op.min; }) GLIA_CHECK(op.min <= op.max, "clamp: min {} is above max {}", op.min, op.max);
}

}  // namespace unary

#define GLIA_DECLARE_UNARY(function, Op, Saves, Y, DYDX, Parameters)                                                  \
  struct Op {                                                                                                         \
    Parameters                                                                                                        \
    TensorSpec infer(const Tensor& x) const {                                                                         \
      unary::check(*this);                                                                                            \
      return {x.shape(), x.dtype()};                                                                                  \
    }                                                                                                                 \
    using Forward = void(const Op&, const Tensor& x, Tensor& y);                                                      \
    using Backward = void(const Op&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);                 \
    static constexpr SaveSet saves = save::Saves;                                                                     \
    static const Variants<Forward> forward;                                                                           \
    static const Variants<Backward> backward;                                                                         \
  };                                                                                                                  \
  namespace reference { Op::Forward function; Op::Backward function##_backward; }                                     \
  namespace cpu { Op::Forward function; Op::Backward function##_backward; }                                           \
  namespace emulated { Op::Forward function; Op::Backward function##_backward; }                                      \
  namespace cuda { Op::Forward function; Op::Backward function##_backward; }                                          \
  inline constexpr Variants<Op::Forward> Op::forward{                                                                 \
      .name = #function, .reference = reference::function, .cpu = cpu::function,                                      \
      .emulated = emulated::function, .cuda = GLIA_CUDA(cuda::function)};                                             \
  inline constexpr Variants<Op::Backward> Op::backward{                                                               \
      .name = #function "_backward", .reference = reference::function##_backward, .cpu = cpu::function##_backward, \
      .emulated = emulated::function##_backward, .cuda = GLIA_CUDA(cuda::function##_backward)};
GLIA_UNARY_OPS(GLIA_DECLARE_UNARY)
#undef GLIA_DECLARE_UNARY

}  // namespace glia
