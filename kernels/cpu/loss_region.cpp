// Region losses: one pass that takes three sums per region in double, one that writes the gradient
//   dx = (a t + b + c p) [p (1 - p)] + e (p - t)
// of which dice, bce + dice and Tversky are the cases; the factor in brackets belongs to logits.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/loss_region.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/sum-inl.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/loss_region.h"
#include "kernels/sort_keys.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

using Sums = std::array<double, 3>;
constexpr int64_t grain = 1 << 14;

struct Terms {
  Vector first, second, third;
};

// The same chunks for one region or many: (region, chunk of it) pairs, combined in order.
template <class F>
void region_sums(const Tensor& x, const Tensor& t, Per per, Tensor& sums, const F& terms) {
  const int64_t regions = glia::detail::regions_of(x, per), size = regions ? x.size() / regions : 0;
  const int64_t chunks = num_chunks(size, grain), lanes = vector_lanes();
  std::vector<Sums> partial(static_cast<size_t>(regions * chunks));
  parallel_for(regions * chunks, std::max<int64_t>(1, grain / std::max<int64_t>(1, size)), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t from = task / chunks * size + task % chunks * grain, n = std::min(grain, size - task % chunks * grain);
      const float *a = x.data<float>() + from, *b = t.data<float>() + from;
      DoubleSum s0, s1, s2;
      int64_t i = 0;
      for (; i + lanes <= n; i += lanes) {
        const Terms v = terms(load(a + i), load(b + i));
        s0.add(v.first);
        s1.add(v.second);
        s2.add(v.third);
      }
      if (i < n) {
        const Terms v = terms(load_part(a + i, n - i), load_part(b + i, n - i));
        s0.add(first_lanes(v.first, n - i));
        s1.add(first_lanes(v.second, n - i));
        s2.add(first_lanes(v.third, n - i));
      }
      partial[static_cast<size_t>(task)] = {s0.total(), s1.total(), s2.total()};
    }
  });
  for (int64_t r = 0; r < regions; ++r) {
    double* s = sums.data<double>() + r * 3;
    std::fill_n(s, 3, 0.0);
    for (int64_t c = 0; c < chunks; ++c)
      for (size_t k = 0; k < 3; ++k) s[k] += partial[static_cast<size_t>(r * chunks + c)][k];
  }
}

void dice_sums(const Tensor& x, const Tensor& t, Per per, bool squared, Tensor& sums) {
  region_sums(x, t, per, sums, [squared](Vector p, Vector u) {
    return Terms{hn::Mul(p, u), squared ? hn::MulAdd(p, p, hn::Mul(u, u)) : hn::Add(p, u), splat(0)};
  });
}

void bce_dice_sums(const Tensor& x, const Tensor& t, Per per, Tensor& sums) {
  region_sums(x, t, per, sums, [](Vector z, Vector u) {
    const Vector one = splat(1), e = exp_negative(hn::Neg(hn::Abs(z))), large = hn::Div(one, hn::Add(one, e));
    const Vector p = keep_nan(z, hn::IfThenElse(hn::Ge(z, splat(0)), large, hn::Mul(e, large)));
    return Terms{hn::Mul(p, u), hn::Add(p, u), hn::Add(hn::NegMulAdd(z, u, hn::Max(z, splat(0))), hn::Log1p(VectorTag(), e))};
  });
}

void tversky_sums(const Tensor& x, const Tensor& t, Per per, Tensor& sums) {
  region_sums(x, t, per, sums, [](Vector z, Vector u) {
    const Vector p = vector_sigmoid(z), q = vector_sigmoid(hn::Neg(z));
    return Terms{hn::Mul(p, u), hn::NegMulAdd(p, u, p), hn::Mul(q, u)};
  });
}

using Slope = std::array<double, 4>;  // a, b, c, e

// slopes[r] are the coefficients of region r.
void region_gradient(const Tensor& x, const Tensor& t, Per per, bool logits, const std::vector<Slope>& slopes, Tensor& dx) {
  const int64_t regions = glia::detail::regions_of(x, per), size = regions ? x.size() / regions : 0;
  const int64_t chunks = num_chunks(size, grain);
  parallel_for(regions * chunks, std::max<int64_t>(1, grain / std::max<int64_t>(1, size)), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t from = task / chunks * size + task % chunks * grain, n = std::min(grain, size - task % chunks * grain);
      const Slope& s = slopes[static_cast<size_t>(task / chunks)];
      const Vector a = splat(s[0]), b = splat(s[1]), c = splat(s[2]), e = splat(s[3]);
      const float *xs = x.data<float>() + from, *ts = t.data<float>() + from;
      float* to = dx.data<float>() + from;
      if (logits) {
        const auto slope = [&](Vector z, Vector u) {
          const Vector p = vector_sigmoid(z), q = vector_sigmoid(hn::Neg(z));
          return hn::MulAdd(e, hn::Sub(p, u), hn::Mul(hn::MulAdd(a, u, b), hn::Mul(p, q)));
        };
        map_span<false>(n, to, slope, xs, ts);
      } else {
        const auto slope = [&](Vector p, Vector u) { return hn::MulAdd(a, u, hn::MulAdd(c, p, b)); };
        map_span<false>(n, to, slope, xs, ts);
      }
    }
  });
}

void scale(const Tensor& slope, const Tensor& dy, Tensor& dx) {
  const Vector k = splat(dy.item());
  map(
      dx.size(), dx.data<float>(), [k](Vector v) { return hn::Mul(k, v); }, slope.data<float>());
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(dice_sums);
HWY_EXPORT(bce_dice_sums);
HWY_EXPORT(tversky_sums);
HWY_EXPORT(region_gradient);
HWY_EXPORT(scale);

namespace {

// The mean of loss(sums) over the regions.
template <class F>
void mean_loss(const Tensor& sums, Tensor& y, F loss) {
  const int64_t regions = sums.dim(0);
  double total = 0;
  for (int64_t r = 0; r < regions; ++r) total += loss(sums.data<double>() + r * 3);
  *y.data<float>() = static_cast<float>(regions ? total / static_cast<double>(regions) : 0.0);
}

// dx from slope(sums of a region), the coefficients a, b, c, e before dy and the mean over the regions.
template <class F>
void gradient(const char* op, const Tensor& x, const Tensor& t, Per per, bool logits, const Tensor& sums, const Tensor& dy,
              Tensor* dx, const Tensor* dt, F slope) {
  GLIA_CHECK(!dt, "{}: no gradient with respect to the target is defined", op);
  if (!dx) return;
  const int64_t regions = sums.dim(0);
  std::vector<std::array<double, 4>> slopes(static_cast<size_t>(regions));
  for (int64_t r = 0; r < regions; ++r) {
    auto& s = slopes[static_cast<size_t>(r)];
    s = slope(sums.data<double>() + r * 3);
    for (double& v : s) v *= dy.item() / static_cast<double>(regions);
  }
  HWY_DYNAMIC_DISPATCH(region_gradient)(x, t, per, logits, slopes, *dx);
}

double dice(const double* s, double smooth) { return s[1] + smooth != 0 ? (2 * s[0] + smooth) / (s[1] + smooth) : 1.0; }

// -d dice / dp = a t + b + c p
std::array<double, 4> dice_slope(const double* s, double smooth, bool squared) {
  const double u = s[1] + smooth;
  if (u == 0) return {};
  const double shrink = (2 * s[0] + smooth) / (u * u);
  return {-2 / u, squared ? 0 : shrink, squared ? 2 * shrink : 0, 0};
}

double pixels_per_region(const Tensor& x, const Tensor& sums) {
  return static_cast<double>(x.size()) / static_cast<double>(std::max<int64_t>(1, sums.dim(0)));
}

}  // namespace

void dice_loss(const DiceLoss& op, const Tensor& x, const Tensor& t, Tensor& y, Tensor& sums) {
  HWY_DYNAMIC_DISPATCH(dice_sums)(x, t, op.per, op.squared, sums);
  mean_loss(sums, y, [&](const double* s) { return 1 - dice(s, op.smooth); });
}
void dice_loss_backward(const DiceLoss& op, const Tensor& x, const Tensor& t, const Tensor&, const Tensor& sums, const Tensor& dy,
                        Tensor* dx, Tensor* dt) {
  gradient("dice_loss", x, t, op.per, false, sums, dy, dx, dt,
           [&](const double* s) { return dice_slope(s, op.smooth, op.squared); });
}

void bce_dice_loss(const BceDiceLoss& op, const Tensor& x, const Tensor& t, Tensor& y, Tensor& sums) {
  HWY_DYNAMIC_DISPATCH(bce_dice_sums)(x, t, op.per, sums);
  const double size = pixels_per_region(x, sums);
  mean_loss(sums, y, [&](const double* s) { return op.bce_weight * s[2] / size + op.dice_weight * (1 - dice(s, op.smooth)); });
}
void bce_dice_loss_backward(const BceDiceLoss& op, const Tensor& x, const Tensor& t, const Tensor&, const Tensor& sums,
                            const Tensor& dy, Tensor* dx, Tensor* dt) {
  const double size = pixels_per_region(x, sums);
  gradient("bce_dice_loss", x, t, op.per, true, sums, dy, dx, dt, [&](const double* s) {
    const auto d = dice_slope(s, op.smooth, false);
    return std::array<double, 4>{op.dice_weight * d[0], op.dice_weight * d[1], 0, op.bce_weight / size};
  });
}

void tversky_loss(const TverskyLoss& op, const Tensor& x, const Tensor& t, Tensor& y, Tensor& sums) {
  HWY_DYNAMIC_DISPATCH(tversky_sums)(x, t, op.per, sums);
  mean_loss(sums, y, [&](const double* s) {
    const double whole = s[0] + op.alpha * s[1] + op.beta * s[2] + op.smooth;
    return whole != 0 ? 1 - (s[0] + op.smooth) / whole : 0.0;
  });
}
// d/dp = [N (t + alpha (1 - t) - beta t) - t W] / W^2, N = TP + s, W = TP + alpha FP + beta FN + s
void tversky_loss_backward(const TverskyLoss& op, const Tensor& x, const Tensor& t, const Tensor&, const Tensor& sums,
                           const Tensor& dy, Tensor* dx, Tensor* dt) {
  gradient("tversky_loss", x, t, op.per, true, sums, dy, dx, dt, [&](const double* s) {
    const double part = s[0] + op.smooth, whole = s[0] + op.alpha * s[1] + op.beta * s[2] + op.smooth;
    if (whole == 0) return std::array<double, 4>{};
    const double k = part / (whole * whole);
    return std::array<double, 4>{k * (1 - op.alpha - op.beta) - 1 / whole, k * op.alpha, 0, 0};
  });
}

// Errors of 0 and less add nothing and come last in the order, so only the others are sorted.
void lovasz_hinge_loss(const LovaszHinge& op, const Tensor& x, const Tensor& t, Tensor& y, Tensor& slope) {
  const int64_t regions = detail::regions_of(x, op.per), size = regions ? x.size() / regions : 0;
  GLIA_CHECK(size <= UINT32_MAX, "lovasz_hinge_loss: a region of {} pixels is too large", size);
  std::vector<double> loss(static_cast<size_t>(regions), 0.0);
  parallel_for(regions, 1, [&](int64_t r, int64_t) {
    const float *z = x.data<float>() + r * size, *u = t.data<float>() + r * size;
    float* to = slope.data<float>() + r * size;
    std::vector<uint64_t> keys;
    double positives = 0;
    const auto error = [&](size_t i) { return 1 - z[i] * (2 * u[i] - 1); };
    for (size_t i = 0; i < static_cast<size_t>(size); ++i) {
      to[i] = 0;
      positives += static_cast<double>(u[i]);
      if (!(error(i) <= 0)) keys.push_back(sort_key(error(i), static_cast<uint32_t>(i), true));
    }
    std::vector<uint64_t> scratch(keys.size());
    sort_keys(keys, scratch);
    double inside = positives, united = positives, before = 0;
    for (const uint64_t key : keys) {
      const size_t i = place_of(key);
      inside -= static_cast<double>(u[i]);
      united += 1 - static_cast<double>(u[i]);
      const double jaccard = 1 - inside / united, step = jaccard - before;
      before = jaccard;
      loss[static_cast<size_t>(r)] += static_cast<double>(error(i)) * step;
      to[i] = static_cast<float>(-(2 * static_cast<double>(u[i]) - 1) * step / static_cast<double>(regions));
    }
  });
  double total = 0;
  for (const double l : loss) total += l;
  *y.data<float>() = static_cast<float>(regions ? total / static_cast<double>(regions) : 0.0);
}
void lovasz_hinge_loss_backward(const LovaszHinge&, const Tensor&, const Tensor&, const Tensor&, const Tensor& slope,
                                const Tensor& dy, Tensor* dx, Tensor* dt) {
  GLIA_CHECK(!dt, "lovasz_hinge_loss: no gradient with respect to the target is defined");
  if (dx) HWY_DYNAMIC_DISPATCH(scale)(slope, dy, *dx);
}

}  // namespace glia::cpu
#endif
