#include "kernels/reduce.h"

#include <cmath>
#include <limits>

namespace glia::reference {
namespace {

// Calls f(i, o) for every element i of x in row-major order, o being the element of the reduced tensor that it belongs to.
template <class F>
void for_each_reduced(const Shape& x, unsigned axes, F f) {
  std::array<int64_t, Shape::max_rank> at{}, stride{};
  int64_t running = 1;
  for (int d = x.rank() - 1; d >= 0; --d) {
    if (axes >> d & 1u) continue;  // stride 0
    stride[size_t(d)] = running;
    running *= x[d];
  }
  for (int64_t i = 0, o = 0, n = x.size(); i < n; ++i) {
    f(i, o);
    for (int d = x.rank() - 1; d >= 0; --d) {
      o += stride[size_t(d)];
      if (++at[size_t(d)] < x[d]) break;
      o -= stride[size_t(d)] * x[d];
      at[size_t(d)] = 0;
    }
  }
}

// How many elements fall into one of the output.
int64_t reduced_count(const Shape& x, unsigned axes) {
  int64_t n = 1;
  for (int d = 0; d < x.rank(); ++d)
    if (axes >> d & 1u) n *= x[d];
  return n;
}

template <class T>
std::vector<double> sums(const Tensor& x, unsigned axes) {
  std::vector<double> total(static_cast<size_t>(reduced_shape(x.shape(), axes, false).size()), 0.0);
  const T* source = x.data<T>();
  for_each_reduced(x.shape(), axes, [&](int64_t i, int64_t o) { total[size_t(o)] += static_cast<double>(source[i]); });
  return total;
}

// y = factor * sum(x)
void scaled_sum(const Tensor& x, unsigned axes, double factor, Tensor& y) {
  dispatch_floating(x.dtype(), "sum", [&]<class T>(T) {
    const std::vector<double> total = sums<T>(x, axes);
    for (size_t o = 0; o < total.size(); ++o) y.data<T>()[o] = static_cast<T>(factor * total[o]);
  });
}

// dx = factor * dy, spread over the reduced axes
void spread(const Tensor& dy, unsigned axes, double factor, Tensor& dx) {
  dispatch_floating(dy.dtype(), "sum_backward", [&]<class T>(T) {
    const T* g = dy.data<T>();
    T* to = dx.data<T>();
    for_each_reduced(dx.shape(), axes, [&](int64_t i, int64_t o) { to[i] = static_cast<T>(factor * static_cast<double>(g[o])); });
  });
}

template <bool Largest, class T>
bool beats(T a, T b) {  // NaN beats every number, and nothing beats NaN
  if (b != b) return false;
  return a != a || (Largest ? a > b : a < b);
}

template <bool Largest>
void extreme(const Tensor& x, unsigned axes, Tensor& y) {
  dispatch_numeric(x.dtype(), "max", [&]<class T>(T) {
    const T* source = x.data<T>();
    T* to = y.data<T>();
    std::vector<char> seen(static_cast<size_t>(y.size()), 0);
    for_each_reduced(x.shape(), axes, [&](int64_t i, int64_t o) {
      if (!seen[size_t(o)] || beats<Largest>(source[i], to[o])) to[o] = source[i];
      seen[size_t(o)] = 1;
    });
  });
}

void extreme_backward(const Tensor& x, const Tensor& y, const Tensor& dy, unsigned axes, Tensor& dx) {
  dispatch_floating(dy.dtype(), "max_backward", [&]<class T>(T) {
    const T *source = x.data<T>(), *best = y.data<T>(), *g = dy.data<T>();
    T* to = dx.data<T>();
    std::vector<char> found(static_cast<size_t>(y.size()), 0);
    for_each_reduced(x.shape(), axes, [&](int64_t i, int64_t o) {
      const bool first = !found[size_t(o)] && (source[i] == best[o] || source[i] != source[i]);
      to[i] = first ? g[o] : T(0);
      if (first) found[size_t(o)] = 1;
    });
  });
}

template <bool Largest>
void arg_extreme(const Tensor& x, int given_axis, Tensor& y) {
  const int axis = normalize_axis(given_axis, x.rank(), "argmax");
  const int64_t outer = x.shape().product(0, axis), n = x.dim(axis), inner = x.shape().product(axis + 1, x.rank());
  int64_t* to = y.data<int64_t>();
  dispatch_numeric(x.dtype(), "argmax", [&]<class T>(T) {
    const T* source = x.data<T>();
    for (int64_t o = 0; o < outer; ++o) {
      for (int64_t c = 0; c < inner; ++c) {
        const T* column = source + o * n * inner + c;
        int64_t best = 0;
        for (int64_t i = 1; i < n; ++i)
          if (beats<Largest>(column[i * inner], column[best * inner])) best = i;
        to[o * inner + c] = best;
      }
    }
  });
}

}  // namespace

void sum(const Sum& op, const Tensor& x, Tensor& y) { scaled_sum(x, axis_set(op.axes, x.rank(), "sum"), 1.0, y); }

void sum_backward(const Sum& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (dx) spread(dy, axis_set(op.axes, dx->rank(), "sum"), 1.0, *dx);
}

void mean(const Mean& op, const Tensor& x, Tensor& y) {
  const unsigned axes = axis_set(op.axes, x.rank(), "mean");
  const int64_t n = reduced_count(x.shape(), axes);
  scaled_sum(x, axes, n ? 1.0 / static_cast<double>(n) : std::numeric_limits<double>::quiet_NaN(), y);
}

void mean_backward(const Mean& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (!dx) return;
  const unsigned axes = axis_set(op.axes, dx->rank(), "mean");
  spread(dy, axes, 1.0 / static_cast<double>(reduced_count(dx->shape(), axes)), *dx);
}

void var(const Var& op, const Tensor& x, Tensor& y) {
  const unsigned axes = axis_set(op.axes, x.rank(), "var");
  const double n = static_cast<double>(reduced_count(x.shape(), axes));
  dispatch_floating(x.dtype(), "var", [&]<class T>(T) {
    std::vector<double> mean = sums<T>(x, axes), squares(mean.size(), 0.0);
    for (double& m : mean) m /= n;
    const T* source = x.data<T>();
    for_each_reduced(x.shape(), axes, [&](int64_t i, int64_t o) {
      const double d = static_cast<double>(source[i]) - mean[size_t(o)];
      squares[size_t(o)] += d * d;
    });
    for (size_t o = 0; o < mean.size(); ++o)
      y.data<T>()[o] = static_cast<T>(squares[o] / std::max(0.0, n - (op.unbiased ? 1 : 0)));
  });
}

// dvar/dx_i = 2 (x_i - mean) / (n - 1 or n)
void var_backward(const Var& op, const Tensor& x, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (!dx) return;
  const unsigned axes = axis_set(op.axes, x.rank(), "var");
  const double n = static_cast<double>(reduced_count(x.shape(), axes)), divisor = std::max(0.0, n - (op.unbiased ? 1 : 0));
  dispatch_floating(x.dtype(), "var_backward", [&]<class T>(T) {
    std::vector<double> mean = sums<T>(x, axes);
    for (double& m : mean) m /= n;
    const T *source = x.data<T>(), *g = dy.data<T>();
    T* to = dx->data<T>();
    for_each_reduced(x.shape(), axes, [&](int64_t i, int64_t o) {
      to[i] = static_cast<T>(static_cast<double>(g[o]) * 2 * (static_cast<double>(source[i]) - mean[size_t(o)]) / divisor);
    });
  });
}

void max(const Max& op, const Tensor& x, Tensor& y) { extreme<true>(x, axis_set(op.axes, x.rank(), "max"), y); }
void min(const Min& op, const Tensor& x, Tensor& y) { extreme<false>(x, axis_set(op.axes, x.rank(), "min"), y); }

void max_backward(const Max& op, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {
  if (dx) extreme_backward(x, y, dy, axis_set(op.axes, x.rank(), "max"), *dx);
}
void min_backward(const Min& op, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {
  if (dx) extreme_backward(x, y, dy, axis_set(op.axes, x.rank(), "min"), *dx);
}

void argmax(const ArgMax& op, const Tensor& x, Tensor& y) { arg_extreme<true>(x, op.axis, y); }
void argmin(const ArgMin& op, const Tensor& x, Tensor& y) { arg_extreme<false>(x, op.axis, y); }

}  // namespace glia::reference
