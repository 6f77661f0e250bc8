#include <doctest/doctest.h>

#include "autograd/view.h"
#include "kernels/reduce.h"
#include "kernels/shape.h"
#include "tests/parity.h"

namespace glia::tests {
namespace {

std::vector<int> axes_of(const ParityCase& c) {
  const auto list = c.integers("axes");
  return {list.begin(), list.end()};
}

// An op of one input, with gradient.
template <class Op>
void one_input(const ParityCase& c, const Op& op) {
  const Tensor x = c.grad_input("x");
  const Tensor y = apply(op, x);
  c.check("y", y);
  c.backward(y, "y");
  c.check_grad("x", x);
}

}  // namespace

PARITY_OP(sum) { one_input(c, Sum{.axes = axes_of(c), .keepdim = c.flag("keepdim", false)}); }
PARITY_OP(mean) { one_input(c, Mean{.axes = axes_of(c), .keepdim = c.flag("keepdim", false)}); }
PARITY_OP(max) { one_input(c, Max{.axes = axes_of(c), .keepdim = c.flag("keepdim", false)}); }
PARITY_OP(min) { one_input(c, Min{.axes = axes_of(c), .keepdim = c.flag("keepdim", false)}); }
PARITY_OP(var) {
  one_input(c, Var{.axes = axes_of(c), .keepdim = c.flag("keepdim", false), .unbiased = c.flag("unbiased", true)});
}
PARITY_OP(argmax) {
  c.check("y", apply(ArgMax{.axis = int(c.integer("axis", 0)), .keepdim = c.flag("keepdim", false)}, c.input("x")));
}
PARITY_OP(argmin) {
  c.check("y", apply(ArgMin{.axis = int(c.integer("axis", 0)), .keepdim = c.flag("keepdim", false)}, c.input("x")));
}

PARITY_OP(concat) {
  std::vector<Tensor> xs;
  while (c.has(fmt::format("in/x{}", xs.size()))) xs.push_back(c.grad_input(fmt::format("x{}", xs.size())));
  REQUIRE(xs.size() >= 2);
  const Tensor y = apply_list(Concat{.axis = int(c.integer("axis", 0))}, xs);
  c.check("y", y);
  c.backward(y, "y");
  for (size_t i = 0; i < xs.size(); ++i) c.check_grad(fmt::format("x{}", i), xs[i]);
}

PARITY_OP(slice) { one_input(c, Slice{.start = c.integers("start"), .stop = c.integers("stop"), .step = c.integers("step")}); }

PARITY_OP(pad) {
  Pad op{.pads = {}, .mode = parse_pad_mode(c.text("mode", "")), .value = c.number("value", 0)};
  for (const auto& pair : c.params()["pads"].GetArray()) op.pads.push_back({pair[0].GetInt64(), pair[1].GetInt64()});
  one_input(c, op);
}

PARITY_OP(permute) { one_input(c, Permute{.axes = axes_of(c)}); }
PARITY_OP(flip) { one_input(c, Flip{.axes = axes_of(c)}); }

PARITY_OP(reshape) {
  const Tensor x = c.grad_input("x");
  const Tensor y = reshape(x, c.integers("shape"));
  CHECK(y.shares_data_with(x));
  CHECK(y.shape() == c.load("out/y").shape());
  c.check("y", y);
  c.backward(y, "y");
  c.check_grad("x", x);
}

}  // namespace glia::tests
