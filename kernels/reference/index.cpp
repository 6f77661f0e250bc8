#include "kernels/index.h"

namespace glia::reference {
namespace {

// An axis seen from outside and inside: x is (outer, size, inner).
struct Split {
  int64_t outer, size, inner;
  Split(const Shape& x, int given_axis) {
    const int axis = normalize_axis(given_axis, x.rank(), "index");
    outer = x.product(0, axis);
    size = x[axis];
    inner = x.product(axis + 1, x.rank());
  }
};

// Calls f(i, j) for element i of the shape `like` (x's but for the axis) and its element j of x by an index per element ...
template <class F>
void for_each_gathered(const Shape& x, const Tensor& index, int axis, const char* op, F f) {
  const Split from(x, axis), to(index.shape(), axis);
  detail::check_indices(index, from.size, op);
  const int64_t* at = index.data<int64_t>();
  for (int64_t i = 0; i < index.size(); ++i) {
    const int64_t o = i / (to.size * to.inner), c = i % to.inner;
    f(i, (o * from.size + at[i]) * from.inner + c);
  }
}

// ... or by an index per place on the axis.
template <class F>
void for_each_selected(const Shape& x, const Tensor& index, int axis, const char* op, F f) {
  const Split from(x, axis);
  detail::check_indices(index, from.size, op);
  const int64_t* at = index.data<int64_t>();
  const int64_t m = index.size();
  for (int64_t o = 0; o < from.outer; ++o)
    for (int64_t i = 0; i < m; ++i)
      for (int64_t c = 0; c < from.inner; ++c) f((o * m + i) * from.inner + c, (o * from.size + at[i]) * from.inner + c);
}

void fill_zero(const Tensor& t) { t.fill(0); }

}  // namespace

void gather(const Gather& op, const Tensor& x, const Tensor& index, Tensor& y) {
  const size_t width = size_of(x.dtype());
  for_each_gathered(x.shape(), index, op.axis, "gather",
                    [&](int64_t i, int64_t j) { copy_bytes(y.raw() + size_t(i) * width, x.raw() + size_t(j) * width, width); });
}

void gather_backward(const Gather& op, const Tensor&, const Tensor& index, const Tensor&, const Tensor& dy, Tensor* dx, Tensor*) {
  if (!dx) return;
  fill_zero(*dx);
  dispatch_floating(dy.dtype(), "gather_backward", [&]<class T>(T) {
    for_each_gathered(dx->shape(), index, op.axis, "gather", [&](int64_t i, int64_t j) { dx->data<T>()[j] += dy.data<T>()[i]; });
  });
}

void index_select(const IndexSelect& op, const Tensor& x, const Tensor& index, Tensor& y) {
  const size_t width = size_of(x.dtype());
  for_each_selected(x.shape(), index, op.axis, "index_select",
                    [&](int64_t i, int64_t j) { copy_bytes(y.raw() + size_t(i) * width, x.raw() + size_t(j) * width, width); });
}

void index_select_backward(const IndexSelect& op, const Tensor&, const Tensor& index, const Tensor&, const Tensor& dy, Tensor* dx,
                           Tensor*) {
  if (!dx) return;
  fill_zero(*dx);
  dispatch_floating(dy.dtype(), "index_select_backward", [&]<class T>(T) {
    for_each_selected(dx->shape(), index, op.axis, "index_select",
                      [&](int64_t i, int64_t j) { dx->data<T>()[j] += dy.data<T>()[i]; });
  });
}

void scatter_add(const ScatterAdd& op, const Tensor& x, const Tensor& index, const Tensor& src, Tensor& y) {
  y.copy_from(x);
  dispatch_floating(x.dtype(), "scatter_add", [&]<class T>(T) {
    for_each_gathered(x.shape(), index, op.axis, "scatter_add",
                      [&](int64_t i, int64_t j) { y.data<T>()[j] += src.data<T>()[i]; });
  });
}

void scatter_add_backward(const ScatterAdd& op, const Tensor&, const Tensor& index, const Tensor&, const Tensor&,
                          const Tensor& dy, Tensor* dx, Tensor*, Tensor* dsrc) {
  if (dx) dx->copy_from(dy);
  if (dsrc) gather(Gather{op.axis}, dy, index, *dsrc);
}

void index_add(const IndexAdd& op, const Tensor& x, const Tensor& index, const Tensor& src, Tensor& y) {
  y.copy_from(x);
  dispatch_floating(x.dtype(), "index_add", [&]<class T>(T) {
    for_each_selected(x.shape(), index, op.axis, "index_add", [&](int64_t i, int64_t j) { y.data<T>()[j] += src.data<T>()[i]; });
  });
}

void index_add_backward(const IndexAdd& op, const Tensor&, const Tensor& index, const Tensor&, const Tensor&, const Tensor& dy,
                        Tensor* dx, Tensor*, Tensor* dsrc) {
  if (dx) dx->copy_from(dy);
  if (dsrc) index_select(IndexSelect{op.axis}, dy, index, *dsrc);
}

void embedding(const Embedding&, const Tensor& w, const Tensor& index, Tensor& y) {
  Tensor rows = y.reshape({index.size(), w.dim(1)});
  index_select(IndexSelect{0}, w, index.reshape({index.size()}), rows);
}

void embedding_backward(const Embedding& op, const Tensor&, const Tensor& index, const Tensor&, const Tensor& dy, Tensor* dw,
                        Tensor*) {
  if (!dw) return;
  const int64_t n = index.size(), width = dw->dim(1);
  index_select_backward(IndexSelect{0}, {}, index.reshape({n}), {}, dy.reshape({n, width}), dw, nullptr);
  if (op.padding_index >= 0 && op.padding_index < dw->dim(0)) dw->slice(op.padding_index, op.padding_index + 1).fill(0);
}

namespace {

// Calls f(i, m, a, b): element i of y and the elements of the mask, a and b that it is made of.
template <class F>
void for_each_broadcast(const Shape& y, const Shape& mask, const Shape& a, const Shape& b, F f) {
  const auto ms = detail::broadcast_strides(mask, y), as = detail::broadcast_strides(a, y), bs = detail::broadcast_strides(b, y);
  std::array<int64_t, Shape::max_rank> at{};
  for (int64_t i = 0, n = y.size(); i < n; ++i) {
    int64_t m = 0, j = 0, k = 0;
    for (size_t d = 0; d < size_t(y.rank()); ++d) {
      m += at[d] * ms[d];
      j += at[d] * as[d];
      k += at[d] * bs[d];
    }
    f(i, m, j, k);
    for (int d = y.rank() - 1; d >= 0; --d) {
      if (++at[size_t(d)] < y[d]) break;
      at[size_t(d)] = 0;
    }
  }
}

}  // namespace

void where(const Where&, const Tensor& mask, const Tensor& a, const Tensor& b, Tensor& y) {
  const size_t width = size_of(y.dtype());
  const std::byte* chosen = mask.raw();  // uint8 and boolean are one byte
  for_each_broadcast(y.shape(), mask.shape(), a.shape(), b.shape(), [&](int64_t i, int64_t m, int64_t j, int64_t k) {
    const bool yes = chosen[m] != std::byte{0};
    copy_bytes(y.raw() + size_t(i) * width, yes ? a.raw() + size_t(j) * width : b.raw() + size_t(k) * width, width);
  });
}

void where_backward(const Where&, const Tensor& mask, const Tensor&, const Tensor&, const Tensor&, const Tensor& dy, Tensor*,
                    Tensor* da, Tensor* db) {
  const std::byte* chosen = mask.raw();
  const Shape scalar;
  dispatch_floating(dy.dtype(), "where_backward", [&]<class T>(T) {
    if (da) fill_zero(*da);
    if (db) fill_zero(*db);
    for_each_broadcast(dy.shape(), mask.shape(), da ? da->shape() : scalar, db ? db->shape() : scalar,
                       [&](int64_t i, int64_t m, int64_t j, int64_t k) {
                         const bool yes = chosen[m] != std::byte{0};
                         if (yes && da) da->data<T>()[j] += dy.data<T>()[i];
                         if (!yes && db) db->data<T>()[k] += dy.data<T>()[i];
                       });
  });
}

}  // namespace glia::reference
