// Per SIMD target: transcendental functions of float vectors, right for every argument (infinities and NaN too).
#if defined(GLIA_KERNELS_CPU_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GLIA_KERNELS_CPU_MATH_INL_H_
#undef GLIA_KERNELS_CPU_MATH_INL_H_
#else
#define GLIA_KERNELS_CPU_MATH_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <limits>

#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

HWY_INLINE Vector keep_nan(Vector x, Vector y) { return hn::IfThenElse(hn::IsNaN(x), x, y); }

// Highway's Exp is defined below 104 and gives inf from 88.73 on.
HWY_INLINE Vector vector_exp(Vector x) { return keep_nan(x, hn::Exp(VectorTag(), hn::Min(x, splat(100)))); }
// For arguments that are at most 0 and no NaN.
HWY_INLINE Vector exp_negative(Vector x) { return hn::Exp(VectorTag(), x); }
HWY_INLINE Vector expm1_negative(Vector x) { return hn::Expm1(VectorTag(), x); }

HWY_INLINE Vector vector_log(Vector x) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const Vector zero = splat(0), infinite = hn::Set(VectorTag(), inf);
  Vector y = hn::Log(VectorTag(), x);
  y = hn::IfThenElse(hn::Eq(x, zero), hn::Neg(infinite), y);
  y = hn::IfThenElse(hn::Eq(x, infinite), infinite, y);
  return hn::IfThenElse(hn::Ge(x, zero), y, splat(std::numeric_limits<float>::quiet_NaN()));
}

HWY_INLINE Vector vector_tanh(Vector x) { return keep_nan(x, hn::Tanh(VectorTag(), hn::Max(hn::Min(x, splat(20)), splat(-20)))); }

HWY_INLINE Vector vector_sigmoid(Vector x) {  // never exponentiates a positive number
  const Vector one = splat(1), e = exp_negative(hn::Neg(hn::Abs(x)));
  return keep_nan(x, hn::Div(hn::IfThenElse(hn::Ge(x, splat(0)), one, e), hn::Add(one, e)));
}

// exp(a^2) erfc(a) / t for a >= 0, t = 1 / (1 + a/2): interpolated at Chebyshev points of t in [1/6, 1], relative error 5e-8.
HWY_INLINE Vector scaled_erfc_over_t(Vector t) {
  constexpr float c[] = {5.107913613e-01f,  6.871608496e-01f, 5.589383841e-01f, 1.457473636e-01f, -1.718525738e-01f,
                         -1.031140462e-01f, 9.532099962e-02f, 4.890863225e-02f, -5.971492082e-02f};
  const Vector u = hn::Sub(t, splat(0.5));
  Vector p = splat(c[8]);
  for (int i = 7; i >= 0; --i) p = hn::MulAdd(p, u, splat(c[i]));
  return p;
}

// Phi(x), the standard normal's distribution function, and exp(-x^2 / 2), which its density needs.
struct Normal {
  Vector probability, bell;
};
HWY_INLINE Normal normal_distribution(Vector x) {
  const Vector one = splat(1), a = hn::Abs(x);
  const Vector bell = exp_negative(hn::Mul(hn::Mul(x, splat(-0.5)), x));
  const Vector t = hn::Div(one, hn::MulAdd(a, splat(0.5 * 0.7071067811865476), one));
  const Vector tail = hn::Mul(hn::Mul(hn::Mul(splat(0.5), t), bell), scaled_erfc_over_t(t));  // Phi(-|x|)
  return {hn::IfThenElse(hn::Gt(x, splat(0)), hn::Sub(one, tail), tail), bell};
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
