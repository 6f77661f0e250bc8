// Batch and group normalisation: statistics in one pass and the affine map in a second, forward; two passes backward.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/norm.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>

#include "kernels/cpu/channels-inl.h"
#include "kernels/norm.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

std::vector<float> values_or(const Tensor& t, int64_t count, float otherwise) {
  if (!t) return std::vector<float>(size_t(count), otherwise);
  return {t.data<float>(), t.data<float>() + t.size()};
}

double reciprocal_deviation(float variance, double eps) { return 1 / std::sqrt(double(variance) + eps); }

// From the rounded statistics that backward sees, so that both directions find the same sign before a ReLU.
Affine batch_affine(const WideRows& w, const Tensor& gamma, const Tensor& beta, const Tensor& mean, const Tensor& variance,
                    double eps) {
  std::vector<float> scale = values_or(gamma, w.channels, 1);
  for (size_t c = 0; c < scale.size(); ++c)
    scale[c] = float(double(scale[c]) * reciprocal_deviation(variance.data<float>()[c], eps));
  return {w, values_or(mean, w.channels, 0), scale, values_or(beta, w.channels, 0)};
}

void batch_norm(const BatchNorm& op, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                const Tensor& running_variance, Tensor& y, Tensor& mean, Tensor& variance) {
  const int64_t channels = x.dim(-1);
  const WideRows w = wide_rows(x.shape().product(0, x.rank() - 1), channels);
  if (op.train) {
    std::vector<double> m, v;
    channel_statistics(x.data<float>(), w, m, v);
    std::copy(m.begin(), m.end(), mean.data<float>());
    std::copy(v.begin(), v.end(), variance.data<float>());
  } else {
    mean.copy_from(running_mean);
    variance.copy_from(running_variance);
  }
  apply_affine(x.data<float>(), w, batch_affine(w, gamma, beta, mean, variance, op.eps), op.relu, y.data<float>());
}

void batch_norm_backward(const BatchNorm& op, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor&,
                         const Tensor&, const Tensor&, const Tensor& mean, const Tensor& variance, const Tensor& dy, Tensor* dx,
                         Tensor* dgamma, Tensor* dbeta, Tensor* drunning_mean, Tensor* drunning_variance) {
  GLIA_CHECK(!drunning_mean && !drunning_variance, "batch_norm: running statistics have no gradient");
  const auto channels = size_t(x.dim(-1));
  const WideRows w = wide_rows(x.shape().product(0, x.rank() - 1), x.dim(-1));
  const Affine affine = batch_affine(w, gamma, beta, mean, variance, op.eps);
  std::vector<double> sums(channels), products(channels);
  if (op.train || dgamma || dbeta)
    (op.relu ? gradient_sums<true> : gradient_sums<false>)(x.data<float>(), dy.data<float>(), w, affine, sums.data(),
                                                           products.data());

  std::vector<float> a(channels), b(channels), c(channels);
  for (size_t i = 0; i < channels; ++i) {
    const double rstd = reciprocal_deviation(variance.data<float>()[i], op.eps);
    if (dgamma) dgamma->data<float>()[i] = float(products[i] * rstd);
    if (dbeta) dbeta->data<float>()[i] = float(sums[i]);
    if (op.train && w.pixels == 1) continue;  // a single value is its own mean: y does not depend on it
    a[i] = affine.scale[i];
    if (op.train && w.pixels > 0) {
      b[i] = float(-double(a[i]) * rstd * rstd * products[i] / double(w.pixels));
      c[i] = float(-double(a[i]) * sums[i] / double(w.pixels));
    }
  }
  if (dx)
    pull_gradient(x.data<float>(), dy.data<float>(), w, affine, {repeated(w, a), repeated(w, b), repeated(w, c)}, op.relu,
                  dx->data<float>());
}

// Samples in parallel where there are many; else the passes inside one sample are (nested loops run serially).
template <class F>
void for_each_sample(int64_t samples, F&& body) {
  if (samples < 8) {
    for (int64_t n = 0; n < samples; ++n) body(n);
  } else {
    parallel_for(samples, 1, [&](int64_t n, int64_t) { body(n); });
  }
}

struct Groups {
  int64_t samples, channels, groups, per_group, sample_size;
  WideRows rows;
  Groups(const GroupNorm& op, const Shape& x)
      : samples(x[0]),
        channels(x[-1]),
        groups(op.groups),
        per_group(channels / groups),
        sample_size(x.product(1, x.rank())),
        rows(wide_rows(x.product(1, x.rank() - 1), channels)) {}
  double count() const { return double(rows.pixels) * double(per_group); }

  Affine affine(int64_t n, const Tensor& gamma, const Tensor& beta, const Tensor& mean, const Tensor& variance,
                double eps) const {
    std::vector<float> m(size_t(channels), 0.0f), scale = values_or(gamma, channels, 1);
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t at = n * groups + c / per_group;
      m[size_t(c)] = mean.data<float>()[at];
      scale[size_t(c)] = float(double(scale[size_t(c)]) * reciprocal_deviation(variance.data<float>()[at], eps));
    }
    return {rows, m, scale, values_or(beta, channels, 0)};
  }
};

void group_norm(const GroupNorm& op, const Tensor& x, const Tensor& gamma, const Tensor& beta, Tensor& y, Tensor& mean,
                Tensor& variance) {
  const Groups s(op, x.shape());
  mean.fill(0);  // for no channels or no pixels
  variance.fill(0);
  if (x.size() == 0) return;
  for_each_sample(s.samples, [&](int64_t n) {
    std::vector<double> m, v;
    channel_statistics(x.data<float>() + n * s.sample_size, s.rows, m, v);
    for (int64_t g = 0; g < s.groups; ++g) {
      double group_mean = 0, group_variance = 0;
      for (auto c = size_t(g * s.per_group); c < size_t((g + 1) * s.per_group); ++c) group_mean += m[c];
      group_mean /= double(s.per_group);
      for (auto c = size_t(g * s.per_group); c < size_t((g + 1) * s.per_group); ++c)
        group_variance += v[c] + (m[c] - group_mean) * (m[c] - group_mean);
      mean.data<float>()[n * s.groups + g] = float(group_mean);
      variance.data<float>()[n * s.groups + g] = float(group_variance / double(s.per_group));
    }
    apply_affine(x.data<float>() + n * s.sample_size, s.rows, s.affine(n, gamma, beta, mean, variance, op.eps), false,
                 y.data<float>() + n * s.sample_size);
  });
}

void group_norm_backward(const GroupNorm& op, const Tensor& x, const Tensor& gamma, const Tensor&, const Tensor&,
                         const Tensor& mean, const Tensor& variance, const Tensor& dy, Tensor* dx, Tensor* dgamma,
                         Tensor* dbeta) {
  const Groups s(op, x.shape());
  const auto channels = size_t(s.channels);
  std::vector<double> sums(size_t(s.samples) * channels), products(sums.size());
  if (x.size() > 0)
    for_each_sample(s.samples, [&](int64_t n) {
      const float *xn = x.data<float>() + n * s.sample_size, *gn = dy.data<float>() + n * s.sample_size;
      const Affine affine = s.affine(n, gamma, Tensor(), mean, variance, op.eps);
      double *sum = sums.data() + size_t(n) * channels, *product = products.data() + size_t(n) * channels;
      gradient_sums<false>(xn, gn, s.rows, affine, sum, product);
      if (!dx) return;
      std::vector<float> a(channels), b(channels), c(channels);
      for (size_t first = 0; first < channels; first += size_t(s.per_group)) {
        const size_t last = first + size_t(s.per_group);
        const double rstd = reciprocal_deviation(variance.data<float>()[n * s.groups + int64_t(first) / s.per_group], op.eps);
        double scaled_sum = 0, scaled_product = 0;  // of gamma rstd g, and of that times x - mean
        for (size_t i = first; i < last; ++i) {
          scaled_sum += double(affine.scale[i]) * sum[i];
          scaled_product += double(affine.scale[i]) * product[i];
        }
        for (size_t i = first; i < last && s.count() > 1; ++i) {  // a single value is its own mean: y does not depend on it
          a[i] = affine.scale[i];
          b[i] = float(-rstd * rstd * scaled_product / s.count());
          c[i] = float(-scaled_sum / s.count());
        }
      }
      pull_gradient(xn, gn, s.rows, affine, {repeated(s.rows, a), repeated(s.rows, b), repeated(s.rows, c)}, false,
                    dx->data<float>() + n * s.sample_size);
    });
  for (size_t c = 0; c < channels; ++c) {
    double gamma_gradient = 0, beta_gradient = 0;
    for (size_t n = 0; n < size_t(s.samples); ++n) {
      const float group_variance = variance.data<float>()[n * size_t(s.groups) + c / size_t(s.per_group)];
      gamma_gradient += products[n * channels + c] * reciprocal_deviation(group_variance, op.eps);
      beta_gradient += sums[n * channels + c];
    }
    if (dgamma) dgamma->data<float>()[c] = float(gamma_gradient);
    if (dbeta) dbeta->data<float>()[c] = float(beta_gradient);
  }
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(batch_norm);
HWY_EXPORT(batch_norm_backward);
HWY_EXPORT(group_norm);
HWY_EXPORT(group_norm_backward);

void batch_norm(const BatchNorm& op, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                const Tensor& running_variance, Tensor& y, Tensor& mean, Tensor& variance) {
  HWY_DYNAMIC_DISPATCH(batch_norm)(op, x, gamma, beta, running_mean, running_variance, y, mean, variance);
}
void batch_norm_backward(const BatchNorm& op, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                         const Tensor& running_mean, const Tensor& running_variance, const Tensor& y, const Tensor& mean,
                         const Tensor& variance, const Tensor& dy, Tensor* dx, Tensor* dgamma, Tensor* dbeta,
                         Tensor* drunning_mean, Tensor* drunning_variance) {
  HWY_DYNAMIC_DISPATCH(batch_norm_backward)
  (op, x, gamma, beta, running_mean, running_variance, y, mean, variance, dy, dx, dgamma, dbeta, drunning_mean,
   drunning_variance);
}
void group_norm(const GroupNorm& op, const Tensor& x, const Tensor& gamma, const Tensor& beta, Tensor& y, Tensor& mean,
                Tensor& variance) {
  HWY_DYNAMIC_DISPATCH(group_norm)(op, x, gamma, beta, y, mean, variance);
}
void group_norm_backward(const GroupNorm& op, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& y,
                         const Tensor& mean, const Tensor& variance, const Tensor& dy, Tensor* dx, Tensor* dgamma,
                         Tensor* dbeta) {
  HWY_DYNAMIC_DISPATCH(group_norm_backward)(op, x, gamma, beta, y, mean, variance, dy, dx, dgamma, dbeta);
}

}  // namespace glia::cpu
#endif
