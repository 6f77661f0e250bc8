// Sorts of integer keys made of value and place (kernels/sort_keys.h), one list per thread.
#include <algorithm>
#include <vector>

#include "kernels/sort.h"
#include "kernels/sort_keys.h"
#include "tensor/parallel.h"

namespace glia::cpu {
namespace {

// x as lists of n along the axis, (outer, n, inner).
struct Lists {
  int64_t outer, n, inner;
  Lists(const Shape& x, int given_axis) {
    const int axis = normalize_axis(given_axis, x.rank(), "sort");
    outer = x.product(0, axis);
    n = x[axis];
    inner = x.product(axis + 1, x.rank());
  }
  int64_t count() const { return outer * inner; }
  int64_t grain() const { return std::max<int64_t>(1, 4096 / std::max<int64_t>(1, n)); }
};

// The first k of every list in sorted order.
void sort_lists(const Tensor& x, int axis, int64_t k, bool descending, Tensor& values, Tensor& indices) {
  const Lists s(x.shape(), axis);
  GLIA_CHECK(s.n <= UINT32_MAX, "sort: a list of {} is too long", s.n);
  const float* from = x.data<float>();
  float* to = values.data<float>();
  int64_t* places = indices.data<int64_t>();
  parallel_for(s.count(), s.grain(), [&](int64_t begin, int64_t end) {
    std::vector<uint64_t> keys(static_cast<size_t>(s.n)), scratch(static_cast<size_t>(s.n));
    for (int64_t list = begin; list < end; ++list) {
      const int64_t o = list / s.inner, c = list % s.inner;
      const float* column = from + o * s.n * s.inner + c;
      for (int64_t i = 0; i < s.n; ++i) keys[static_cast<size_t>(i)] = sort_key(column[i * s.inner], uint32_t(i), descending);
      if (k * 8 < s.n) {
        sort_smallest_keys(keys, static_cast<size_t>(k));
      } else {
        sort_keys(keys, scratch);
      }
      for (int64_t i = 0; i < k; ++i) {
        const int64_t place = place_of(keys[static_cast<size_t>(i)]), at = (o * k + i) * s.inner + c;
        to[at] = column[place * s.inner];
        places[at] = place;
      }
    }
  });
}

void sort_lists_backward(int axis, const Tensor& indices, const Tensor& dvalues, Tensor& dx) {
  const Lists s(dx.shape(), axis);
  if (s.count() == 0) return;
  const int64_t k = indices.size() / s.count();
  const int64_t* places = indices.data<int64_t>();
  const float* g = dvalues.data<float>();
  float* to = dx.data<float>();
  parallel_for(s.outer, std::max<int64_t>(1, s.grain() / s.inner), [&](int64_t begin, int64_t end) {
    std::fill(to + begin * s.n * s.inner, to + end * s.n * s.inner, 0.0f);
    for (int64_t o = begin; o < end; ++o) {
      for (int64_t i = 0; i < k; ++i) {
        const int64_t row = (o * k + i) * s.inner;
        for (int64_t c = 0; c < s.inner; ++c) to[(o * s.n + places[row + c]) * s.inner + c] = g[row + c];
      }
    }
  });
}

}  // namespace

void sort(const Sort& op, const Tensor& x, Tensor& values, Tensor& indices) {
  sort_lists(x, op.axis, x.dim(normalize_axis(op.axis, x.rank(), "sort")), op.descending, values, indices);
}
void sort_backward(const Sort& op, const Tensor&, const Tensor&, const Tensor& indices, const Tensor& dvalues, Tensor* dx) {
  if (dx) sort_lists_backward(op.axis, indices, dvalues, *dx);
}

void topk(const TopK& op, const Tensor& x, Tensor& values, Tensor& indices) {
  sort_lists(x, op.axis, op.k, op.largest, values, indices);
}
void topk_backward(const TopK& op, const Tensor&, const Tensor&, const Tensor& indices, const Tensor& dvalues, Tensor* dx) {
  if (dx) sort_lists_backward(op.axis, indices, dvalues, *dx);
}

}  // namespace glia::cpu
