// Unary and binary element-wise ops, softmax and dropout.
#include "kernels/binary.h"
#include "kernels/dropout.h"
#include "kernels/softmax.h"
#include "kernels/unary.h"
#include "tests/op_cases.h"

namespace glia::tests {
namespace {

const std::vector<Shape> shapes{{0}, {1}, {7}, {3, 5}, {2, 3, 4, 5}, {33}, {1, 1, 1, 17}, {40000}};

template <class Op>
void unary_cases(OpCases& cases, const Op& op, double low = -3, double high = 3, const std::string& label = "") {
  for (const Shape& shape : shapes) cases.push_back(op_case(label + to_string(shape), op, {uniform(shape, low, high)}));
}

const RegisterOpCases unary([](OpCases& cases) {
  unary_cases(cases, Relu{});
  unary_cases(cases, LeakyRelu{.slope = 0.2});
  unary_cases(cases, Elu{});
  unary_cases(cases, Elu{.alpha = 1.7}, -9, 2, "alpha 1.7 ");
  unary_cases(cases, Gelu{}, -6, 6);
  unary_cases(cases, Gelu{.tanh_approximation = true}, -6, 6, "tanh ");
  unary_cases(cases, Silu{}, -20, 20);
  unary_cases(cases, Sigmoid{});
  unary_cases(cases, Sigmoid{}, -90, 90, "large ");
  unary_cases(cases, Tanh{});
  unary_cases(cases, Tanh{}, -0.02, 0.02, "small ");
  unary_cases(cases, Abs{});
  unary_cases(cases, Square{});
  unary_cases(cases, Neg{});
  unary_cases(cases, Exp{});
  unary_cases(cases, Log{}, 0.25, 4);
  unary_cases(cases, Sqrt{}, 0.25, 4);
  unary_cases(cases, Clamp{.min = -1, .max = 0.5});
  unary_cases(cases, Clamp{.min = 0.25}, -3, 3, "no maximum ");
});

struct Pair {
  Shape a, b;
};
const std::vector<Pair> pairs{
    {{0}, {0}},
    {{1}, {1}},
    {{3, 5, 7}, {3, 5, 7}},
    {{3, 5, 7}, {}},  // a scalar
    {{1}, {2, 19}},
    {{2, 5, 7, 16}, {16}},  // per channel
    {{3}, {2, 3, 3, 3}},
    {{3, 1, 5, 1}, {1, 4, 1, 7}},    // both repeat
    {{2, 3, 1}, {3, 33}},            // per row
    {{2, 1, 1, 17}, {2, 3, 3, 17}},  // per sample and channel
    {{0, 5}, {1, 5}},
    {{40000}, {40000}},
    {{300, 130}, {130}},
    {{130}, {300, 1}},
    {{2, 1, 40, 1}, {2, 50, 40, 9}},
    {{2, 50, 40, 16}, {16}},           // sums of many pixels
    {{1}, {40000}},                    // of everything
    {{2, 3, 64}, {2, 3, 1}},           // of short rows
    {{2, 1, 40, 8}, {2, 50, 40, 8}},   // in the middle
};

template <class Op>
void binary_cases(OpCases& cases, const Op& op, double low = -3) {
  for (const Pair& p : pairs)
    cases.push_back(op_case(to_string(p.a) + to_string(p.b), op, {uniform(p.a, -3, 3), uniform(p.b, low, 3)}));
}

const RegisterOpCases binary([](OpCases& cases) {
  binary_cases(cases, Add{});
  binary_cases(cases, Sub{});
  binary_cases(cases, Mul{});
  binary_cases(cases, Div{}, 0.5);
  // Equal elements would sit on a kink: b is a multiple of 1/16, a an odd multiple of 2^-11.
  for (const Pair& p : pairs) {
    cases.push_back(op_case(to_string(p.a) + to_string(p.b), Maximum{}, {uniform(p.a, -3, 3), distinct(p.b)}));
    cases.push_back(op_case(to_string(p.a) + to_string(p.b), Minimum{}, {uniform(p.a, -3, 3), distinct(p.b)}));
  }
});

struct Line {
  Shape shape;
  int axis;
};
const std::vector<Line> lines{{{1}, 0},         {{5, 7}, -1},   {{0, 5}, 1},    {{3, 17, 3, 5}, 1}, {{2, 5, 4, 3}, -1},
                              {{4, 1}, 1},      {{33, 2}, 0},   {{2, 100}, -1}, {{1000, 3}, 1},     {{7, 3, 40}, 1},
                              {{3, 2, 200}, 1}, {{2, 3000}, 1}, {{3, 2052}, 1}, {{2, 9001}, 1}};

const RegisterOpCases softmax_cases([](OpCases& cases) {
  for (const Line& l : lines) {
    const std::string label = to_string(l.shape) + " axis " + std::to_string(l.axis);
    cases.push_back(op_case(label, Softmax{.axis = l.axis}, {uniform(l.shape, -4, 4)}));
    cases.push_back(op_case(label, LogSoftmax{.axis = l.axis}, {uniform(l.shape, -4, 4)}));
    cases.push_back(op_case(label + " large", Softmax{.axis = l.axis}, {uniform(l.shape, 990, 1000)}));
  }
});

const RegisterOpCases dropout_cases([](OpCases& cases) {
  for (const Shape& shape : shapes) {
    cases.push_back(op_case(to_string(shape), Dropout{.p = 0.3, .seed = 7, .stream = 3}, {normal(shape)}));
    cases.push_back(op_case(to_string(shape), MaskedDropout{.p = 0.3}, {normal(shape), mask(shape)}));
  }
  const Shape shape{3, 67};
  for (const double p : {0.0, 0.5, 1.0})
    cases.push_back(
        op_case("p " + std::to_string(p), Dropout{.p = p, .seed = ~uint64_t(0), .stream = uint64_t(1) << 40}, {normal(shape)}));
});

}  // namespace
}  // namespace glia::tests
