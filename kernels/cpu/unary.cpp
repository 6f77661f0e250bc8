// y = f(x) and dx = dy f'(x) by vectors: Math<Op> holds the two maps, `value` of x and `pull` of what the op saves and dy.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/unary.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/unary.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

template <class Op>
struct Math;

template <>
struct Math<Relu> {
  explicit Math(const Relu&) {}
  Vector value(Vector x) const { return hn::IfThenZeroElse(hn::Le(x, splat(0)), x); }
  Vector pull(Vector y, Vector g) const { return hn::IfThenElseZero(hn::Gt(y, splat(0)), g); }
};

template <>
struct Math<LeakyRelu> {
  Vector slope;
  explicit Math(const LeakyRelu& op) : slope(splat(op.slope)) {}
  Vector value(Vector x) const { return hn::IfThenElse(hn::Gt(x, splat(0)), x, hn::Mul(slope, x)); }
  Vector pull(Vector y, Vector g) const { return hn::IfThenElse(hn::Gt(y, splat(0)), g, hn::Mul(slope, g)); }
};

template <>
struct Math<Elu> {
  Vector alpha;
  explicit Math(const Elu& op) : alpha(splat(op.alpha)) {}
  Vector value(Vector x) const {
    const Vector negative = keep_nan(x, expm1_negative(hn::Min(x, splat(0))));
    return hn::IfThenElse(hn::Gt(x, splat(0)), x, hn::Mul(alpha, negative));
  }
  Vector pull(Vector y, Vector g) const { return hn::IfThenElse(hn::Gt(y, splat(0)), g, hn::Mul(hn::Add(y, alpha), g)); }
};

template <>
struct Math<Gelu> {
  static constexpr double twice_sqrt_2_over_pi = 1.5957691216057308;
  bool approximate;
  explicit Math(const Gelu& op) : approximate(op.tanh_approximation) {}
  static Vector approximate_probability(Vector x) {
    const Vector cubic = hn::MulAdd(hn::Mul(splat(0.044715), hn::Mul(x, x)), x, x);
    return vector_sigmoid(hn::Mul(splat(twice_sqrt_2_over_pi), cubic));
  }
  Vector value(Vector x) const {
    return keep_nan(x, hn::Mul(x, approximate ? approximate_probability(x) : normal_distribution(x).probability));
  }
  Vector pull(Vector x, Vector g) const {
    Vector slope;
    if (approximate) {
      const Vector p = approximate_probability(x), one = splat(1);
      const Vector inner = hn::MulAdd(splat(3 * 0.044715), hn::Mul(x, x), one);
      const Vector outer = hn::Mul(hn::Mul(x, p), hn::Mul(hn::Sub(one, p), splat(twice_sqrt_2_over_pi)));
      slope = hn::MulAdd(outer, inner, p);
    } else {
      const Normal n = normal_distribution(x);
      slope = hn::MulAdd(hn::Mul(x, splat(0.3989422804014327)), n.bell, n.probability);
    }
    return keep_nan(x, hn::Mul(g, slope));
  }
};

template <>
struct Math<Silu> {
  explicit Math(const Silu&) {}
  Vector value(Vector x) const { return hn::Mul(x, vector_sigmoid(x)); }
  Vector pull(Vector x, Vector g) const {
    const Vector one = splat(1), s = vector_sigmoid(x);
    return hn::Mul(g, hn::Mul(s, hn::MulAdd(x, hn::Sub(one, s), one)));
  }
};

template <>
struct Math<Sigmoid> {
  explicit Math(const Sigmoid&) {}
  Vector value(Vector x) const { return vector_sigmoid(x); }
  Vector pull(Vector y, Vector g) const { return hn::Mul(g, hn::Mul(y, hn::Sub(splat(1), y))); }
};

template <>
struct Math<Tanh> {
  explicit Math(const Tanh&) {}
  Vector value(Vector x) const { return vector_tanh(x); }
  Vector pull(Vector y, Vector g) const { return hn::Mul(g, hn::NegMulAdd(y, y, splat(1))); }
};

template <>
struct Math<Abs> {
  explicit Math(const Abs&) {}
  Vector value(Vector x) const { return hn::Abs(x); }
  Vector pull(Vector x, Vector g) const {
    const Vector zero = splat(0);
    return hn::IfThenElse(hn::Gt(x, zero), g, hn::IfThenElseZero(hn::Lt(x, zero), hn::Neg(g)));
  }
};

template <>
struct Math<Square> {
  explicit Math(const Square&) {}
  Vector value(Vector x) const { return hn::Mul(x, x); }
  Vector pull(Vector x, Vector g) const { return hn::Mul(g, hn::Add(x, x)); }
};

template <>
struct Math<Neg> {
  explicit Math(const Neg&) {}
  Vector value(Vector x) const { return hn::Neg(x); }
  Vector pull(Vector, Vector g) const { return hn::Neg(g); }
};

template <>
struct Math<Exp> {
  explicit Math(const Exp&) {}
  Vector value(Vector x) const { return vector_exp(x); }
  Vector pull(Vector y, Vector g) const { return hn::Mul(g, y); }
};

template <>
struct Math<Log> {
  explicit Math(const Log&) {}
  Vector value(Vector x) const { return vector_log(x); }
  Vector pull(Vector x, Vector g) const { return hn::Div(g, x); }
};

template <>
struct Math<Sqrt> {
  explicit Math(const Sqrt&) {}
  Vector value(Vector x) const { return hn::Sqrt(x); }
  Vector pull(Vector y, Vector g) const { return hn::Div(hn::Mul(splat(0.5), g), y); }
};

template <>
struct Math<Clamp> {
  Vector low, high;
  explicit Math(const Clamp& op) : low(splat(op.min)), high(splat(op.max)) {}
  Vector value(Vector x) const { return keep_nan(x, hn::Min(hn::Max(x, low), high)); }
  Vector pull(Vector x, Vector g) const { return hn::IfThenElseZero(hn::And(hn::Gt(x, low), hn::Lt(x, high)), g); }
};

#define GLIA_DEFINE_UNARY(function, Op, Saves, Y, DYDX, Parameters)                                                \
  void function(const Op& op, const Tensor& x, Tensor& y) {                                                        \
    const Math<Op> math(op);                                                                                       \
    map(x.size(), y.data<float>(), [&](Vector v) HWY_ATTR { return math.value(v); }, x.data<float>());             \
  }                                                                                                                \
  void function##_backward(const Op& op, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {         \
    if (!dx) return;                                                                                               \
    const Math<Op> math(op);                                                                                       \
    const Tensor& saved = x ? x : y ? y : dy;                                                                      \
    map(dy.size(), dx->data<float>(), [&](Vector s, Vector g) HWY_ATTR { return math.pull(s, g); },                \
        saved.data<float>(), dy.data<float>());                                                                    \
  }
GLIA_UNARY_OPS(GLIA_DEFINE_UNARY)
#undef GLIA_DEFINE_UNARY

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

#define GLIA_EXPORT_UNARY(function, Op, Saves, Y, DYDX, Parameters)                                            \
  HWY_EXPORT(function);                                                                                        \
  HWY_EXPORT(function##_backward);                                                                             \
  void function(const Op& op, const Tensor& x, Tensor& y) { HWY_DYNAMIC_DISPATCH(function)(op, x, y); }        \
  void function##_backward(const Op& op, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {     \
    HWY_DYNAMIC_DISPATCH(function##_backward)(op, x, y, dy, dx);                                               \
  }
GLIA_UNARY_OPS(GLIA_EXPORT_UNARY)
#undef GLIA_EXPORT_UNARY

}  // namespace glia::cpu
#endif
