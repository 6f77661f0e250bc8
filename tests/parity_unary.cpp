// Parity of element-wise ops, softmax and dropout. They know no layout: tensors stay as stored.
#include "kernels/binary.h"
#include "kernels/dropout.h"
#include "kernels/softmax.h"
#include "kernels/unary.h"
#include "tests/parity.h"

namespace glia::tests {
namespace {

template <class Op>
void check_unary(const ParityCase& c, const Op& op) {
  const Tensor x = c.grad_input("x");
  const Tensor y = apply(op, x);
  c.check("y", y);
  c.backward(y, "y");
  if (c.has("gin/x")) c.check_grad("x", x);
}

template <class Op>
void check_binary(const ParityCase& c, const Op& op) {
  const Tensor a = c.grad_input("a"), b = c.grad_input("b");
  const Tensor y = apply(op, a, b);
  c.check("y", y);
  c.backward(y, "y");
  c.check_grad("a", a);
  c.check_grad("b", b);
}

PARITY_OP(relu) { check_unary(c, Relu{}); }
PARITY_OP(leaky_relu) { check_unary(c, LeakyRelu{.slope = c.number("slope", 0.01)}); }
PARITY_OP(elu) { check_unary(c, Elu{.alpha = c.number("alpha", 1)}); }
PARITY_OP(gelu) { check_unary(c, Gelu{.tanh_approximation = c.text("approximate", "none") == "tanh"}); }
PARITY_OP(silu) { check_unary(c, Silu{}); }
PARITY_OP(sigmoid) { check_unary(c, Sigmoid{}); }
PARITY_OP(tanh) { check_unary(c, Tanh{}); }
PARITY_OP(abs) { check_unary(c, Abs{}); }
PARITY_OP(square) { check_unary(c, Square{}); }
PARITY_OP(neg) { check_unary(c, Neg{}); }
PARITY_OP(exp) { check_unary(c, Exp{}); }
PARITY_OP(log) { check_unary(c, Log{}); }
PARITY_OP(sqrt) { check_unary(c, Sqrt{}); }
PARITY_OP(clamp) { check_unary(c, Clamp{.min = c.number("min", -INFINITY), .max = c.number("max", INFINITY)}); }
PARITY_OP(softmax) { check_unary(c, Softmax{.axis = int(c.integer("axis", -1))}); }
PARITY_OP(log_softmax) { check_unary(c, LogSoftmax{.axis = int(c.integer("axis", -1))}); }

PARITY_OP(add) { check_binary(c, Add{}); }
PARITY_OP(sub) { check_binary(c, Sub{}); }
PARITY_OP(mul) { check_binary(c, Mul{}); }
PARITY_OP(div) { check_binary(c, Div{}); }
PARITY_OP(maximum) { check_binary(c, Maximum{}); }
PARITY_OP(minimum) { check_binary(c, Minimum{}); }

PARITY_OP(dropout) {
  const Tensor x = c.grad_input("x");
  const Tensor y = apply(MaskedDropout{.p = c.number("p", 0.5)}, x, c.input("mask"));
  c.check("y", y);
  c.backward(y, "y");
  c.check_grad("x", x);
}

}  // namespace
}  // namespace glia::tests
