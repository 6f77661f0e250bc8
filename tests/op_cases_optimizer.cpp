// The in-place steps of optimizers, run on copies of the inputs.
#include <cmath>

#include "kernels/optimizer.h"
#include "tests/op_cases.h"

namespace glia::tests {
namespace {

// Inputs: `constants` gradient-like tensors that are read, then the tensors that are updated; outputs are the latter.
template <class Op>
OpCase step_case(std::string label, Op op, std::vector<OpInput> inputs, size_t constants, double tolerance = 2e-5) {
  OpCase c{.op = Op::forward.name, .label = std::move(label), .inputs = std::move(inputs), .run = {}, .tolerance = tolerance};
  c.has_gradient = false;
  c.on_device = Op::forward.emulated != nullptr;
  c.run = [op, constants](std::span<const Tensor> in) {
    std::vector<Tensor> t(in.begin(), in.end());
    for (size_t i = constants; i < t.size(); ++i)
      if (t[i]) t[i] = t[i].clone();
    const auto body = Op::forward.pick(t[0].device(), t[0].dtype());
    if constexpr (std::is_same_v<Op, SgdStep>) {
      body(op, t[0], t[1], t[2]);
    } else if constexpr (std::is_same_v<Op, EmaStep> || std::is_same_v<Op, AddInPlace>) {
      body(op, t[0], t[1]);
    } else if constexpr (std::is_same_v<Op, ScaleInPlace> || std::is_same_v<Op, ClampInPlace>) {
      body(op, t[0]);
    } else {
      body(op, t[0], t[1], t[2], t[3], t[4]);
    }
    std::vector<Tensor> updated;
    for (size_t i = constants; i < t.size(); ++i)
      if (t[i]) updated.push_back(t[i]);
    return updated;
  };
  return c;
}

OpCase norm_case(std::string label, const Shape& shape) {
  OpCase c{.op = SquaredNorm::forward.name, .label = std::move(label), .inputs = {normal(shape)}, .run = {}};
  c.has_gradient = false;
  c.on_device = true;
  c.run = [](std::span<const Tensor> in) {
    Tensor sum(Shape{}, DType::float64, in[0].device());
    SquaredNorm::forward.pick(in[0].device(), in[0].dtype())({}, in[0], sum);
    return std::vector<Tensor>{sum};
  };
  return c;
}

OpCase clip_case(std::string label, double max_norm, double squared_norm, const Shape& shape) {
  OpCase c{.op = ClipByNorm::forward.name, .label = std::move(label), .inputs = {normal(shape)}, .run = {}};
  c.has_gradient = false;
  c.on_device = true;
  c.run = [max_norm, squared_norm](std::span<const Tensor> in) {
    Tensor x = in[0].clone();
    const Tensor squares = Tensor::full({}, squared_norm, DType::float64, x.device());
    ClipByNorm::forward.pick(x.device(), x.dtype())({max_norm}, squares, x);
    return std::vector<Tensor>{x};
  };
  return c;
}

void optimizer_cases(OpCases& cases) {
  for (const int64_t n : {0, 1, 7, 16, 17, 64, 1001, 70001}) {
    const std::string label = std::to_string(n);
    const OpInput x = normal({n}), v = uniform({n}, 0.1, 2);
    cases.push_back(step_case("plain " + label, SgdStep{.lr = 0.1, .weight_decay = 0.01}, {x, x, absent()}, 1));
    cases.push_back(step_case("momentum " + label, SgdStep{.momentum = 0.9, .dampening = 0.1}, {x, x, x}, 1));
    cases.push_back(step_case("first " + label, SgdStep{.momentum = 0.9, .nesterov = true, .first = true}, {x, x, x}, 1));
    cases.push_back(step_case("Keras " + label, SgdStep{.momentum = 0.9, .velocity = true}, {x, x, x}, 1));
    cases.push_back(
        step_case("Keras nesterov " + label, SgdStep{.momentum = 0.9, .nesterov = true, .velocity = true}, {x, x, x}, 1));
    cases.push_back(step_case("adam " + label, AdamStep{.weight_decay = 0.1, .keep = 0.9}, {x, x, x, v, absent()}, 1));
    cases.push_back(step_case("amsgrad " + label, AdamStep{.variance_scale = 2}, {x, x, x, v, v}, 1));
    cases.push_back(step_case("not adaptive " + label, AdamStep{.adaptive = false}, {x, x, x, v, absent()}, 1));
    cases.push_back(step_case("plain " + label, RmspropStep{.weight_decay = 0.1}, {x, x, v, absent(), absent()}, 1));
    cases.push_back(step_case("centered momentum " + label, RmspropStep{.momentum = 0.9}, {x, x, uniform({n}, 20, 30), x, x}, 1));
    cases.push_back(step_case(label, EmaStep{0.9}, {x, x}, 1));
    cases.push_back(step_case(label, AddInPlace{}, {x, x}, 1));
    cases.push_back(step_case(label, ScaleInPlace{0.3}, {x}, 0));
    cases.push_back(step_case(label, ClampInPlace{0.5}, {x}, 0));
    cases.push_back(norm_case(label, {n}));
    cases.push_back(clip_case("above " + label, 2, 49, {n}));
    cases.push_back(clip_case("within " + label, 7.5, 49, {n}));
    cases.push_back(step_case("momentum " + label, RmspropStep{.momentum = 0.9}, {x, x, v, x, absent()}, 1));
    cases.push_back(step_case("centered " + label, RmspropStep{}, {x, x, uniform({n}, 20, 30), absent(), x}, 1));
  }
  cases.push_back(clip_case("no gradient", 1, 0, {33}));
  cases.push_back(clip_case("infinite", 1, INFINITY, {33}));
  cases.push_back(clip_case("not a number", 1, NAN, {33}));
}
const RegisterOpCases registered(optimizer_cases);

}  // namespace
}  // namespace glia::tests
