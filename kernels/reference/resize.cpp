#include "kernels/resize.h"

namespace glia::reference {
namespace {

// Calls f(offset in x, offset in y, weight) for each pair of an output and one of its taps.
template <class F>
void for_each_pair(const Resize& op, const Shape& x, F&& f) {
  const ResizeTaps rows = resize_taps(op, 0, x[1]), columns = resize_taps(op, 1, x[2]);
  int64_t y = 0;
  for (int64_t n = 0; n < x[0]; ++n)
    for (int64_t p = 0; p < op.size[0]; ++p)
      for (int64_t q = 0; q < op.size[1]; ++q)
        for (int64_t c = 0; c < x[3]; ++c, ++y)
          for (auto i = size_t(rows.begin[size_t(p)]); i < size_t(rows.begin[size_t(p) + 1]); ++i)
            for (auto j = size_t(columns.begin[size_t(q)]); j < size_t(columns.begin[size_t(q) + 1]); ++j)
              f(((n * x[1] + rows.index[i]) * x[2] + columns.index[j]) * x[3] + c, y, rows.weight[i] * columns.weight[j]);
}

}  // namespace

void resize(const Resize& op, const Tensor& x, Tensor& y) {
  y.fill(0);
  dispatch_floating(x.dtype(), "resize", [&]<class T>(T) {
    for_each_pair(op, x.shape(), [&](int64_t i, int64_t o, double w) { y.data<T>()[o] += T(w) * x.data<T>()[i]; });
  });
}

void resize_backward(const Resize& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (!dx) return;
  dx->fill(0);
  dispatch_floating(dy.dtype(), "resize", [&]<class T>(T) {
    for_each_pair(op, dx->shape(), [&](int64_t i, int64_t o, double w) { dx->data<T>()[i] += T(w) * dy.data<T>()[o]; });
  });
}

}  // namespace glia::reference
