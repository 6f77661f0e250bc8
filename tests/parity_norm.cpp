#include "kernels/norm.h"
#include "tests/parity.h"

namespace glia::tests {
namespace {

void check_affine_gradients(const ParityCase& c, const Tensor& gamma, const Tensor& beta) {
  c.check_grad("gamma", gamma);
  c.check_grad("beta", beta);
}

PARITY_OP(batch_norm) {
  const Tensor x = c.grad_input("x", to_nhwc), gamma = c.grad_input("gamma"), beta = c.grad_input("beta");
  const Tensor running_mean = c.input("running_mean").clone(), running_variance = c.input("running_var").clone();
  const BatchNorm op{.eps = c.number("eps", 1e-5), .train = c.flag("train", true)};
  const auto [y, mean, variance] =
      op.train ? apply(op, x, gamma, beta, Tensor(), Tensor()) : apply(op, x, gamma, beta, running_mean, running_variance);
  c.check("y", y, to_nchw);
  c.backward(y, "y", to_nhwc);
  c.check_grad("x", x, to_nchw);
  check_affine_gradients(c, gamma, beta);
  if (!op.train) return;
  update_running_stats({.count = x.size() / x.dim(-1),
                        .momentum = c.number("momentum", 0.1),
                        .unbiased = c.text("running_var", "unbiased") == "unbiased"},
                       mean, variance, running_mean, running_variance);
  c.check("running_mean_new", running_mean);
  c.check("running_var_new", running_variance);
}

PARITY_OP(group_norm) {
  const Tensor x = c.grad_input("x", to_nhwc), gamma = c.grad_input("gamma"), beta = c.grad_input("beta");
  const Tensor y = apply(GroupNorm{.groups = c.integer("groups", 1), .eps = c.number("eps", 1e-5)}, x, gamma, beta)[0];
  c.check("y", y, to_nchw);
  c.backward(y, "y", to_nhwc);
  c.check_grad("x", x, to_nchw);
  check_affine_gradients(c, gamma, beta);
}

PARITY_OP(layer_norm) {
  const Tensor x = c.grad_input("x"), gamma = c.grad_input("gamma"), beta = c.grad_input("beta");
  const Tensor y = apply(LayerNorm{.axes = int(c.integers("axes").size()), .eps = c.number("eps", 1e-5)}, x, gamma, beta)[0];
  c.check("y", y);
  c.backward(y, "y");
  c.check_grad("x", x);
  check_affine_gradients(c, gamma, beta);
}

}  // namespace
}  // namespace glia::tests
