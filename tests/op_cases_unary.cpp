#include "kernels/unary.h"
#include "tests/op_cases.h"

namespace glia::tests {
namespace {

const std::vector<Shape> shapes{{0}, {1}, {7}, {3, 5}, {2, 3, 4, 5}, {33}, {1, 1, 1, 17}, {40000}};

template <class Op>
void unary_cases(OpCases& cases, const Op& op, double low = -3, double high = 3) {
  for (const Shape& shape : shapes) cases.push_back(op_case(to_string(shape), op, {uniform(shape, low, high)}));
}

const RegisterOpCases unary([](OpCases& cases) {
  unary_cases(cases, Relu{});
  unary_cases(cases, Sigmoid{});
  unary_cases(cases, Tanh{});
  unary_cases(cases, Abs{});
  unary_cases(cases, Square{});
  unary_cases(cases, Neg{});
  unary_cases(cases, Exp{});
  unary_cases(cases, Log{}, 0.25, 4);
  unary_cases(cases, Sqrt{}, 0.25, 4);
});

}  // namespace
}  // namespace glia::tests
