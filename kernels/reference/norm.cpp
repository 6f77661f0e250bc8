// The three normalisations as one: `of(i)` names the statistics and `at(i)` the affine parameters of element i.
#include "kernels/norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace glia::reference {
namespace {

template <class T>
T value_or(const Tensor& t, int64_t i, T otherwise) {
  return t ? t.data<T>()[i] : otherwise;
}

// Sums in double: in float, a mean of 1e5 values, or one much larger than the deviation, would lose digits.
template <class T, class Of>
void statistics(const Tensor& x, Of&& of, Tensor& mean, Tensor& variance) {
  const auto statistics_count = size_t(mean.size());
  std::vector<double> count(statistics_count), sum(statistics_count), squares(statistics_count);
  for (int64_t i = 0; i < x.size(); ++i) count[size_t(of(i))] += 1, sum[size_t(of(i))] += double(x.data<T>()[i]);
  for (size_t s = 0; s < statistics_count; ++s) sum[s] /= std::max(count[s], 1.0);
  for (int64_t i = 0; i < x.size(); ++i) {
    const double deviation = double(x.data<T>()[i]) - sum[size_t(of(i))];
    squares[size_t(of(i))] += deviation * deviation;
  }
  for (size_t s = 0; s < statistics_count; ++s) {
    mean.data<T>()[s] = T(sum[s]);
    variance.data<T>()[s] = T(squares[s] / std::max(count[s], 1.0));
  }
}

template <class T, class Of, class At>
void normalize(const Tensor& x, const Tensor& gamma, const Tensor& beta, Of&& of, At&& at, const Tensor& mean,
               const Tensor& variance, double eps, Tensor& y) {
  for (int64_t i = 0; i < x.size(); ++i) {
    const T xhat = (x.data<T>()[i] - mean.data<T>()[of(i)]) / std::sqrt(variance.data<T>()[of(i)] + T(eps));
    y.data<T>()[i] = value_or(gamma, at(i), T(1)) * xhat + value_or(beta, at(i), T(0));
  }
}

// With `fixed` statistics, x does not act through them.
template <class T, class Of, class At>
void normalize_backward(const Tensor& x, const Tensor& gamma, Of&& of, At&& at, const Tensor& mean, const Tensor& variance,
                        double eps, bool fixed, const std::vector<T>& dy, Tensor* dx, Tensor* dgamma, Tensor* dbeta) {
  std::vector<T> count(size_t(mean.size())), mean_g(count.size()), mean_gx(count.size());
  const auto rstd = [&](int64_t i) { return T(1) / std::sqrt(variance.data<T>()[of(i)] + T(eps)); };
  const auto xhat = [&](int64_t i) { return (x.data<T>()[i] - mean.data<T>()[of(i)]) * rstd(i); };
  const auto scaled = [&](int64_t i) { return dy[size_t(i)] * value_or(gamma, at(i), T(1)); };
  if (dgamma) dgamma->fill(0);
  if (dbeta) dbeta->fill(0);
  for (int64_t i = 0; i < x.size(); ++i) {
    const auto s = size_t(of(i));
    count[s] += 1, mean_g[s] += scaled(i), mean_gx[s] += scaled(i) * xhat(i);
    if (dgamma) dgamma->data<T>()[at(i)] += dy[size_t(i)] * xhat(i);
    if (dbeta) dbeta->data<T>()[at(i)] += dy[size_t(i)];
  }
  if (!dx) return;
  for (int64_t i = 0; i < x.size(); ++i) {
    const auto s = size_t(of(i));
    const T through = fixed ? T(0) : (mean_g[s] + xhat(i) * mean_gx[s]) / count[s];
    dx->data<T>()[i] = (scaled(i) - through) * rstd(i);
  }
}

template <class T>
std::vector<T> copy_of(const Tensor& t) {
  return {t.data<T>(), t.data<T>() + t.size()};
}

}  // namespace

void batch_norm(const BatchNorm& op, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                const Tensor& running_variance, Tensor& y, Tensor& mean, Tensor& variance) {
  const auto channel = [c = x.dim(-1)](int64_t i) { return i % c; };
  dispatch_floating(x.dtype(), "batch_norm", [&]<class T>(T) {
    if (op.train) {
      statistics<T>(x, channel, mean, variance);
    } else {
      mean.copy_from(running_mean);
      variance.copy_from(running_variance);
    }
    normalize<T>(x, gamma, beta, channel, channel, mean, variance, op.eps, y);
    if (op.relu)
      for (T& value : y.values<T>()) value = value > 0 ? value : (value != value ? value : T(0));
  });
}

void batch_norm_backward(const BatchNorm& op, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor&,
                         const Tensor&, const Tensor&, const Tensor& mean, const Tensor& variance, const Tensor& dy, Tensor* dx,
                         Tensor* dgamma, Tensor* dbeta, Tensor* drunning_mean, Tensor* drunning_variance) {
  GLIA_CHECK(!drunning_mean && !drunning_variance, "batch_norm: running statistics have no gradient");
  const auto channel = [c = x.dim(-1)](int64_t i) { return i % c; };
  dispatch_floating(x.dtype(), "batch_norm", [&]<class T>(T) {
    std::vector<T> g = copy_of<T>(dy);
    if (op.relu) {
      Tensor y(x.shape(), x.dtype());
      normalize<T>(x, gamma, beta, channel, channel, mean, variance, op.eps, y);
      for (int64_t i = 0; i < x.size(); ++i)
        if (!(y.data<T>()[i] > 0)) g[size_t(i)] = 0;
    }
    normalize_backward<T>(x, gamma, channel, channel, mean, variance, op.eps, !op.train, g, dx, dgamma, dbeta);
  });
}

void group_norm(const GroupNorm& op, const Tensor& x, const Tensor& gamma, const Tensor& beta, Tensor& y, Tensor& mean,
                Tensor& variance) {
  const int64_t c = x.dim(-1), sample = x.shape().product(1, x.rank()), width = c / op.groups;
  const auto group = [&](int64_t i) { return i / sample * op.groups + i % c / width; };
  dispatch_floating(x.dtype(), "group_norm", [&]<class T>(T) {
    statistics<T>(x, group, mean, variance);
    normalize<T>(
        x, gamma, beta, group, [&](int64_t i) { return i % c; }, mean, variance, op.eps, y);
  });
}

void group_norm_backward(const GroupNorm& op, const Tensor& x, const Tensor& gamma, const Tensor&, const Tensor&,
                         const Tensor& mean, const Tensor& variance, const Tensor& dy, Tensor* dx, Tensor* dgamma,
                         Tensor* dbeta) {
  const int64_t c = x.dim(-1), sample = x.shape().product(1, x.rank()), width = c / op.groups;
  const auto group = [&](int64_t i) { return i / sample * op.groups + i % c / width; };
  dispatch_floating(x.dtype(), "group_norm", [&]<class T>(T) {
    normalize_backward<T>(
        x, gamma, group, [&](int64_t i) { return i % c; }, mean, variance, op.eps, false, copy_of<T>(dy), dx, dgamma, dbeta);
  });
}

void layer_norm(const LayerNorm& op, const Tensor& x, const Tensor& gamma, const Tensor& beta, Tensor& y, Tensor& mean,
                Tensor& variance) {
  const int64_t width = x.shape().product(x.rank() - op.axes, x.rank());
  const auto row = [&](int64_t i) { return i / width; };
  dispatch_floating(x.dtype(), "layer_norm", [&]<class T>(T) {
    statistics<T>(x, row, mean, variance);
    normalize<T>(
        x, gamma, beta, row, [&](int64_t i) { return i % width; }, mean, variance, op.eps, y);
  });
}

void layer_norm_backward(const LayerNorm& op, const Tensor& x, const Tensor& gamma, const Tensor&, const Tensor&,
                         const Tensor& mean, const Tensor& variance, const Tensor& dy, Tensor* dx, Tensor* dgamma,
                         Tensor* dbeta) {
  const int64_t width = x.shape().product(x.rank() - op.axes, x.rank());
  const auto row = [&](int64_t i) { return i / width; };
  dispatch_floating(x.dtype(), "layer_norm", [&]<class T>(T) {
    normalize_backward<T>(
        x, gamma, row, [&](int64_t i) { return i % width; }, mean, variance, op.eps, false, copy_of<T>(dy), dx, dgamma, dbeta);
  });
}

void running_stats(const RunningStats& op, const Tensor& mean, const Tensor& variance, const Tensor& running_mean,
                   const Tensor& running_variance) {
  const double keep = 1 - op.momentum;
  dispatch_floating(mean.dtype(), "running_stats", [&]<class T>(T) {
    for (int64_t c = 0; c < mean.size(); ++c) {
      T &m = running_mean.data<T>()[c], &v = running_variance.data<T>()[c];
      m = T(keep * double(m) + op.momentum * double(mean.data<T>()[c]));
      v = T(keep * double(v) + op.momentum * op.correction() * double(variance.data<T>()[c]));
    }
  });
}

}  // namespace glia::reference
