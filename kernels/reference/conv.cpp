// Convolutions by their definition.
#include "kernels/conv.h"

#include <algorithm>
#include <vector>

namespace glia::reference {
namespace {

// Calls f(image index, filter index, result index) for every product of the convolution: result += image * filter.
template <class F>
void for_each_product(const ConvGeometry& g, F&& f) {
  for (int64_t n = 0; n < g.n; ++n)
    for (int64_t p = 0; p < g.p; ++p)
      for (int64_t q = 0; q < g.q; ++q)
        for (int64_t k = 0; k < g.k; ++k)
          for (int64_t r = 0; r < g.r; ++r)
            for (int64_t s = 0; s < g.s; ++s) {
              const int64_t h = p * g.stride[0] - g.before[0] + r * g.dilation[0];
              const int64_t w = q * g.stride[1] - g.before[1] + s * g.dilation[1];
              if (h < 0 || h >= g.h || w < 0 || w >= g.w) continue;
              const int64_t group = k / g.k_group();
              const int64_t image = ((n * g.h + h) * g.w + w) * g.c + group * g.c_group();
              const int64_t filter = ((k * g.r + r) * g.s + s) * g.c_group();
              const int64_t result = ((n * g.p + p) * g.q + q) * g.k + k;
              for (int64_t c = 0; c < g.c_group(); ++c) f(image + c, filter + c, result);
            }
}

// dy where the activation let the value through.
template <class T>
std::vector<T> masked(Activation activation, const Tensor& y, const Tensor& dy) {
  std::vector<T> g(dy.data<T>(), dy.data<T>() + dy.size());
  if (activation == Activation::relu)
    for (size_t i = 0; i < g.size(); ++i) g[i] = y.data<T>()[i] > 0 ? g[i] : T(0);
  return g;
}

template <class T>
void sum_over_pixels(const std::vector<T>& g, Tensor* dbias) {
  if (!dbias) return;
  dbias->fill(0);
  const size_t k = static_cast<size_t>(dbias->size());
  for (size_t i = 0; i < g.size(); ++i) dbias->data<T>()[i % k] += g[i];
}

}  // namespace

void conv2d(const Conv2d& op, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& scale, const Tensor& residual,
            Tensor& y) {
  dispatch_floating(x.dtype(), "conv2d", [&]<class T>(T) {
    y.fill(0);
    T* out = y.data<T>();
    for_each_product(geometry(op, x, w, y), [&, a = x.data<T>(), b = w.data<T>()](int64_t image, int64_t filter, int64_t result) {
      out[result] += a[image] * b[filter];
    });
    const int64_t channels = y.dim(3);
    for (int64_t i = 0; i < y.size(); ++i) {
      if (scale) out[i] *= scale.data<T>()[i % channels];
      if (bias) out[i] += bias.data<T>()[i % channels];
      if (residual) out[i] += residual.data<T>()[i];
      if (op.activation == Activation::relu && out[i] < 0) out[i] = 0;
    }
  });
}

void conv2d_backward(const Conv2d& op, const Tensor& x, const Tensor& w, const Tensor&, const Tensor& scale, const Tensor&,
                     const Tensor& y, const Tensor& dy, Tensor* dx, Tensor* dw, Tensor* dbias, Tensor* dscale,
                     Tensor* dresidual) {
  GLIA_CHECK(!dscale, "conv2d: scale is a constant and has no gradient; train an affine layer of its own instead");
  dispatch_floating(dy.dtype(), "conv2d_backward", [&]<class T>(T) {
    std::vector<T> g = masked<T>(op.activation, y, dy);
    if (dresidual) std::copy(g.begin(), g.end(), dresidual->data<T>());
    sum_over_pixels(g, dbias);
    if (scale)
      for (size_t i = 0; i < g.size(); ++i) g[i] *= scale.data<T>()[i % static_cast<size_t>(scale.size())];
    if (dx) dx->fill(0);
    if (dw) dw->fill(0);
    for_each_product(geometry(op, x, w, dy), [&](int64_t image, int64_t filter, int64_t result) {
      if (dx) dx->data<T>()[image] += g[static_cast<size_t>(result)] * w.data<T>()[filter];
      if (dw) dw->data<T>()[filter] += g[static_cast<size_t>(result)] * x.data<T>()[image];
    });
  });
}

void conv_transpose2d(const ConvTranspose2d& op, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y) {
  dispatch_floating(x.dtype(), "conv_transpose2d", [&]<class T>(T) {
    y.fill(0);
    T* out = y.data<T>();
    for_each_product(geometry(op, x, w, y), [&, a = x.data<T>(), b = w.data<T>()](int64_t image, int64_t filter, int64_t result) {
      out[image] += a[result] * b[filter];
    });
    for (int64_t i = 0; i < y.size(); ++i) {
      if (bias) out[i] += bias.data<T>()[i % y.dim(3)];
      if (op.activation == Activation::relu && out[i] < 0) out[i] = 0;
    }
  });
}

void conv_transpose2d_backward(const ConvTranspose2d& op, const Tensor& x, const Tensor& w, const Tensor&, const Tensor& y,
                               const Tensor& dy, Tensor* dx, Tensor* dw, Tensor* dbias) {
  dispatch_floating(dy.dtype(), "conv_transpose2d_backward", [&]<class T>(T) {
    const std::vector<T> g = masked<T>(op.activation, y, dy);
    sum_over_pixels(g, dbias);
    if (dx) dx->fill(0);
    if (dw) dw->fill(0);
    for_each_product(geometry(op, x, w, dy), [&](int64_t image, int64_t filter, int64_t result) {
      if (dx) dx->data<T>()[result] += g[static_cast<size_t>(image)] * w.data<T>()[filter];
      if (dw) dw->data<T>()[filter] += g[static_cast<size_t>(image)] * x.data<T>()[result];
    });
  });
}

}  // namespace glia::reference
