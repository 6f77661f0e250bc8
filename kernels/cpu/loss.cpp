// Element-wise losses by vectors: Loss<Op> holds the value and its slope d value / d x. Forward is one pass that sums in double,
// backward one pass that writes dx.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/loss.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/sum-inl.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/loss.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

// sigmoid(x), sigmoid(-x) and log(1 + e^-|x|) from one exponential.
struct Logistic {
  Vector p, q, softplus;
};
HWY_INLINE Logistic probabilities(Vector x) {
  const Vector one = splat(1), e = exp_negative(hn::Neg(hn::Abs(x)));
  const Vector large = hn::Div(one, hn::Add(one, e)), small = hn::Mul(e, large);
  const auto positive = hn::Ge(x, splat(0));
  return {keep_nan(x, hn::IfThenElse(positive, large, small)), keep_nan(x, hn::IfThenElse(positive, small, large)), e};
}
HWY_INLINE Logistic logistic(Vector x) {
  Logistic l = probabilities(x);
  l.softplus = keep_nan(x, hn::Log1p(VectorTag(), l.softplus));
  return l;
}
HWY_INLINE Vector softplus_of_minus_abs(Vector x) {
  return keep_nan(x, hn::Log1p(VectorTag(), exp_negative(hn::Neg(hn::Abs(x)))));
}
HWY_INLINE Vector sign(Vector x) {
  const Vector zero = splat(0), one = splat(1);
  return hn::IfThenElse(hn::Gt(x, zero), one, hn::IfThenElseZero(hn::Lt(x, zero), hn::Neg(one)));
}

template <class Op>
struct Loss;

template <>
struct Loss<Bce> {
  static constexpr bool of_difference = false;
  Vector low, high;
  explicit Loss(const Bce& op) : low(splat(op.clip)), high(splat(1 - op.clip)) {}
  Vector value(Vector p, Vector t) const {
    const Vector one = splat(1), q = hn::Min(hn::Max(p, low), high);
    return hn::Neg(hn::MulAdd(t, vector_log(q), hn::Mul(hn::Sub(one, t), vector_log(hn::Sub(one, q)))));
  }
  Vector slope(Vector p, Vector t) const {
    const auto outside = hn::Or(hn::Lt(p, low), hn::Gt(p, high));
    return hn::IfThenZeroElse(outside, hn::Div(hn::Sub(p, t), hn::Mul(p, hn::Sub(splat(1), p))));
  }
};

template <>
struct Loss<BceWithLogits> {
  Vector value(Vector x, Vector t) const { return hn::Add(hn::NegMulAdd(x, t, hn::Max(x, splat(0))), softplus_of_minus_abs(x)); }
  Vector value(Vector x, Vector t, Vector positive) const {
    const Vector one = splat(1), k = hn::MulAdd(hn::Sub(positive, one), t, one);
    const Vector l = hn::Add(softplus_of_minus_abs(x), hn::Max(hn::Neg(x), splat(0)));
    return hn::MulAdd(k, l, hn::Mul(hn::Sub(one, t), x));
  }
  Vector slope(Vector x, Vector t) const {
    const Logistic l = probabilities(x);
    return hn::NegMulAdd(t, l.q, hn::Mul(hn::Sub(splat(1), t), l.p));
  }
  Vector slope(Vector x, Vector t, Vector positive) const {
    const Logistic l = probabilities(x);
    return hn::NegMulAdd(hn::Mul(positive, t), l.q, hn::Mul(hn::Sub(splat(1), t), l.p));
  }
};

template <>
struct Loss<FocalLoss> {
  static constexpr bool of_difference = false;
  double alpha, gamma;
  explicit Loss(const FocalLoss& op) : alpha(op.alpha), gamma(op.gamma) {}
  Vector balance(Vector t) const {
    if (alpha < 0) return splat(1);
    return hn::MulAdd(splat(2 * alpha - 1), t, splat(1 - alpha));
  }
  Vector power(Vector miss) const {
    if (gamma == 2) return hn::Mul(miss, miss);
    if (gamma == 1) return miss;
    if (gamma == 0) return splat(1);
    return keep_nan(miss, exp_negative(hn::Mul(splat(gamma), vector_log(miss))));
  }
  Vector value(Vector x, Vector t) const {
    const Logistic l = logistic(x);
    const Vector bce = hn::Add(hn::NegMulAdd(x, t, hn::Max(x, splat(0))), l.softplus);
    const Vector miss = hn::MulAdd(t, l.q, hn::Mul(hn::Sub(splat(1), t), l.p));
    return hn::Mul(hn::Mul(balance(t), power(miss)), bce);
  }
  Vector slope(Vector x, Vector t) const {
    const Logistic l = logistic(x);
    const Vector one = splat(1), u = hn::Sub(one, t);
    const Vector bce = hn::Add(hn::NegMulAdd(x, t, hn::Max(x, splat(0))), l.softplus);
    const Vector miss = hn::MulAdd(t, l.q, hn::Mul(u, l.p));
    const Vector direct = hn::NegMulAdd(t, l.q, hn::Mul(u, l.p));
    const Vector by_power = hn::Mul(hn::Mul(hn::Mul(splat(gamma), hn::Sub(u, t)), hn::Mul(l.p, l.q)), bce);
    const Vector slope = hn::Mul(hn::Mul(balance(t), power(miss)), hn::Add(direct, hn::Div(by_power, miss)));
    return hn::IfThenZeroElse(hn::Eq(miss, splat(0)), slope);
  }
};

// The regression losses are functions of d = x - t.
template <>
struct Loss<MseLoss> {
  static constexpr bool of_difference = true;
  explicit Loss(const MseLoss&) {}
  Vector value(Vector d) const { return hn::Mul(d, d); }
  Vector slope(Vector d) const { return hn::Add(d, d); }
};

template <>
struct Loss<L1Loss> {
  static constexpr bool of_difference = true;
  explicit Loss(const L1Loss&) {}
  Vector value(Vector d) const { return hn::Abs(d); }
  Vector slope(Vector d) const { return sign(d); }
};

template <>
struct Loss<SmoothL1Loss> {
  static constexpr bool of_difference = true;
  Vector beta, reciprocal;
  explicit Loss(const SmoothL1Loss& op) : beta(splat(op.beta)), reciprocal(splat(op.beta > 0 ? 1 / op.beta : 0)) {}
  Vector value(Vector d) const {
    const Vector a = hn::Abs(d), half = splat(0.5);
    return hn::IfThenElse(hn::Lt(a, beta), hn::Mul(hn::Mul(half, hn::Mul(d, d)), reciprocal), hn::NegMulAdd(half, beta, a));
  }
  Vector slope(Vector d) const { return hn::IfThenElse(hn::Lt(hn::Abs(d), beta), hn::Mul(d, reciprocal), sign(d)); }
};

template <>
struct Loss<HuberLoss> {
  static constexpr bool of_difference = true;
  Vector delta;
  explicit Loss(const HuberLoss& op) : delta(splat(op.delta)) {}
  Vector value(Vector d) const {
    const Vector a = hn::Abs(d), half = splat(0.5);
    return hn::IfThenElse(hn::Le(a, delta), hn::Mul(half, hn::Mul(d, d)), hn::Mul(delta, hn::NegMulAdd(half, delta, a)));
  }
  Vector slope(Vector d) const { return hn::Min(hn::Max(d, hn::Neg(delta)), delta); }
};

// y = value(in[i]...) each, or their sum.
template <class F, class... In>
void reduce_values(Reduction reduction, int64_t n, Tensor& y, const F& value, const In*... in) {
  if (reduction == Reduction::none) {
    map(n, y.data<float>(), value, in...);
  } else {
    *y.data<float>() = static_cast<float>(parallel_double_sum(n, value, in...) * glia::detail::reduction_factor(reduction, n));
  }
}

template <class F, class... In>
void spread_slopes(Reduction reduction, const Tensor& dy, Tensor& dx, const F& slope, const In*... in) {
  const float* g = dy.data<float>();
  if (reduction == Reduction::none) {
    map(
        dx.size(), dx.data<float>(), [&](Vector v, auto... rest) { return hn::Mul(v, slope(rest...)); }, g, in...);
  } else {
    const float factor = static_cast<float>(glia::detail::reduction_factor(reduction, dx.size())) * *g;
    const Vector k = hn::Set(VectorTag(), factor);
    map(
        dx.size(), dx.data<float>(), [&](auto... v) { return hn::Mul(k, slope(v...)); }, in...);
  }
}

template <class Op>
void loss_forward(const Op& op, const Tensor& x, const Tensor& t, Tensor& y) {
  const Loss<Op> loss(op);
  reduce_values(
      op.reduction, x.size(), y,
      [&](Vector a, Vector b) {
        if constexpr (Loss<Op>::of_difference) {
          return loss.value(hn::Sub(a, b));
        } else {
          return loss.value(a, b);
        }
      },
      x.data<float>(), t.data<float>());
}

template <class Op>
void loss_backward(const Op& op, const Tensor& x, const Tensor& t, const Tensor& dy, Tensor* dx, Tensor* dt) {
  const Loss<Op> loss(op);
  const float *a = x.data<float>(), *b = t.data<float>();
  if constexpr (Loss<Op>::of_difference) {
    if (dx)
      spread_slopes(
          op.reduction, dy, *dx, [&](Vector u, Vector v) { return loss.slope(hn::Sub(u, v)); }, a, b);
    if (dt)
      spread_slopes(
          op.reduction, dy, *dt, [&](Vector u, Vector v) { return hn::Neg(loss.slope(hn::Sub(u, v))); }, a, b);
  } else {
    GLIA_CHECK(!dt, "{}: no gradient with respect to the target is defined", Op::forward.name);
    if (dx)
      spread_slopes(
          op.reduction, dy, *dx, [&](Vector u, Vector v) { return loss.slope(u, v); }, a, b);
  }
}

// `weight` repeated so that it has x's shape: one value per pixel, per channel, or one; absent ones are 1.
Tensor expanded(const Tensor& weight, const Tensor& x, bool per_pixel) {
  Tensor full(x.shape(), DType::float32);
  const int64_t channels = x.rank() ? x.dim(-1) : 1, step = weight ? weight.size() : 1;
  float* to = full.data<float>();
  const float* from = weight ? weight.data<float>() : nullptr;
  parallel_for(x.size(), 1 << 15, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      to[i] = !from ? 1.0f : per_pixel ? from[step == x.size() ? i : i / channels] : from[i % step];
  });
  return full;
}

// Which arrays the loop reads: most runs have no weights, or one like x, and one pos_weight at most.
template <class Plain, class Weighted, class General>
void with_weights(const Tensor& x, const Tensor& weight, const Tensor& pos_weight, Plain plain, Weighted weighted,
                  General general) {
  const bool one_pos_weight = !pos_weight || pos_weight.size() == 1;
  if (!weight && one_pos_weight) {
    plain();
  } else if (one_pos_weight && same_shape(weight, x)) {
    weighted(weight.data<float>());
  } else {
    const Tensor w = expanded(weight, x, true), p = expanded(pos_weight, x, false);
    general(w.data<float>(), p.data<float>());
  }
}

void bce_with_logits(const BceWithLogits& op, const Tensor& x, const Tensor& t, const Tensor& weight, const Tensor& pos_weight,
                     Tensor& y) {
  const Loss<BceWithLogits> loss;
  const int64_t n = x.size();
  const float *z = x.data<float>(), *u = t.data<float>();
  const bool positive = pos_weight && pos_weight.size() == 1;
  const Vector k = splat(positive ? pos_weight.item() : 1);
  const auto value = [&](Vector a, Vector b) { return positive ? loss.value(a, b, k) : loss.value(a, b); };
  with_weights(
      x, weight, pos_weight, [&] { reduce_values(op.reduction, n, y, value, z, u); },
      [&](const float* w) {
        reduce_values(
            op.reduction, n, y, [&](Vector a, Vector b, Vector c) { return hn::Mul(c, value(a, b)); }, z, u, w);
      },
      [&](const float* w, const float* p) {
        const auto general = [&](Vector a, Vector b, Vector c, Vector d) { return hn::Mul(c, loss.value(a, b, d)); };
        reduce_values(op.reduction, n, y, general, z, u, w, p);
      });
}

void bce_with_logits_backward(const BceWithLogits& op, const Tensor& x, const Tensor& t, const Tensor& weight,
                              const Tensor& pos_weight, const Tensor& dy, Tensor* dx) {
  const Loss<BceWithLogits> loss;
  const float *z = x.data<float>(), *u = t.data<float>();
  const bool positive = pos_weight && pos_weight.size() == 1;
  const Vector k = splat(positive ? pos_weight.item() : 1);
  const auto slope = [&](Vector a, Vector b) { return positive ? loss.slope(a, b, k) : loss.slope(a, b); };
  with_weights(
      x, weight, pos_weight, [&] { spread_slopes(op.reduction, dy, *dx, slope, z, u); },
      [&](const float* w) {
        spread_slopes(
            op.reduction, dy, *dx, [&](Vector a, Vector b, Vector c) { return hn::Mul(c, slope(a, b)); }, z, u, w);
      },
      [&](const float* w, const float* p) {
        const auto general = [&](Vector a, Vector b, Vector c, Vector d) { return hn::Mul(c, loss.slope(a, b, d)); };
        spread_slopes(op.reduction, dy, *dx, general, z, u, w, p);
      });
}

#define GLIA_PLAIN_LOSSES(X)      \
  X(bce, Bce)                     \
  X(focal_loss, FocalLoss)        \
  X(mse_loss, MseLoss)            \
  X(l1_loss, L1Loss)              \
  X(smooth_l1_loss, SmoothL1Loss) \
  X(huber_loss, HuberLoss)

#define GLIA_DEFINE_LOSS(function, Op)                                                                                 \
  void function(const Op& op, const Tensor& x, const Tensor& t, Tensor& y) { loss_forward(op, x, t, y); }              \
  void function##_backward(const Op& op, const Tensor& x, const Tensor& t, const Tensor& dy, Tensor* dx, Tensor* dt) { \
    loss_backward(op, x, t, dy, dx, dt);                                                                               \
  }
GLIA_PLAIN_LOSSES(GLIA_DEFINE_LOSS)
#undef GLIA_DEFINE_LOSS

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

#define GLIA_EXPORT_LOSS(function, Op)                                                                                      \
  HWY_EXPORT(function);                                                                                                     \
  HWY_EXPORT(function##_backward);                                                                                          \
  void function(const Op& op, const Tensor& x, const Tensor& t, Tensor& y) { HWY_DYNAMIC_DISPATCH(function)(op, x, t, y); } \
  void function##_backward(const Op& op, const Tensor& x, const Tensor& t, const Tensor&, const Tensor& dy, Tensor* dx,     \
                           Tensor* dt) {                                                                                    \
    HWY_DYNAMIC_DISPATCH(function##_backward)(op, x, t, dy, dx, dt);                                                        \
  }
GLIA_PLAIN_LOSSES(GLIA_EXPORT_LOSS)
#undef GLIA_EXPORT_LOSS

HWY_EXPORT(bce_with_logits);
HWY_EXPORT(bce_with_logits_backward);

void bce_with_logits(const BceWithLogits& op, const Tensor& x, const Tensor& t, const Tensor& weight, const Tensor& pos_weight,
                     Tensor& y) {
  HWY_DYNAMIC_DISPATCH(bce_with_logits)(op, x, t, weight, pos_weight, y);
}

void bce_with_logits_backward(const BceWithLogits& op, const Tensor& x, const Tensor& t, const Tensor& weight,
                              const Tensor& pos_weight, const Tensor&, const Tensor& dy, Tensor* dx, Tensor* dt, Tensor* dweight,
                              Tensor* dpos_weight) {
  GLIA_CHECK(!dt && !dweight && !dpos_weight, "bce_with_logits: no gradient with respect to the target or a weight is defined");
  if (dx) HWY_DYNAMIC_DISPATCH(bce_with_logits_backward)(op, x, t, weight, pos_weight, dy, dx);
}

}  // namespace glia::cpu
#endif
