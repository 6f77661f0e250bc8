#include "kernels/upsample_conv.h"
#include "tests/op_cases.h"

namespace glia::tests {
namespace {

void upsample_conv_cases(OpCases& cases) {
  const auto add = [&](const char* label, const Shape& x, int64_t k, int64_t r, std::array<int64_t, 4> pad, bool bias,
                       bool relu) {
    const UpsampleConv2d op{.conv = {.pad = pad, .activation = relu ? Activation::relu : Activation::none}};
    cases.push_back(op_case(label, op, {normal(x), normal({k, r, r, x[3]}), bias ? normal({k}) : absent()}, 5e-5));
  };
  const std::array<int64_t, 4> keras{0, 0, 1, 1}, same{1, 1, 1, 1}, none{};
  add("2x2", {1, 4, 5, 3}, 2, 2, keras, true, false);
  add("2x2 relu", {2, 3, 4, 8}, 4, 2, keras, true, true);
  add("2x2 no bias", {1, 6, 3, 5}, 7, 2, keras, false, false);
  add("2x2 one pixel", {1, 1, 1, 1}, 1, 2, keras, true, true);
  add("2x2 empty batch", {0, 2, 2, 3}, 4, 2, keras, true, false);
  add("2x2 wide", {2, 9, 7, 33}, 17, 2, keras, true, true);
  add("2x2 one row", {1, 1, 7, 16}, 16, 2, keras, true, false);
  add("2x2 one column", {3, 5, 1, 16}, 32, 2, keras, true, true);
  add("1x1", {1, 3, 4, 6}, 5, 1, none, true, true);
  add("3x3", {2, 5, 3, 4}, 9, 3, same, true, true);
}
const RegisterOpCases registered(upsample_conv_cases);

}  // namespace
}  // namespace glia::tests
