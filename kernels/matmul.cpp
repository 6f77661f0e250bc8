// Shape rules of the matrix products.
#include "kernels/matmul.h"

#include <algorithm>

namespace glia {

TensorSpec Linear::infer(const Tensor& x, const Tensor& w, const Tensor& bias) const {
  GLIA_CHECK(x && x.rank() >= 1 && w && w.rank() == 2 && x.dim(-1) == w.dim(1),
             "linear: x is {}, w is {}: want (..., I) and (O, I)", x.shape(), w.shape());
  GLIA_CHECK(x.dtype() == w.dtype(), "linear: x is {}, w is {}", name_of(x.dtype()), name_of(w.dtype()));
  GLIA_CHECK(!bias || (bias.shape() == Shape{w.dim(0)} && bias.dtype() == x.dtype()), "linear: bias is {} {}, want {} ({})",
             name_of(bias.dtype()), bias.shape(), name_of(x.dtype()), w.dim(0));
  Shape shape = x.shape();
  shape.set(-1, w.dim(0));
  return {shape, x.dtype()};
}

namespace {

// Leading dimension i of y, counted from the left, in a shape that may have fewer of them: absent ones are 1.
int64_t leading(const Shape& s, int i, int rank) {
  const int own = i - (rank - s.rank());
  return own < 0 ? 1 : s[own];
}

}  // namespace

TensorSpec Matmul::infer(const Tensor& a, const Tensor& b) const {
  GLIA_CHECK(a && b && a.rank() >= 2 && b.rank() >= 2, "matmul: a is {}, b is {}: want rank 2 or more", a.shape(), b.shape());
  GLIA_CHECK(a.dtype() == b.dtype(), "matmul: a is {}, b is {}", name_of(a.dtype()), name_of(b.dtype()));
  const int64_t inner_a = a.dim(transpose_a ? -2 : -1), inner_b = b.dim(transpose_b ? -1 : -2);
  GLIA_CHECK(inner_a == inner_b, "matmul: a is {}{}, b is {}{}: inner sizes {} and {}", a.shape(),
             transpose_a ? " transposed" : "", b.shape(), transpose_b ? " transposed" : "", inner_a, inner_b);
  Shape shape = a.rank() >= b.rank() ? a.shape() : b.shape();
  for (int i = 0; i < shape.rank() - 2; ++i) {
    const int64_t of_a = leading(a.shape(), i, shape.rank()), of_b = leading(b.shape(), i, shape.rank());
    GLIA_CHECK(of_a == of_b || of_a == 1 || of_b == 1, "matmul: leading axes of a {} and b {} do not broadcast", a.shape(),
               b.shape());
    shape.set(i, of_a == 1 ? of_b : of_a);
  }
  shape.set(-2, a.dim(transpose_a ? -1 : -2));
  shape.set(-1, b.dim(transpose_b ? -2 : -1));
  return {shape, a.dtype()};
}

MatmulPlan matmul_plan(const Matmul& op, const Shape& a, const Shape& b) {
  MatmulPlan plan;
  plan.m = a[op.transpose_a ? -1 : -2];
  plan.n = b[op.transpose_b ? -2 : -1];
  plan.inner = a[op.transpose_a ? -2 : -1];
  const int rank = std::max(a.rank(), b.rank());
  plan.products.push_back({0, 0, 0});
  for (int i = 0; i < rank - 2; ++i) {  // each axis multiplies the list; a size of 1 does not move the index
    const int64_t of_a = leading(a, i, rank), of_b = leading(b, i, rank), size = of_a == 1 ? of_b : of_a;
    std::vector<MatmulPlan::Triple> longer;
    for (const auto& t : plan.products)
      for (int64_t j = 0; j < size; ++j)
        longer.push_back({t.a * of_a + (of_a == 1 ? 0 : j), t.b * of_b + (of_b == 1 ? 0 : j), t.y * size + j});
    plan.products = std::move(longer);
  }
  return plan;
}

}  // namespace glia
