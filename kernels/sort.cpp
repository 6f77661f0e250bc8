#include "kernels/sort.h"

namespace glia {
namespace {

void check_type(const Tensor& x, const char* op) {
  GLIA_CHECK(x.dtype() == DType::float32 || x.dtype() == DType::float64, "{}: x is {}, want float32 or float64", op,
             name_of(x.dtype()));
}

}  // namespace

std::array<TensorSpec, 2> Sort::infer(const Tensor& x) const {
  check_type(x, "sort");
  normalize_axis(axis, x.rank(), "sort");
  return {TensorSpec{x.shape(), x.dtype()}, TensorSpec{x.shape(), DType::int64}};
}

std::array<TensorSpec, 2> TopK::infer(const Tensor& x) const {
  check_type(x, "topk");
  const int at = normalize_axis(axis, x.rank(), "topk");
  GLIA_CHECK(k >= 0 && k <= x.dim(at), "topk: k {} of {} along axis {}, want 0 to {}", k, x.shape(), at, x.dim(at));
  Shape shape = x.shape();
  shape.set(at, k);
  return {TensorSpec{shape, x.dtype()}, TensorSpec{shape, DType::int64}};
}

}  // namespace glia
