// The tape itself; the gradients of single ops are in the case table (tests/op_cases.h).
#include <doctest/doctest.h>

#include "autograd/apply.h"
#include "kernels/binary.h"
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

TEST_CASE("gradients of a value used several times add up, by one op and by several") {
  Tensor x = Tensor::from<double>({3}, {-1.0, 0.5, 2.0});
  require_grad(x);
  const Tensor y = apply(Add{}, apply(Mul{}, x, x), apply(Relu{}, x));
  for (int round = 1; round <= 2; ++round) {  // and over several backward passes
    backward(round == 1 ? y : apply(Add{}, apply(Mul{}, x, x), apply(Relu{}, x)), Tensor::full({3}, 1.0, DType::float64));
    const auto g = grad_of(x).values<double>();
    CHECK(g[0] == doctest::Approx(-2.0 * round));
    CHECK(g[1] == doctest::Approx(2.0 * round));
    CHECK(g[2] == doctest::Approx(5.0 * round));
  }
  zero_grad(x);
  CHECK_FALSE(grad_of(x));
}

TEST_SUITE_END();
