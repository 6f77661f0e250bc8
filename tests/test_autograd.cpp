// The tape itself; the gradients of single ops are in the case table (tests/op_cases.h).
#include <doctest/doctest.h>

#include <vector>

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

TEST_CASE("recomputed parts keep their inputs alone and give the same gradients to the bit") {
  Tensor w = Tensor::from<double>({3}, {0.3, -2.0, 1.5});
  require_grad(w);
  int runs = 0;
  const Recomputed part = [&](std::vector<Tensor> in) {
    ++runs;
    return apply(Mul{}, apply(Relu{}, apply(Mul{}, in[0], w)), apply(Relu{}, in[1]));
  };
  const auto gradients = [&](bool again) {
    set_recomputing(again);
    Tensor x = Tensor::from<double>({3}, {-1.0, 0.5, 2.0}), unused = Tensor::from<double>({3}, {1.0, -1.0, 0.1});
    require_grad(x);
    zero_grad(w);
    Tensor y = recompute(part, {apply(Mul{}, x, x), x});
    y = recompute(part, {y, unused});  // an input without gradient
    backward(apply(Add{}, y, x), Tensor::from<double>({3}, {1.0, 10.0, 0.7}));
    set_recomputing(false);
    std::vector<double> all;
    for (const Tensor& t : {grad_of(x), grad_of(w)})
      for (const double value : t.values<double>()) all.push_back(value);
    return all;
  };
  const std::vector<double> kept = gradients(false);
  CHECK(runs == 2);
  CHECK(gradients(true) == kept);
  CHECK(runs == 2 + 4);
  {  // nothing is recorded where nothing wants a gradient
    const NoGrad no_grad;
    set_recomputing(true);
    CHECK_FALSE(wants_grad(recompute(part, {w, w})));
    set_recomputing(false);
  }
}

TEST_SUITE_END();
