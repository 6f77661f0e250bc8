#pragma once
// Element-wise functions of two tensors with NumPy's broadcasting: shapes are aligned at their last axes, and an axis of size 1
// (or a missing one) repeats. The gradient of a repeated input is the sum over its repetitions.
// maximum and minimum of equal values give each side half of the gradient (PyTorch's rule).
#include "kernels/op.h"

//  function  op struct  saves                 y          dy/da                                dy/db
#define GLIA_BINARY_OPS(X)                                                                                        \
  X(add,      Add,       nothing,              a + b,     T(1),                                T(1))              \
  X(sub,      Sub,       nothing,              a - b,     T(1),                                T(-1))             \
  X(mul,      Mul,       input(0) | input(1),  a * b,     b,                                   a)                 \
  X(div,      Div,       input(0) | input(1),  a / b,     T(1) / b,                            -a / (b * b))      \
  X(maximum,  Maximum,   input(0) | input(1),  a > b || a != a ? a : b,                                           \
    a > b ? T(1) : a == b ? T(0.5) : T(0),     a < b ? T(1) : a == b ? T(0.5) : T(0))                             \
  X(minimum,  Minimum,   input(0) | input(1),  a < b || a != a ? a : b,                                           \
    a < b ? T(1) : a == b ? T(0.5) : T(0),     a > b ? T(1) : a == b ? T(0.5) : T(0))

namespace glia {

// The shape that a and b broadcast to. Throws naming `op` where they do not.
Shape broadcast_shape(const Shape& a, const Shape& b, const char* op);

// Elements of a tensor of shape `part` that one step along each axis of `whole` skips: 0 where it repeats.
std::array<int64_t, Shape::max_rank> broadcast_strides(const Shape& part, const Shape& whole);

namespace detail {
TensorSpec infer_binary(const char* op, const Tensor& a, const Tensor& b);
}

// a and b as backward sees them are absent for add and sub; the shapes then come from dy, da and db.
#define GLIA_DECLARE_BINARY(function, Op, Saves, Y, DYDA, DYDB)                                                       \
  struct Op {                                                                                                         \
    TensorSpec infer(const Tensor& a, const Tensor& b) const { return detail::infer_binary(#function, a, b); }        \
    using Forward = void(const Op&, const Tensor& a, const Tensor& b, Tensor& y);                                     \
    using Backward = void(const Op&, const Tensor& a, const Tensor& b, const Tensor& y, const Tensor& dy, Tensor* da, \
                          Tensor* db);                                                                                \
    static constexpr SaveSet saves = [] {                                                                             \
      using namespace save;                                                                                           \
      return Saves;                                                                                                   \
    }();                                                                                                              \
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
      .name = #function "_backward", .reference = reference::function##_backward, .cpu = cpu::function##_backward,    \
      .emulated = emulated::function##_backward, .cuda = GLIA_CUDA(cuda::function##_backward)};
GLIA_BINARY_OPS(GLIA_DECLARE_BINARY)
#undef GLIA_DECLARE_BINARY

}  // namespace glia
