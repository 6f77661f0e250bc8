#pragma once
// Element-wise functions of one tensor, y = f(x), dx = dy f'(x). A plain one is one line of GLIA_UNARY_OPS; those with
// parameters follow below. Gradients at 0: relu 0, leaky_relu slope, elu alpha, abs 0 (PyTorch's conventions).
#include "kernels/op.h"

//  function  op struct  saves       y from x                        dy/dx from x (saves input) or y (saves output)
#define GLIA_UNARY_OPS(X)                                                                              \
  X(relu,     Relu,      output(0),  x > 0 ? x : (x != x ? x : T(0)), y > 0 ? T(1) : T(0))              \
  X(sigmoid,  Sigmoid,   output(0),  stable_sigmoid(x),              y * (T(1) - y))                    \
  X(tanh,     Tanh,      output(0),  std::tanh(x),                   T(1) - y * y)                      \
  X(abs,      Abs,       input(0),   std::abs(x),                    x > 0 ? T(1) : x < 0 ? T(-1) : T(0)) \
  X(square,   Square,    input(0),   x * x,                          T(2) * x)                          \
  X(neg,      Neg,       nothing,    -x,                             T(-1))                             \
  X(exp,      Exp,       output(0),  std::exp(x),                    y)                                 \
  X(log,      Log,       input(0),   std::log(x),                    T(1) / x)                          \
  X(sqrt,     Sqrt,      output(0),  std::sqrt(x),                   T(0.5) / y)

namespace glia {

#define GLIA_DECLARE_UNARY(function, Op, Saves, Y, DYDX)                                                               \
  struct Op {                                                                                                         \
    TensorSpec infer(const Tensor& x) const { return {x.shape(), x.dtype()}; }                                        \
    using Forward = void(const Op&, const Tensor& x, Tensor& y);                                                      \
    using Backward = void(const Op&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);                 \
    static constexpr SaveSet saves = save::Saves;                                                                     \
    static const Variants<Forward> forward;                                                                           \
    static const Variants<Backward> backward;                                                                         \
  };                                                                                                                  \
  namespace reference { Op::Forward function; Op::Backward function##_backward; }                                     \
  namespace cpu { Op::Forward function; Op::Backward function##_backward; }                                           \
  inline constexpr Variants<Op::Forward> Op::forward{                                                                 \
      .name = #function, .reference = reference::function, .cpu = cpu::function};                                     \
  inline constexpr Variants<Op::Backward> Op::backward{                                                               \
      .name = #function "_backward", .reference = reference::function##_backward, .cpu = cpu::function##_backward};
GLIA_UNARY_OPS(GLIA_DECLARE_UNARY)
#undef GLIA_DECLARE_UNARY

}  // namespace glia
