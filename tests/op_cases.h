#pragma once
// The one case table of ops. Each case serves: values (every variant in float32 against the double reference), gradients (central
// differences in double; float32 variants against double), memory guards and determinism over thread counts (tests/test_ops.cpp),
// and the kernels of devices (tests/test_device_ops.cpp).
//
//   cases.push_back(op_case("3x3 stride 2", Conv2d{.stride = {2, 2}}, {normal({1, 7, 6, 3}), normal({4, 3, 3, 3}), absent()}));
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "autograd/apply.h"

namespace glia::tests {

// How an input is made. Values are odd multiples of 2^-11: exact in float32, never 0 or 1.
struct OpInput {
  enum class Kind { absent, normal, uniform, distinct, integers, mask, boxes, given };
  Kind kind = Kind::absent;
  Shape shape;
  double low = 0, high = 1;
  bool differentiable = true;
  std::vector<double> values{};  // of `given`
  DType dtype = DType::float64;
};
inline OpInput absent() { return {}; }
inline OpInput normal(const Shape& s) { return {OpInput::Kind::normal, s}; }
inline OpInput uniform(const Shape& s, double low, double high) { return {OpInput::Kind::uniform, s, low, high}; }
// A shuffle of multiples of 1/16: for max, sort (no ties).
inline OpInput distinct(const Shape& s) { return {OpInput::Kind::distinct, s}; }
// int64 in [0, n).
inline OpInput integers(const Shape& s, int64_t n) { return {OpInput::Kind::integers, s, 0, double(n), false}; }
// uint8 zeros and ones.
inline OpInput mask(const Shape& s) { return {OpInput::Kind::mask, s, 0, 2, false}; }
// Boxes x1, y1, x2, y2 (n, 4) with corners in [0, extent), from 1/8 of it to half as wide and high.
inline OpInput boxes(int64_t n, double extent) { return {OpInput::Kind::boxes, {n, 4}, 0, extent}; }
// These values, whatever the seed: floating unless said otherwise, and without a gradient.
inline OpInput given(const Shape& s, std::vector<double> values, DType dtype = DType::float64) {
  return {OpInput::Kind::given, s, 0, 0, false, std::move(values), dtype};
}
inline OpInput constant(OpInput input) {  // no gradient wanted
  input.differentiable = false;
  return input;
}

struct OpCase {
  std::string op;  // Op::forward.name
  std::string label;
  std::vector<OpInput> inputs;
  std::function<std::vector<Tensor>(std::span<const Tensor>)> run;  // all outputs; the first may carry a gradient
  double tolerance = 2e-5;  // of float32 values, relative to the larger of |want| and the rms of want
  bool has_gradient = true;
  bool by_differences = true;  // its gradient is that of its values: false where the op holds a part of them constant
  bool has_vendor = false;
  bool on_device = false;  // has a body in kernels/cuda
};

namespace detail {

template <class Signature>
struct ForwardTraits;
template <class Op, class... Args>
struct ForwardTraits<void(const Op&, Args...)> {
  static constexpr size_t inputs = (size_t(std::is_same_v<Args, const Tensor&>) + ... + 0);
};

}  // namespace detail

template <class Op>
OpCase op_case(std::string label, Op op, std::vector<OpInput> inputs, double tolerance = 2e-5) {
  constexpr size_t arity = detail::ForwardTraits<typename Op::Forward>::inputs;
  inputs.resize(arity);
  OpCase c{.op = Op::forward.name, .label = std::move(label), .inputs = std::move(inputs), .run = {}, .tolerance = tolerance};
  c.has_gradient = glia::detail::Differentiable<Op>;
  c.has_vendor = Op::forward.onednn != nullptr;
  c.on_device = Op::forward.emulated != nullptr;
  c.run = [op](std::span<const Tensor> in) {
    return [&]<size_t... I>(std::index_sequence<I...>) {
      const auto out = apply(op, in[I]...);
      if constexpr (std::is_same_v<std::remove_cvref_t<decltype(out)>, Tensor>) {
        return std::vector<Tensor>{out};
      } else {
        return std::vector<Tensor>(out.begin(), out.end());
      }
    }
    (std::make_index_sequence<arity>{});
  };
  return c;
}

// For ops over a list of tensors (apply_list).
template <class Op>
OpCase op_list_case(std::string label, Op op, std::vector<OpInput> inputs) {
  OpCase c{.op = Op::forward.name, .label = std::move(label), .inputs = std::move(inputs), .run = {}};
  c.on_device = Op::forward.emulated != nullptr;
  c.run = [op](std::span<const Tensor> in) { return std::vector<Tensor>{apply_list(op, in)}; };
  return c;
}

using OpCases = std::vector<OpCase>;

// A file of cases: `static const RegisterOpCases conv(conv_cases);` at namespace scope, where conv_cases is void(OpCases&).
struct RegisterOpCases {
  explicit RegisterOpCases(void (*fill)(OpCases&));
};
const OpCases& op_cases();

// Input tensors of a case in float64 (floating inputs); `seed` varies the draw.
std::vector<Tensor> make_inputs(const OpCase& c, uint64_t seed = 1);

}  // namespace glia::tests
