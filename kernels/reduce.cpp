#include "kernels/reduce.h"

namespace glia {

unsigned axis_set(const std::vector<int>& axes, int rank, const char* op) {
  if (axes.empty()) return (1u << rank) - 1;
  unsigned set = 0;
  for (const int given : axes) {
    const int axis = normalize_axis(given, rank, op);
    GLIA_CHECK(!(set >> axis & 1u), "{}: axis {} is given twice", op, axis);
    set |= 1u << axis;
  }
  return set;
}

Shape reduced_shape(const Shape& x, unsigned axes, bool keepdim) {
  std::array<int64_t, Shape::max_rank> dims{};
  size_t rank = 0;
  for (int i = 0; i < x.rank(); ++i) {
    const bool reduced = axes >> i & 1u;
    if (!reduced || keepdim) dims[rank++] = reduced ? 1 : x[i];
  }
  return Shape(std::span<const int64_t>(dims.data(), rank));
}

namespace detail {

TensorSpec infer_reduction(const Tensor& x, const std::vector<int>& axes, bool keepdim, const char* op) {
  GLIA_CHECK(x.dtype() == DType::float32 || x.dtype() == DType::float64, "{}: x is {}, want float32 or float64", op,
             name_of(x.dtype()));
  return {reduced_shape(x.shape(), axis_set(axes, x.rank(), op), keepdim), x.dtype()};
}

TensorSpec infer_extreme(const Tensor& x, const std::vector<int>& axes, bool keepdim, const char* op) {
  const Shape y = reduced_shape(x.shape(), axis_set(axes, x.rank(), op), keepdim);
  GLIA_CHECK(x.size() > 0 || y.size() == 0, "{}: x is {}: nothing to choose from", op, x.shape());
  return {y, x.dtype()};
}

}  // namespace detail

TensorSpec ArgMax::infer(const Tensor& x) const {
  return {detail::infer_extreme(x, {axis}, keepdim, "argmax").shape, DType::int64};
}

TensorSpec ArgMin::infer(const Tensor& x) const {
  return {detail::infer_extreme(x, {axis}, keepdim, "argmin").shape, DType::int64};
}

}  // namespace glia
