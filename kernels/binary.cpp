#include "kernels/binary.h"

namespace glia {

Shape broadcast_shape(const Shape& a, const Shape& b, const char* op) {
  Shape whole = a.rank() >= b.rank() ? a : b;
  for (int i = 1; i <= whole.rank(); ++i) {
    const int64_t m = i <= a.rank() ? a[-i] : 1, n = i <= b.rank() ? b[-i] : 1;
    GLIA_CHECK(m == n || m == 1 || n == 1, "{}: {} and {} do not broadcast: sizes {} and {} at axis {} from the end", op, a, b, m,
               n, i);
    whole.set(-i, m == 1 ? n : m);
  }
  return whole;
}

std::array<int64_t, Shape::max_rank> broadcast_strides(const Shape& part, const Shape& whole) {
  std::array<int64_t, Shape::max_rank> strides{};
  int64_t step = 1;
  for (int i = 1; i <= part.rank(); ++i) {
    if (part[-i] != 1) strides[size_t(whole.rank() - i)] = step;
    step *= part[-i];
  }
  return strides;
}

TensorSpec detail::infer_binary(const char* op, const Tensor& a, const Tensor& b) {
  GLIA_CHECK(a.dtype() == b.dtype() && is_floating(a.dtype()), "{}: element types {} and {}, want one floating type", op,
             name_of(a.dtype()), name_of(b.dtype()));
  return {broadcast_shape(a.shape(), b.shape(), op), a.dtype()};
}

}  // namespace glia
