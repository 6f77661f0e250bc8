#include "kernels/concat_conv.h"
#include "tests/op_cases.h"

namespace glia::tests {
namespace {

void concat_conv_cases(OpCases& cases) {
  const auto add = [&](const char* label, const Shape& a, int64_t b, int64_t k, int64_t r, std::array<int64_t, 4> pad, bool bias,
                       bool relu, std::array<int64_t, 2> stride = {1, 1}) {
    const ConcatConv2d op{.conv = {.stride = stride, .pad = pad, .activation = relu ? Activation::relu : Activation::none}};
    cases.push_back(op_case(
        label, op, {normal(a), normal({a[0], a[1], a[2], b}), normal({k, r, r, a[3] + b}), bias ? normal({k}) : absent()}, 5e-5));
  };
  const std::array<int64_t, 4> same{1, 1, 1, 1}, none{};
  add("few channels", {1, 4, 5, 3}, 2, 4, 3, same, true, false);
  add("few channels, relu", {2, 5, 4, 3}, 5, 2, 3, same, true, true);
  add("16 and 16, relu", {2, 9, 11, 16}, 16, 16, 3, same, true, true);
  add("32 and 16, no bias", {1, 12, 8, 32}, 16, 20, 3, same, false, false);
  add("16 and 19", {1, 8, 9, 16}, 19, 33, 3, same, true, true);
  add("16 and 48 to 40", {1, 13, 14, 16}, 48, 40, 3, same, true, false);
  add("1x1", {2, 3, 4, 16}, 8, 5, 1, none, true, true);
  add("stride 2", {1, 6, 7, 16}, 16, 8, 3, same, true, false, {2, 2});
  add("no padding", {1, 7, 6, 32}, 32, 16, 3, none, true, true);
  add("empty batch", {0, 4, 4, 16}, 16, 16, 3, same, true, false);
  add("one pixel", {1, 1, 1, 1}, 1, 1, 3, same, true, true);
}
const RegisterOpCases registered(concat_conv_cases);

}  // namespace
}  // namespace glia::tests
