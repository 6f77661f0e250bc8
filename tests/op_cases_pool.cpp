#include <cmath>

#include "kernels/index.h"
#include "kernels/pool.h"
#include "tests/op_cases.h"

namespace glia::tests {
namespace {

struct Window {
  Shape x;
  std::array<int64_t, 2> kernel{2, 2}, stride{2, 2};
  std::array<int64_t, 4> pad{};
  bool ceil_mode = false;
};

const std::vector<Window> windows{
    {{1, 2, 2, 1}},
    {{2, 8, 6, 16}},
    {{1, 9, 7, 17}},
    {{1, 9, 7, 17}, {2, 2}, {2, 2}, {}, true},
    {{0, 4, 4, 3}},
    {{2, 4, 4, 0}},
    {{2, 4, 6, 3}},
    {{1, 6, 4, 70}},
    {{1, 1, 1, 5}, {1, 1}, {1, 1}},
    {{1, 9, 7, 64}, {3, 3}, {2, 2}, {1, 1, 1, 1}},
    {{1, 10, 8, 3}, {3, 3}, {2, 2}, {1, 1, 1, 1}, true},
    {{2, 9, 8, 5}, {5, 5}, {1, 1}, {2, 2, 2, 2}},
    {{1, 9, 8, 16}, {1, 1}, {2, 2}},
    {{2, 11, 7, 6}, {3, 2}, {1, 3}, {0, 1, 2, 0}},
    {{1, 12, 13, 4}, {2, 3}, {4, 4}},
    {{2, 64, 40, 20}},
    {{1, 33, 50, 35}, {3, 3}, {2, 2}, {1, 1, 1, 1}},
    {{1, 20, 19, 4}, {17, 16}, {1, 2}, {8, 0, 0, 3}},  // more than 256 taps
};

std::string label_of(const Window& w) {
  return fmt::format("{} kernel {}x{} stride {}x{} pad {},{},{},{}{}", w.x, w.kernel[0], w.kernel[1], w.stride[0], w.stride[1],
                     w.pad[0], w.pad[1], w.pad[2], w.pad[3], w.ceil_mode ? " ceil" : "");
}

const RegisterOpCases pools([](OpCases& cases) {
  for (const Window& w : windows) {
    cases.push_back(op_case(
        label_of(w), MaxPool2d{.kernel = w.kernel, .stride = w.stride, .pad = w.pad, .ceil_mode = w.ceil_mode}, {distinct(w.x)}));
    for (const bool count_include_pad : {true, false})
      cases.push_back(op_case(label_of(w) + (count_include_pad ? "" : " inside only"),
                              AvgPool2d{.kernel = w.kernel,
                                        .stride = w.stride,
                                        .pad = w.pad,
                                        .ceil_mode = w.ceil_mode,
                                        .count_include_pad = count_include_pad},
                              {normal(w.x)}));
    cases.push_back(op_case(to_string(w.x), GlobalAvgPool{}, {normal(w.x)}));
  }
  // NaN wins, and the later of two in a window; -inf where nothing is larger.
  for (const double special : {std::nan(""), -double(INFINITY)}) {
    const MaxPool2d op{.kernel = {3, 3}, .stride = {2, 2}, .pad = {1, 1, 1, 1}};
    OpCase c = op_case(std::isnan(special) ? "with NaN" : "with -inf", op, {});
    c.inputs = {constant(distinct({1, 9, 8, 5})), mask({1, 9, 8, 5})};
    c.run = [op, special](std::span<const Tensor> in) {
      const Tensor other = Tensor::full({}, special, in[0].dtype()).to(in[0].device());
      return std::vector<Tensor>{apply(op, apply(Where{}, in[1], other, in[0]))};
    };
    cases.push_back(c);
  }
  cases.push_back(op_case("(2, 60, 50, 40)", GlobalAvgPool{}, {normal({2, 60, 50, 40})}));
});

}  // namespace
}  // namespace glia::tests
