// One pass over the arrays, bound by memory. Roots and quotients go through Highway, as the compiler does not vectorise std::sqrt
// while it may set errno; the rest are plain loops.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/optimizer.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <vector>

#include "kernels/optimizer.h"
#include "tensor/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
constexpr int64_t grain = 1 << 15;

float narrow(double x) { return static_cast<float>(x); }
float* data_or_null(const Tensor& t) { return t ? t.data<float>() : nullptr; }

// body(tag, i) for every vector that starts at i: whole vectors, then single elements.
template <class Body>
void for_vectors(int64_t count, const Body& body) {
  parallel_for(count, grain, [&](int64_t begin, int64_t end) {
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<int64_t>(hn::Lanes(d));
    int64_t i = begin;
    for (; i + lanes <= end; i += lanes) body(d, i);
    for (; i < end; ++i) body(hn::CappedTag<float, 1>(), i);
  });
}

void sgd_step(const SgdStep& op, const Tensor& gradient, Tensor& weight, Tensor& buffer) {
  const float* g = gradient.data<float>();
  float* w = weight.data<float>();
  float* b = data_or_null(buffer);
  const float lr = narrow(op.lr), momentum = narrow(op.momentum), decay = narrow(op.weight_decay);
  const float fresh = narrow(op.velocity ? op.lr
                             : op.first  ? 1
                                         : 1 - op.dampening),
              keep = narrow(op.first && !op.velocity ? 0 : op.momentum);
  for_vectors(weight.size(), [&](auto d, int64_t i) {
    const auto set = [&](float x) { return hn::Set(d, x); };
    const auto w0 = hn::LoadU(d, w + i);
    const auto u = hn::MulAdd(set(decay), w0, hn::LoadU(d, g + i));
    if (!b) return hn::StoreU(hn::NegMulAdd(set(lr), u, w0), d, w + i);
    auto v = hn::Mul(set(keep), hn::LoadU(d, b + i));
    if (op.velocity) {
      v = hn::NegMulAdd(set(fresh), u, v);
      hn::StoreU(hn::Add(w0, op.nesterov ? hn::NegMulAdd(set(lr), u, hn::Mul(set(momentum), v)) : v), d, w + i);
    } else {
      v = hn::MulAdd(set(fresh), u, v);
      hn::StoreU(hn::NegMulAdd(set(lr), op.nesterov ? hn::MulAdd(set(momentum), v, u) : v, w0), d, w + i);
    }
    hn::StoreU(v, d, b + i);
  });
}

void adam_step(const AdamStep& op, const Tensor& gradient, Tensor& weight, Tensor& m_, Tensor& v_, Tensor& v_max) {
  const float* g = gradient.data<float>();
  float* w = weight.data<float>();
  float* m = m_.data<float>();
  float* v = v_.data<float>();
  float* largest = data_or_null(v_max);
  const float beta1 = narrow(op.beta1), fresh1 = narrow(1 - op.beta1), beta2 = narrow(op.beta2), fresh2 = narrow(1 - op.beta2),
              eps = narrow(op.eps);
  const float step = narrow(op.step), scale = narrow(op.variance_scale), decay = narrow(op.weight_decay), keep = narrow(op.keep);
  for_vectors(weight.size(), [&](auto d, int64_t i) {
    const auto set = [&](float x) { return hn::Set(d, x); };
    const auto w0 = hn::Mul(set(keep), hn::LoadU(d, w + i));
    const auto u = hn::MulAdd(set(decay), w0, hn::LoadU(d, g + i));
    const auto m1 = hn::MulAdd(set(fresh1), u, hn::Mul(set(beta1), hn::LoadU(d, m + i)));
    auto v1 = hn::MulAdd(hn::Mul(set(fresh2), u), u, hn::Mul(set(beta2), hn::LoadU(d, v + i)));
    hn::StoreU(m1, d, m + i);
    hn::StoreU(v1, d, v + i);
    if (largest) {
      v1 = hn::Max(v1, hn::LoadU(d, largest + i));
      hn::StoreU(v1, d, largest + i);
    }
    const auto q = op.adaptive ? hn::Div(m1, hn::MulAdd(set(scale), hn::Sqrt(v1), set(eps))) : m1;
    hn::StoreU(hn::NegMulAdd(set(step), q, w0), d, w + i);
  });
}

void rmsprop_step(const RmspropStep& op, const Tensor& gradient, Tensor& weight, Tensor& v_, Tensor& buffer, Tensor& mean) {
  const float* g = gradient.data<float>();
  float* w = weight.data<float>();
  float* v = v_.data<float>();
  float* b = data_or_null(buffer);
  float* a = data_or_null(mean);
  const float alpha = narrow(op.alpha), fresh = narrow(1 - op.alpha), eps = narrow(op.eps), lr = narrow(op.lr),
              decay = narrow(op.weight_decay);
  const float momentum = narrow(op.momentum);
  for_vectors(weight.size(), [&](auto d, int64_t i) {
    const auto set = [&](float x) { return hn::Set(d, x); };
    const auto w0 = hn::LoadU(d, w + i);
    const auto u = hn::MulAdd(set(decay), w0, hn::LoadU(d, g + i));
    auto variance = hn::MulAdd(hn::Mul(set(fresh), u), u, hn::Mul(set(alpha), hn::LoadU(d, v + i)));
    hn::StoreU(variance, d, v + i);
    if (a) {
      const auto average = hn::MulAdd(set(fresh), u, hn::Mul(set(alpha), hn::LoadU(d, a + i)));
      hn::StoreU(average, d, a + i);
      variance = hn::Max(hn::NegMulAdd(average, average, variance), hn::Zero(d));
    }
    auto q = hn::Div(u, hn::Add(hn::Sqrt(variance), set(eps)));
    if (b) {
      q = hn::MulAdd(set(momentum), hn::LoadU(d, b + i), q);
      hn::StoreU(q, d, b + i);
    }
    hn::StoreU(hn::NegMulAdd(set(lr), q, w0), d, w + i);
  });
}

void squared_norm(const SquaredNorm&, const Tensor& x, Tensor& sum) {
  const float* p = x.data<float>();
  std::vector<double> partial(static_cast<size_t>(num_chunks(x.size(), grain)));
  parallel_for(x.size(), grain, [&](int64_t begin, int64_t end) {
    constexpr int width = 16;  // fixed, so that every SIMD level adds in the same order
    double lane[width] = {};
    int64_t i = begin;
    for (; i + width <= end; i += width)
      for (int k = 0; k < width; ++k) lane[k] += double(p[i + k]) * double(p[i + k]);
    for (; i < end; ++i) lane[0] += double(p[i]) * double(p[i]);
    double total = 0;
    for (const double value : lane) total += value;
    partial[static_cast<size_t>(begin / grain)] = total;
  });
  double total = 0;
  for (const double value : partial) total += value;
  *sum.data<double>() = total;
}

void add_in_place(const AddInPlace&, const Tensor& y, Tensor& x) {
  const float* from = y.data<float>();
  float* to = x.data<float>();
  parallel_for(x.size(), grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] += from[i];
  });
}

void scale_in_place(const ScaleInPlace& op, Tensor& x) {
  float* p = x.data<float>();
  const auto factor = static_cast<float>(op.factor);
  parallel_for(x.size(), grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) p[i] *= factor;
  });
}

void clip_by_norm(const ClipByNorm& op, const Tensor& squared_norm, Tensor& x) {
  const double factor = op.factor(*squared_norm.data<double>());
  if (factor < 1) scale_in_place({factor}, x);
}

void clamp_in_place(const ClampInPlace& op, Tensor& x) {
  float* p = x.data<float>();
  const auto limit = static_cast<float>(op.limit);
  parallel_for(x.size(), grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float low = p[i] < -limit ? -limit : p[i];
      p[i] = low > limit ? limit : low;
    }
  });
}

void ema_step(const EmaStep& op, const Tensor& x, Tensor& average) {
  const float* p = x.data<float>();
  float* a = average.data<float>();
  const auto keep = static_cast<float>(op.decay), fresh = static_cast<float>(1 - op.decay);
  parallel_for(x.size(), grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) a[i] = keep * a[i] + fresh * p[i];
  });
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

#define GLIA_EXPORT_STEP(function, Op) HWY_EXPORT(function);
GLIA_OPTIMIZER_STEPS(GLIA_EXPORT_STEP)
#undef GLIA_EXPORT_STEP

void sgd_step(const SgdStep& op, const Tensor& g, Tensor& w, Tensor& b) { HWY_DYNAMIC_DISPATCH(sgd_step)(op, g, w, b); }
void adam_step(const AdamStep& op, const Tensor& g, Tensor& w, Tensor& m, Tensor& v, Tensor& v_max) {
  HWY_DYNAMIC_DISPATCH(adam_step)(op, g, w, m, v, v_max);
}
void rmsprop_step(const RmspropStep& op, const Tensor& g, Tensor& w, Tensor& v, Tensor& b, Tensor& mean) {
  HWY_DYNAMIC_DISPATCH(rmsprop_step)(op, g, w, v, b, mean);
}
void squared_norm(const SquaredNorm& op, const Tensor& x, Tensor& sum) { HWY_DYNAMIC_DISPATCH(squared_norm)(op, x, sum); }
void add_in_place(const AddInPlace& op, const Tensor& y, Tensor& x) { HWY_DYNAMIC_DISPATCH(add_in_place)(op, y, x); }
void scale_in_place(const ScaleInPlace& op, Tensor& x) { HWY_DYNAMIC_DISPATCH(scale_in_place)(op, x); }
void clip_by_norm(const ClipByNorm& op, const Tensor& squared_norm, Tensor& x) {
  HWY_DYNAMIC_DISPATCH(clip_by_norm)(op, squared_norm, x);
}
void clamp_in_place(const ClampInPlace& op, Tensor& x) { HWY_DYNAMIC_DISPATCH(clamp_in_place)(op, x); }
void ema_step(const EmaStep& op, const Tensor& x, Tensor& a) { HWY_DYNAMIC_DISPATCH(ema_step)(op, x, a); }

}  // namespace glia::cpu
#endif
