#include "kernels/shape.h"
#include "tests/op_cases.h"

namespace glia::tests {
namespace {

void concat_cases(OpCases& cases) {
  const auto add = [&](const char* label, int axis, std::vector<OpInput> parts) {
    cases.push_back(op_list_case(label, Concat{.axis = axis}, std::move(parts)));
  };
  add("channels", 3, {normal({2, 5, 7, 16}), normal({2, 5, 7, 64})});
  add("odd channels", -1, {normal({1, 9, 3, 1}), normal({1, 9, 3, 5}), normal({1, 9, 3, 19})});
  add("many pixels", -1, {normal({1, 70, 80, 3}), normal({1, 70, 80, 4})});
  add("images", 0, {normal({1, 3, 5}), normal({2, 3, 5})});
  add("rows", 1, {normal({2, 3, 5}), normal({2, 1, 5}), normal({2, 4, 5})});
  add("one part", 0, {normal({4})});
  add("an empty part", 0, {normal({5, 3}), normal({0, 3}), normal({1, 3})});
  add("nothing", 1, {normal({0, 2}), normal({0, 3})});
  add("many channels of many pixels", -1, {normal({1, 40, 50, 8}), normal({1, 40, 50, 12})});
  add("a part without gradient", 1, {normal({4, 2}), constant(normal({4, 3})), constant(normal({4, 1})), normal({4, 5})});
  add("integers", 0, {integers({3, 4}, 9), integers({2, 4}, 9)});
  add("bytes", 1, {mask({30, 40, 2}), mask({30, 7, 2})});
}

void slice_cases(OpCases& cases) {
  const auto add = [&](const char* label, const Slice& op, const Shape& x) { cases.push_back(op_case(label, op, {normal(x)})); };
  add("box", {.start = {0, 1, 2, 1}, .stop = {2, 3, 5, 6}}, {2, 3, 8, 7});
  add("step 2", {.start = {0, 0, 0, 1}, .stop = {2, 3, 8, 7}, .step = {1, 2, 2, 2}}, {2, 3, 8, 7});
  add("from the end", {.start = {-3, -4}, .stop = {-1, 7}, .step = {1, 3}}, {5, 7});
  add("all", {}, {3, 4});
  add("one element", {.start = {1, 2}, .stop = {2, 3}}, {3, 4});
  add("nothing", {.start = {1, 2}, .stop = {2, 2}}, {3, 4});
  add("of nothing", {.start = {0, 1}, .stop = {0, 3}}, {0, 4});
  add("central crop", centre_crop({2, 9, 12, 5}, 6, 5), {2, 9, 12, 5});
  add("channels", slice_of({2, 4, 4, 40}, -1, 8, 40), {2, 4, 4, 40});
  add("rows", slice_of({300, 70}, 0, 20, 290), {300, 70});
  add("step 3 in the middle", {.start = {0, 2, 0}, .stop = {2, 17, 8}, .step = {1, 3, 1}}, {2, 19, 8});
  for (const OpInput& x : {integers({5, 9, 6}, 99), mask({5, 9, 6})}) {
    cases.push_back(op_case(x.kind == OpInput::Kind::mask ? "bytes" : "integers",
                            Slice{.start = {1, 2, 2}, .stop = {4, 9, 6}, .step = {1, 2, 1}}, {x}));
    cases.back().has_gradient = false;
  }
}

void pad_cases(OpCases& cases) {
  const auto add = [&](const char* label, const Pad& op, const Shape& x) { cases.push_back(op_case(label, op, {normal(x)})); };
  for (const PadMode mode : {PadMode::constant, PadMode::reflect, PadMode::edge}) {
    add("images", {{{0, 0}, {1, 2}, {0, 3}, {0, 0}}, mode}, {2, 5, 7, 16});
    add("images of one channel", {{{0, 0}, {4, 3}, {2, 5}, {0, 0}}, mode}, {1, 9, 8, 1});
    add("every axis", {{{1, 0}, {2, 2}, {3, 1}}, mode, 1.5}, {2, 4, 5});
    add("crop", {{{-1, -2}, {1, -1}, {-1, 2}}, mode}, {5, 4, 6});
    add("crop to nothing", {{{-2, -1}, {0, 0}}, mode}, {3, 4});
    add("no pads", {{{0, 0}, {0, 0}}, mode}, {3, 4});
    add("a list", {{{3, 0}}, mode, -2}, {9});
    add("crop and pad", {{{-2, 1}, {2, -3}, {0, 0}}, mode}, {6, 7, 4});
  }
  cases.push_back(op_case("bytes", Pad{{{1, 2}, {0, 3}, {0, 0}}, PadMode::constant, 7}, {mask({3, 9, 4})}));
  cases.back().has_gradient = false;
  cases.push_back(op_case("integers", Pad{{{1, 2}, {2, 3}}, PadMode::constant, -1}, {integers({3, 9}, 99)}));
  cases.back().has_gradient = false;
  add("nothing", {{{2, 1}, {0, 1}}, PadMode::constant, 3}, {0, 2});
  add("one element", {{{2, 1}}, PadMode::edge}, {1});
  add("edges far outside", {{{30, 0}, {0, 20}}, PadMode::edge}, {4, 5});
}

void permute_cases(OpCases& cases) {
  const auto add = [&](const Shape& x, std::vector<int> axes) {
    cases.push_back(op_case(to_string(x), Permute{.axes = axes}, {normal(x)}));
  };
  add({2, 3, 8, 7}, {0, 2, 3, 1});
  add({2, 8, 7, 3}, {0, 3, 1, 2});
  add({2, 3, 8, 7}, {3, 2, 1, 0});
  add({1, 33, 19, 40}, {0, 3, 1, 2});
  add({37, 45}, {1, 0});
  add({4, 5, 6, 7}, {1, 0, 2, 3});
  add({4, 5, 8}, {1, 0, 2});
  add({1, 70, 60, 3}, {0, 3, 1, 2});
  add({3, 4200}, {1, 0});
  add({70, 2, 65}, {2, 1, 0});
  add({4, 5, 6}, {0, 1, -1});
  add({2, 3, 2, 3, 2, 4}, {5, 0, 4, 1, 3, 2});
  add({1, 64, 1, 5}, {3, 2, 0, 1});
  add({1}, {0});
  add({}, {});
  add({0, 4}, {1, 0});
  cases.push_back(op_case("integers", Permute{.axes = {1, 0}}, {integers({17, 18}, 99)}));
  cases.back().has_gradient = false;
  cases.push_back(op_case("many bytes", Permute{.axes = {1, 0}}, {mask({130, 70})}));
  cases.back().has_gradient = false;
  cases.push_back(op_case("bytes", Permute{.axes = {2, 0, 1}}, {mask({5, 17, 3})}));
  cases.back().has_gradient = false;
}

void flip_cases(OpCases& cases) {
  const auto add = [&](const Shape& x, std::vector<int> axes) {
    cases.push_back(op_case(to_string(x), Flip{.axes = axes}, {normal(x)}));
  };
  add({2, 5, 7, 16}, {1, 2});
  add({2, 5, 7, 3}, {2});
  add({2, 5, 7, 4}, {0, 1, 2, 3});
  add({2, 5, 7, 3}, {-3});
  add({9}, {0});
  add({1}, {0});
  add({4, 33}, {0, 1});
  add({0, 3}, {1});
  add({3, 4}, {});
}

const RegisterOpCases shape([](OpCases& cases) {
  concat_cases(cases);
  slice_cases(cases);
  pad_cases(cases);
  permute_cases(cases);
  flip_cases(cases);
});

}  // namespace
}  // namespace glia::tests
