#include "kernels/resize.h"
#include "tests/op_cases.h"

namespace glia::tests {
namespace {

struct Sizes {
  Shape x;
  std::array<int64_t, 2> size;
};

const std::vector<Sizes> sizes{
    {{1, 1, 1, 1}, {1, 1}},  {{1, 5, 7, 3}, {10, 14}}, {{2, 4, 6, 16}, {8, 12}},    {{1, 3, 5, 70}, {6, 10}},
    {{0, 3, 3, 2}, {6, 6}},  {{1, 5, 7, 3}, {13, 9}},  {{2, 13, 16, 3}, {5, 6}},    {{2, 13, 16, 4}, {23, 8}},
    {{1, 5, 7, 17}, {1, 1}}, {{1, 1, 1, 5}, {4, 5}},   {{2, 5, 7, 3}, {5, 7}},      {{1, 2, 2, 1}, {4, 4}},
    {{1, 4, 4, 0}, {8, 8}},  {{1, 1, 6, 8}, {2, 12}},  {{2, 40, 33, 24}, {80, 66}}, {{1, 16, 16, 1}, {32, 32}}};

void add(OpCases& cases, const Resize& base, const char* name) {
  for (const Sizes& s : sizes) {
    Resize op = base;
    op.size = s.size;
    cases.push_back(op_case(fmt::format("{} {} to {}x{}", name, s.x, s.size[0], s.size[1]), op, {normal(s.x)}));
  }
}

const RegisterOpCases resizes([](OpCases& cases) {
  add(cases, {.mode = ResizeMode::nearest}, "nearest");
  add(cases, {.mode = ResizeMode::nearest_exact}, "nearest-exact");
  add(cases, {.mode = ResizeMode::bilinear}, "bilinear");
  add(cases, {.mode = ResizeMode::bilinear, .align_corners = true}, "corners");
  add(cases, {.mode = ResizeMode::bilinear, .antialias = true}, "antialias");
  cases.push_back(op_case("scale 1.73", Resize{.size = {8, 12}, .scale_factor = {1.73, 1.73}}, {normal({1, 5, 7, 3})}));
  cases.push_back(op_case("nearest scale 0.63",
                          Resize{.mode = ResizeMode::nearest, .size = {8, 10}, .scale_factor = {0.63, 0.63}},
                          {normal({2, 13, 16, 3})}));
});

}  // namespace
}  // namespace glia::tests
