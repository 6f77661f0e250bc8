#include <algorithm>

#include "kernels/pool.h"
#include "tests/parity.h"

namespace glia::tests {
namespace {

template <class Op>
void check_pool(const ParityCase& c, const Op& op) {
  const Tensor x = c.grad_input("x", to_nhwc);
  const Tensor y = apply(op, x);
  c.check("y", y, to_nchw);
  c.backward(y, "y", to_nhwc);
  c.check_grad("x", x, to_nchw);
}

template <class Op>
Op window(const ParityCase& c) {
  Op op;
  std::ranges::copy(c.integers("kernel"), op.kernel.begin());
  std::ranges::copy(c.integers("stride"), op.stride.begin());
  std::ranges::copy(c.integers("pad"), op.pad.begin());
  op.ceil_mode = c.flag("ceil_mode", false);
  return op;
}

PARITY_OP(max_pool2d) { check_pool(c, window<MaxPool2d>(c)); }

PARITY_OP(avg_pool2d) {
  auto op = window<AvgPool2d>(c);
  op.count_include_pad = c.flag("count_include_pad", true);
  check_pool(c, op);
}

PARITY_OP(global_avg_pool) { check_pool(c, GlobalAvgPool{}); }

}  // namespace
}  // namespace glia::tests
