#include "kernels/resize.h"
#include "tests/parity.h"

namespace glia::tests {
namespace {

PARITY_OP(resize) {
  const std::string mode = c.text("mode", "");
  const auto size = c.integers("size");
  const double factor = c.number("scale_factor", 0);
  const Resize op{.mode = mode == "nearest"         ? ResizeMode::nearest
                          : mode == "nearest-exact" ? ResizeMode::nearest_exact
                                                    : ResizeMode::bilinear,
                  .size = {size.at(0), size.at(1)},
                  .align_corners = c.flag("align_corners", false),
                  .antialias = c.flag("antialias", false),
                  .scale_factor = {factor, factor}};
  const Tensor x = c.grad_input("x", to_nhwc);
  const Tensor y = apply(op, x);
  c.check("y", y, to_nchw);
  c.backward(y, "y", to_nhwc);
  c.check_grad("x", x, to_nchw);
}

}  // namespace
}  // namespace glia::tests
