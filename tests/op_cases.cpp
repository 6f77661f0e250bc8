#include "tests/op_cases.h"

#include <cmath>

#include "tensor/random.h"

namespace glia::tests {
namespace {

OpCases& table() {
  static OpCases cases;
  return cases;
}

// Odd multiples of 2^-11: exact in float32, and never on a kink such as 0 or 1.
double to_grid(double x) { return (std::floor(x * 1024) + 0.5) / 1024; }

Tensor make_input(const OpInput& input, const Philox& random) {
  using Kind = OpInput::Kind;
  if (input.kind == Kind::absent) return {};
  const int64_t n = input.shape.size();
  if (input.kind == Kind::integers || input.kind == Kind::mask) {
    Tensor t(input.shape, input.kind == Kind::mask ? DType::uint8 : DType::int64);
    for (int64_t i = 0; i < n; ++i) {
      const auto value = static_cast<int64_t>(random.below(uint64_t(i), uint64_t(input.high)));
      if (input.kind == Kind::mask) {
        t.data<uint8_t>()[i] = static_cast<uint8_t>(value);
      } else {
        t.data<int64_t>()[i] = value;
      }
    }
    return t;
  }
  if (input.kind == Kind::given) return Tensor::from(input.shape, input.values).cast(input.dtype);
  Tensor t(input.shape, DType::float64);
  double* x = t.data<double>();
  for (int64_t i = 0; i < n; ++i) {
    if (input.kind == Kind::normal) x[i] = to_grid(random.normal(uint64_t(i)));
    if (input.kind == Kind::uniform) x[i] = to_grid(random.uniform(uint64_t(i), input.low, input.high));
    if (input.kind == Kind::distinct) x[i] = 0.0625 * double(i - n / 2);
  }
  if (input.kind == Kind::boxes)
    for (int64_t i = 0; i < n; ++i) {
      const bool size = i % 4 > 1;
      const double low = size ? input.high / 8 : 0, high = size ? input.high / 2 : input.high;
      x[i] = to_grid(random.uniform(uint64_t(i), low, high)) + (size ? x[i - 2] : 0);
    }
  if (input.kind == Kind::distinct)  // Fisher-Yates
    for (int64_t i = n - 1; i > 0; --i) std::swap(x[i], x[random.below(uint64_t(i), uint64_t(i) + 1)]);
  return t;
}

}  // namespace

RegisterOpCases::RegisterOpCases(void (*fill)(OpCases&)) { fill(table()); }
const OpCases& op_cases() { return table(); }

std::vector<Tensor> make_inputs(const OpCase& c, uint64_t seed) {
  std::vector<Tensor> inputs;
  for (const OpInput& input : c.inputs) inputs.push_back(make_input(input, Philox(seed, inputs.size())));
  return inputs;
}

}  // namespace glia::tests
