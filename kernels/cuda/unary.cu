// y = f(x) and dx = dy f'(x): four elements a thread where addresses allow, one pass, bound by memory. The functions are those of
// GLIA_UNARY_OPS, the same text that the reference runs.
#include "kernels/cuda/elementwise.cuh"
#include "kernels/unary.h"

namespace glia::GPU_NS {

// An op as functions of an element: `Value` of x; the pulls of dy and what the op saved, x, y or neither.
template <class Op>
struct Unary;

#define GLIA_DEFINE_UNARY(function, Op, Saves, Y, DYDX, Parameters)                                                      \
  template <>                                                                                                            \
  struct Unary<Op> {                                                                                                     \
    using T = float;                                                                                                     \
    Op op;                                                                                                               \
    __device__ T value([[maybe_unused]] T x) const { return Y; }                                                         \
    __device__ T slope([[maybe_unused]] T x, [[maybe_unused]] T y) const { return DYDX; }                                \
  };
GLIA_UNARY_OPS(GLIA_DEFINE_UNARY)
#undef GLIA_DEFINE_UNARY

template <class Op>
struct Value {
  Unary<Op> f;
  __device__ float operator()(float x) const { return f.value(x); }
};
template <class Op>
struct PullFromInput {
  Unary<Op> f;
  __device__ float operator()(float dy, float x) const { return dy * f.slope(x, 0.0f); }
};
template <class Op>
struct PullFromOutput {
  Unary<Op> f;
  __device__ float operator()(float dy, float y) const { return dy * f.slope(0.0f, y); }
};
template <class Op>
struct Pull {
  Unary<Op> f;
  __device__ float operator()(float dy) const { return dy * f.slope(0.0f, 0.0f); }
};

template <class Op>
void unary_backward(const Op& op, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {
  if (!dx) return;
  if constexpr (Op::saves.has(save::input(0))) {
    map_elements(PullFromInput<Op>{{op}}, *dx, dy, x);
  } else if constexpr (Op::saves.has(save::output(0))) {
    map_elements(PullFromOutput<Op>{{op}}, *dx, dy, y);
  } else {
    map_elements(Pull<Op>{{op}}, *dx, dy);
  }
}

#define GLIA_DEFINE_BODIES(function, Op, ...)                                                                \
  void function(const Op& op, const Tensor& x, Tensor& y) { map_elements(Value<Op>{{op}}, y, x); }           \
  void function##_backward(const Op& op, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {   \
    unary_backward(op, x, y, dy, dx);                                                                        \
  }
GLIA_UNARY_OPS(GLIA_DEFINE_BODIES)
#undef GLIA_DEFINE_BODIES

}  // namespace glia::GPU_NS
