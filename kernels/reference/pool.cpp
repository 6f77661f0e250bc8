#include "kernels/pool.h"

namespace glia::reference {
namespace {

// Calls f(n, p, q, c, offset in y) for each output.
template <class F>
void for_each_output(const PoolGeometry& g, F&& f) {
  int64_t i = 0;
  for (int64_t n = 0; n < g.n; ++n)
    for (int64_t p = 0; p < g.rows.out; ++p)
      for (int64_t q = 0; q < g.columns.out; ++q)
        for (int64_t c = 0; c < g.c; ++c) f(n, p, q, c, i++);
}

// Calls f(offset in x) for the pixels of window (p, q) inside the input, in row-major order.
template <class F>
void for_each_tap(const PoolGeometry& g, int64_t n, int64_t p, int64_t q, int64_t c, F&& f) {
  for (int64_t h = g.rows.begin(p); h < g.rows.end(p); ++h)
    for (int64_t w = g.columns.begin(q); w < g.columns.end(q); ++w) f(((n * g.rows.in + h) * g.columns.in + w) * g.c + c);
}

template <class T>
int64_t first_maximum(const T* x, const PoolGeometry& g, int64_t n, int64_t p, int64_t q, int64_t c) {
  int64_t best = -1;
  for_each_tap(g, n, p, q, c, [&](int64_t i) {
    if (best < 0 || x[i] > x[best] || x[i] != x[i]) best = i;  // a NaN wins
  });
  return best;
}

}  // namespace

void max_pool2d(const MaxPool2d& op, const Tensor& x, Tensor& y) {
  const PoolGeometry g = pool_geometry(op, x.shape());
  dispatch_floating(x.dtype(), "max_pool2d", [&]<class T>(T) {
    for_each_output(g, [&](int64_t n, int64_t p, int64_t q, int64_t c, int64_t i) {
      y.data<T>()[i] = x.data<T>()[first_maximum(x.data<T>(), g, n, p, q, c)];
    });
  });
}

void max_pool2d_backward(const MaxPool2d& op, const Tensor& x, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (!dx) return;
  const PoolGeometry g = pool_geometry(op, x.shape());
  dx->fill(0);
  dispatch_floating(dy.dtype(), "max_pool2d", [&]<class T>(T) {
    for_each_output(g, [&](int64_t n, int64_t p, int64_t q, int64_t c, int64_t i) {
      dx->data<T>()[first_maximum(x.data<T>(), g, n, p, q, c)] += dy.data<T>()[i];
    });
  });
}

void avg_pool2d(const AvgPool2d& op, const Tensor& x, Tensor& y) {
  const PoolGeometry g = pool_geometry(op, x.shape());
  dispatch_floating(x.dtype(), "avg_pool2d", [&]<class T>(T) {
    for_each_output(g, [&](int64_t n, int64_t p, int64_t q, int64_t c, int64_t i) {
      T sum = 0;
      for_each_tap(g, n, p, q, c, [&](int64_t tap) { sum += x.data<T>()[tap]; });
      y.data<T>()[i] = sum / T(avg_pool_count(op, g, p, q));
    });
  });
}

void avg_pool2d_backward(const AvgPool2d& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (!dx) return;
  const PoolGeometry g = pool_geometry(op, dx->shape());
  dx->fill(0);
  dispatch_floating(dy.dtype(), "avg_pool2d", [&]<class T>(T) {
    for_each_output(g, [&](int64_t n, int64_t p, int64_t q, int64_t c, int64_t i) {
      const T share = dy.data<T>()[i] / T(avg_pool_count(op, g, p, q));
      for_each_tap(g, n, p, q, c, [&](int64_t tap) { dx->data<T>()[tap] += share; });
    });
  });
}

void global_avg_pool(const GlobalAvgPool&, const Tensor& x, Tensor& y) {
  const int64_t pixels = x.dim(1) * x.dim(2), c = x.dim(3);
  y.fill(0);
  dispatch_floating(x.dtype(), "global_avg_pool", [&]<class T>(T) {
    for (int64_t i = 0; i < x.size(); ++i) y.data<T>()[i / (pixels * c) * c + i % c] += x.data<T>()[i];
    for (T& value : y.values<T>()) value /= T(pixels);
  });
}

void global_avg_pool_backward(const GlobalAvgPool&, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (!dx) return;
  const int64_t pixels = dx->dim(1) * dx->dim(2), c = dx->dim(3);
  dispatch_floating(dy.dtype(), "global_avg_pool", [&]<class T>(T) {
    for (int64_t i = 0; i < dx->size(); ++i) dx->data<T>()[i] = dy.data<T>()[i / (pixels * c) * c + i % c] / T(pixels);
  });
}

}  // namespace glia::reference
