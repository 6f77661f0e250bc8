#include "kernels/sort.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace glia::reference {
namespace {

// The first k of each column along the axis in sorted order.
void sorted(const Tensor& x, int given_axis, int64_t k, bool descending, Tensor& values, Tensor& indices) {
  const int axis = normalize_axis(given_axis, x.rank(), "sort");
  const int64_t outer = x.shape().product(0, axis), n = x.dim(axis), inner = x.shape().product(axis + 1, x.rank());
  dispatch_floating(x.dtype(), "sort", [&]<class T>(T) {
    std::vector<int64_t> order(static_cast<size_t>(n));
    for (int64_t o = 0; o < outer; ++o) {
      for (int64_t c = 0; c < inner; ++c) {
        const T* column = x.data<T>() + o * n * inner + c;
        const auto less = [&](int64_t a, int64_t b) {
          const T p = column[a * inner], q = column[b * inner];
          return p < q || (q != q && p == p);
        };
        std::iota(order.begin(), order.end(), int64_t{0});
        std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return descending ? less(b, a) : less(a, b); });
        for (int64_t i = 0; i < k; ++i) {
          values.data<T>()[(o * k + i) * inner + c] = column[order[size_t(i)] * inner];
          indices.data<int64_t>()[(o * k + i) * inner + c] = order[size_t(i)];
        }
      }
    }
  });
}

void sorted_backward(int given_axis, const Tensor& indices, const Tensor& dvalues, Tensor& dx) {
  const int axis = normalize_axis(given_axis, dx.rank(), "sort");
  const int64_t n = dx.dim(axis), k = indices.dim(axis), inner = dx.shape().product(axis + 1, dx.rank());
  dx.fill(0);
  dispatch_floating(dvalues.dtype(), "sort_backward", [&]<class T>(T) {
    for (int64_t i = 0; i < indices.size(); ++i) {
      const int64_t o = i / (k * inner), c = i % inner;
      dx.data<T>()[(o * n + indices.data<int64_t>()[i]) * inner + c] = dvalues.data<T>()[i];
    }
  });
}

}  // namespace

void sort(const Sort& op, const Tensor& x, Tensor& values, Tensor& indices) {
  sorted(x, op.axis, x.dim(normalize_axis(op.axis, x.rank(), "sort")), op.descending, values, indices);
}
void sort_backward(const Sort& op, const Tensor&, const Tensor&, const Tensor& indices, const Tensor& dvalues, Tensor* dx) {
  if (dx) sorted_backward(op.axis, indices, dvalues, *dx);
}

void topk(const TopK& op, const Tensor& x, Tensor& values, Tensor& indices) {
  sorted(x, op.axis, op.k, op.largest, values, indices);
}
void topk_backward(const TopK& op, const Tensor&, const Tensor&, const Tensor& indices, const Tensor& dvalues, Tensor* dx) {
  if (dx) sorted_backward(op.axis, indices, dvalues, *dx);
}

}  // namespace glia::reference
