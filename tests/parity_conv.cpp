// Convolutions, transposed convolutions and matrix products against PyTorch's.
#include "kernels/conv.h"
#include "kernels/matmul.h"
#include "tests/parity.h"

namespace glia::tests {
namespace {

template <size_t N>
std::array<int64_t, N> array_of(const ParityCase& c, const char* key) {
  const std::vector<int64_t> list = c.integers(key);
  std::array<int64_t, N> values{};
  for (size_t i = 0; i < N; ++i) values[i] = list.at(i);
  return values;
}

}  // namespace

PARITY_OP(conv2d) {
  const Conv2d op{.stride = array_of<2>(c, "stride"),
                  .pad = array_of<4>(c, "pad"),
                  .dilation = array_of<2>(c, "dilation"),
                  .groups = c.integer("groups", 1)};
  const Tensor x = c.grad_input("x", to_nhwc), w = c.grad_input("w", to_nhwc), b = c.grad_input("b");
  const Tensor y = apply(op, x, w, b, Tensor(), Tensor());
  c.check("y", y, to_nchw);
  c.backward(y, "y", to_nhwc);
  c.check_grad("x", x, to_nchw);
  c.check_grad("w", w, to_nchw);
  c.check_grad("b", b);
}

PARITY_OP(conv_transpose2d) {
  const ConvTranspose2d op{.stride = array_of<2>(c, "stride"),
                           .pad = array_of<4>(c, "pad"),
                           .output_padding = array_of<2>(c, "output_padding"),
                           .dilation = array_of<2>(c, "dilation"),
                           .groups = c.integer("groups", 1)};
  const Tensor x = c.grad_input("x", to_nhwc), w = c.grad_input("w", to_nhwc), b = c.grad_input("b");
  const Tensor y = apply(op, x, w, b);
  c.check("y", y, to_nchw);
  c.backward(y, "y", to_nhwc);
  c.check_grad("x", x, to_nchw);
  c.check_grad("w", w, to_nchw);
  c.check_grad("b", b);
}

PARITY_OP(linear) {
  const Tensor x = c.grad_input("x"), w = c.grad_input("w"), b = c.grad_input("b");
  const Tensor y = apply(Linear{}, x, w, b);
  c.check("y", y);
  c.backward(y, "y");
  c.check_grad("x", x);
  c.check_grad("w", w);
  c.check_grad("b", b);
}

PARITY_OP(matmul) {
  const Tensor a = c.grad_input("a"), b = c.grad_input("b");
  const Tensor y = apply(Matmul{c.flag("transpose_a", false), c.flag("transpose_b", false)}, a, b);
  c.check("y", y);
  c.backward(y, "y");
  c.check_grad("a", a);
  c.check_grad("b", b);
}

}  // namespace glia::tests
