#include "kernels/softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace glia::reference {
namespace {

// Calls f(first element, number of elements, distance between two) for each line along the axis.
template <class F>
void for_each_line(const Shape& shape, int axis, F&& f) {
  const AxisView v = axis_view(shape, axis, "softmax");
  for (int64_t o = 0; o < v.outer; ++o)
    for (int64_t i = 0; i < v.inner; ++i) f(o * v.length * v.inner + i, v.length, v.inner);
}

// Largest element of a line, and the sum of exp(x - largest).
template <class T>
std::pair<T, T> max_and_sum(const T* x, int64_t length, int64_t step) {
  T largest = -std::numeric_limits<T>::infinity(), sum = 0;
  for (int64_t j = 0; j < length; ++j) largest = std::max(largest, x[j * step]);
  for (int64_t j = 0; j < length; ++j) sum += std::exp(x[j * step] - largest);
  return {largest, sum};
}

}  // namespace

void softmax(const Softmax& op, const Tensor& x, Tensor& y) {
  dispatch_floating(x.dtype(), "softmax", [&]<class T>(T) {
    for_each_line(x.shape(), op.axis, [&](int64_t first, int64_t length, int64_t step) {
      const T* from = x.data<T>() + first;
      const auto [largest, sum] = max_and_sum(from, length, step);
      for (int64_t j = 0; j < length; ++j) y.data<T>()[first + j * step] = std::exp(from[j * step] - largest) / sum;
    });
  });
}

void softmax_backward(const Softmax& op, const Tensor&, const Tensor& y, const Tensor& dy, Tensor* dx) {
  if (!dx) return;
  dispatch_floating(dy.dtype(), "softmax", [&]<class T>(T) {
    for_each_line(dy.shape(), op.axis, [&](int64_t first, int64_t length, int64_t step) {
      const T *p = y.data<T>() + first, *g = dy.data<T>() + first;
      T dot = 0;
      for (int64_t j = 0; j < length; ++j) dot += p[j * step] * g[j * step];
      for (int64_t j = 0; j < length; ++j) dx->data<T>()[first + j * step] = p[j * step] * (g[j * step] - dot);
    });
  });
}

void log_softmax(const LogSoftmax& op, const Tensor& x, Tensor& y) {
  dispatch_floating(x.dtype(), "log_softmax", [&]<class T>(T) {
    for_each_line(x.shape(), op.axis, [&](int64_t first, int64_t length, int64_t step) {
      const T* from = x.data<T>() + first;
      const auto [largest, sum] = max_and_sum(from, length, step);
      for (int64_t j = 0; j < length; ++j) y.data<T>()[first + j * step] = from[j * step] - largest - std::log(sum);
    });
  });
}

void log_softmax_backward(const LogSoftmax& op, const Tensor&, const Tensor& y, const Tensor& dy, Tensor* dx) {
  if (!dx) return;
  dispatch_floating(dy.dtype(), "log_softmax", [&]<class T>(T) {
    for_each_line(dy.shape(), op.axis, [&](int64_t first, int64_t length, int64_t step) {
      const T *l = y.data<T>() + first, *g = dy.data<T>() + first;
      T sum = 0;
      for (int64_t j = 0; j < length; ++j) sum += g[j * step];
      for (int64_t j = 0; j < length; ++j) dx->data<T>()[first + j * step] = g[j * step] - std::exp(l[j * step]) * sum;
    });
  });
}

}  // namespace glia::reference
