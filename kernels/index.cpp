#include "kernels/index.h"

#include <algorithm>

namespace glia {

namespace detail {

void check_indices(const Tensor& index, int64_t size, const char* op) {
  const int64_t* values = index.data<int64_t>();
  const int64_t n = index.size();
  uint64_t largest = 0;  // negative ones are large
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, static_cast<uint64_t>(values[i]));
  if (n == 0 || largest < static_cast<uint64_t>(size)) return;
  const int64_t i = std::find_if(values, values + n, [&](int64_t v) { return v < 0 || v >= size; }) - values;
  throw InternalError("{}: index {} at place {}, want 0 to {} (the axis has {} entries)", op, values[i], i, size - 1, size);
}

Shape broadcast_shape(const Shape& a, const Shape& b, const char* op) {
  const Shape& longer = a.rank() >= b.rank() ? a : b;
  const Shape& shorter = a.rank() >= b.rank() ? b : a;
  Shape y = longer;
  for (int i = 1; i <= shorter.rank(); ++i) {
    const int64_t m = longer[-i], n = shorter[-i];
    GLIA_CHECK(m == n || m == 1 || n == 1, "{}: {} and {} cannot be broadcast", op, a, b);
    y.set(-i, m == 1 ? n : m);
  }
  return y;
}

std::array<int64_t, Shape::max_rank> broadcast_strides(const Shape& x, const Shape& y) {
  std::array<int64_t, Shape::max_rank> strides{};
  int64_t running = 1;
  for (int i = 1; i <= x.rank(); ++i) {
    strides[static_cast<size_t>(y.rank() - i)] = x[-i] == 1 ? 0 : running;
    running *= x[-i];
  }
  return strides;
}

}  // namespace detail

namespace {

void check_index_type(const Tensor& index, const char* op) {
  GLIA_CHECK(index.dtype() == DType::int64, "{}: the index is {}, want int64", op, name_of(index.dtype()));
}

// `index` is like x but for the axis.
void check_like(const Tensor& x, const Tensor& index, int given_axis, const char* op) {
  check_index_type(index, op);
  const int axis = normalize_axis(given_axis, x.rank(), op);
  Shape want = x.shape();
  if (index.rank() == x.rank()) want.set(axis, index.dim(axis));
  GLIA_CHECK(index.shape() == want, "{}: the index is {}, want x's shape {} but for axis {}", op, index.shape(), x.shape(), axis);
}

// `index` is a list; the shape of x with its length on the axis.
Shape with_list(const Tensor& x, const Tensor& index, int axis, const char* op) {
  check_index_type(index, op);
  GLIA_CHECK(index.rank() == 1, "{}: the index is {}, want a list", op, index.shape());
  Shape shape = x.shape();
  shape.set(normalize_axis(axis, x.rank(), op), index.dim(0));
  return shape;
}

}  // namespace

TensorSpec Gather::infer(const Tensor& x, const Tensor& index) const {
  check_like(x, index, axis, "gather");
  return {index.shape(), x.dtype()};
}

TensorSpec IndexSelect::infer(const Tensor& x, const Tensor& index) const {
  return {with_list(x, index, axis, "index_select"), x.dtype()};
}

TensorSpec ScatterAdd::infer(const Tensor& x, const Tensor& index, const Tensor& src) const {
  check_like(x, index, axis, "scatter_add");
  GLIA_CHECK(same_shape(src, index) && src.dtype() == x.dtype(), "scatter_add: src is {} {}, want {} {} like the index",
             name_of(src.dtype()), src.shape(), name_of(x.dtype()), index.shape());
  return {x.shape(), x.dtype()};
}

TensorSpec IndexAdd::infer(const Tensor& x, const Tensor& index, const Tensor& src) const {
  const Shape want = with_list(x, index, axis, "index_add");
  GLIA_CHECK(src.shape() == want && src.dtype() == x.dtype(), "index_add: src is {} {}, want {} {}", name_of(src.dtype()),
             src.shape(), name_of(x.dtype()), want);
  return {x.shape(), x.dtype()};
}

TensorSpec Embedding::infer(const Tensor& w, const Tensor& index) const {
  check_index_type(index, "embedding");
  GLIA_CHECK(w.rank() == 2, "embedding: w is {}, want (entries, width)", w.shape());
  std::vector<int64_t> dims(index.shape().begin(), index.shape().end());
  dims.push_back(w.dim(1));
  return {Shape(std::span<const int64_t>(dims)), w.dtype()};
}

TensorSpec Where::infer(const Tensor& mask, const Tensor& a, const Tensor& b) const {
  GLIA_CHECK(mask.dtype() == DType::uint8 || mask.dtype() == DType::boolean, "where: the mask is {}, want uint8 or boolean",
             name_of(mask.dtype()));
  GLIA_CHECK(a.dtype() == b.dtype(), "where: a is {}, b {}, want the same type", name_of(a.dtype()), name_of(b.dtype()));
  return {detail::broadcast_shape(detail::broadcast_shape(a.shape(), b.shape(), "where"), mask.shape(), "where"), a.dtype()};
}

}  // namespace glia
