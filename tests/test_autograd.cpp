// The tape itself; the gradients of single ops are in the case table (tests/op_cases.h).
#include <doctest/doctest.h>

#include "autograd/apply.h"
#include "kernels/unary.h"

using namespace glia;

TEST_SUITE_BEGIN("autograd");

TEST_CASE("a chain of ops, a second backward and NoGrad") {
  Tensor x = Tensor::from<double>({3}, {-1.0, 0.5, 2.0});
  require_grad(x);
  const Tensor y = apply(Square{}, apply(Relu{}, x));
  backward(y, Tensor::full({3}, 1.0, DType::float64));
  const auto g = grad_of(x).values<double>();
  CHECK(g[0] == 0.0);
  CHECK(g[1] == doctest::Approx(1.0));
  CHECK(g[2] == doctest::Approx(4.0));
  CHECK_THROWS_WITH(backward(y, Tensor::full({3}, 1.0, DType::float64)),
                    "backward: this graph was used and freed by an earlier backward; run forward again");
  const NoGrad no_grad;
  CHECK_FALSE(wants_grad(apply(Relu{}, x)));
}

TEST_SUITE_END();
