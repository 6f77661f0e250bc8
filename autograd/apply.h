#pragma once
// apply(op, inputs...): runs an op now, and remembers how to differentiate it when an input wants a gradient.
#include <algorithm>
#include <concepts>
#include <functional>
#include <tuple>

#include "autograd/tape.h"
#include "kernels/op.h"

namespace glia {

namespace detail {

inline std::array<TensorSpec, 1> as_array(const TensorSpec& s) { return {s}; }
template <size_t N>
std::array<TensorSpec, N> as_array(const std::array<TensorSpec, N>& s) { return s; }

template <class Op>
SaveSet saves_of(const Op& op) {
  if constexpr (requires { op.saves(); }) {
    return op.saves();
  } else {
    return Op::saves;
  }
}

// The activation that the op applies to its output, if any.
template <class Op>
auto* activation_of(Op& op) {
  if constexpr (requires { op.activation; }) {
    return &op.activation;
  } else if constexpr (requires { op.conv.activation; }) {
    return &op.conv.activation;
  } else {
    return static_cast<int*>(nullptr);
  }
}

template <class Op, size_t inputs, size_t outputs>
struct Saved {
  Op op;
  std::array<Tensor, inputs> in;
  std::array<Tensor, outputs> out;
};

template <class Op>
concept Differentiable = requires { Op::backward.name; };

template <class... In>
Device device_of(const In&... in) {
  const Tensor* first = nullptr;
  for (const Tensor* t : {&in...}) {
    if (!*t) continue;
    if (!first) first = t;
    GLIA_CHECK(t->device() == first->device(), "inputs on {} and {}", to_string(first->device()), to_string(t->device()));
  }
  return first ? first->device() : Device{};
}

}  // namespace detail

template <class Op, class... In>
concept OpOn = (std::same_as<In, Tensor> && ...) && requires(const Op& op, const In&... in) {
  op.infer(in...);
  Op::forward.pick(Device{}, DType{});
};

// Returns the output, or a std::array of outputs where the op has several (only the first carries a gradient). An absent optional
// input is Tensor{}. Throws what the op's infer throws.
template <class Op, class... In>
  requires OpOn<Op, In...>
auto apply(const Op& op, const In&... in) {
  const MemoryScope scope(Op::forward.name);
  const Device device = detail::device_of(in...);
  const auto specs = detail::as_array(op.infer(in...));
  constexpr size_t outputs = std::tuple_size_v<std::remove_cvref_t<decltype(specs)>>;
  std::array<Tensor, outputs> out;
  for (size_t i = 0; i < outputs; ++i) out[i] = Tensor(specs[i].shape, specs[i].dtype, device);
  std::apply([&](auto&... o) { Op::forward.pick(device, specs[0].dtype)(op, in..., o...); }, out);
  if (OpObserver* observer = op_observer()) [[unlikely]]
    observer->after_forward(Op::forward.name, std::array<Tensor, sizeof...(In)>{in...}, out[0]);

  if constexpr (detail::Differentiable<Op>) {
    if (grad_enabled() && (wants_grad(in) || ...)) {
      const SaveSet saves = detail::saves_of(op);
      auto saved =
          std::make_shared<detail::Saved<Op, sizeof...(In), outputs>>(op, std::array{(in ? in.detach() : Tensor())...}, out);
      for (int i = 0; i < static_cast<int>(sizeof...(In)); ++i)
        if (!saves.has(save::input(i))) saved->in[size_t(i)] = {};
      for (int i = 0; i < static_cast<int>(outputs); ++i)
        if (!saves.has(save::output(i))) saved->out[size_t(i)] = {};
      auto node = std::make_shared<Node>();
      node->name = Op::backward.name;
      node->device = device;
      node->inputs = {in.grad_record()...};
      node->specs = {TensorSpec{in.shape(), in.dtype()}...};
      // The tape masks dy by a ReLU, and can let go of the output then. An input that is added in front of it takes the masked dy itself:
      // there the body does it, which writes the two in one pass.
      bool adds = false;
      if constexpr (requires { Op::residual; }) adds = node->inputs[size_t(Op::residual)] != nullptr;
      if (auto* activation = detail::activation_of(saved->op); activation && bool(*activation) && !adds) {
        node->relu_output = std::exchange(saved->out[0], {});
        *activation = {};
      }
      if constexpr (requires { op.over; }) {
        const bool all_wanted = std::all_of(node->inputs.begin(), node->inputs.begin() + std::ssize(op.over), std::identity());
        if (all_wanted && op.overwrites(in..., out[0]))
          for (size_t i = 0; i < op.over.size(); ++i) node->overwritable.push_back({&saved->in[i], &saved->op.over[i]});
      }
      node->pull = [saved, device](Tensor dy, std::span<Tensor* const> grads) {
        const auto body = Op::backward.pick(device, dy.dtype());
        std::apply(
            [&](const auto&... tensor) {
              [&]<size_t... I>(std::index_sequence<I...>) {
                body(saved->op, tensor..., dy, grads[I]...);
              }(std::index_sequence_for<In...>{});
            },
            std::tuple_cat(saved->in, saved->out));
      };
      auto record = std::make_shared<GradRecord>();
      record->node = std::move(node);
      out[0].set_grad_record(std::move(record));
    }
  }
  if constexpr (outputs == 1) {
    return out[0];
  } else {
    return out;
  }
}

// Ops over a list of tensors (Concat): Forward is void(const Op&, std::span<const Tensor> xs, Tensor& y), Backward is
// void(const Op&, std::span<const TensorSpec> xs, const Tensor& dy, std::span<Tensor* const> dxs): the shapes of all inputs, as those
// that want no gradient arrive as null. Nothing is saved.
template <class Op>
Tensor apply_list(const Op& op, std::span<const Tensor> xs) {
  GLIA_CHECK(!xs.empty(), "{}: no inputs", Op::forward.name);
  const MemoryScope scope(Op::forward.name);
  const Device device = xs[0].device();
  const TensorSpec spec = op.infer(xs);
  Tensor y(spec.shape, spec.dtype, device);
  Op::forward.pick(device, spec.dtype)(op, xs, y);
  if (OpObserver* observer = op_observer()) [[unlikely]] observer->after_forward(Op::forward.name, xs, y);
  bool wanted = false;
  for (const Tensor& x : xs) wanted = wanted || wants_grad(x);
  if (!grad_enabled() || !wanted) return y;
  auto node = std::make_shared<Node>();
  node->name = Op::backward.name;
  node->device = device;
  for (const Tensor& x : xs) {
    node->inputs.push_back(x.grad_record());
    node->specs.push_back({x.shape(), x.dtype()});
  }
  node->pull = [op, device, specs = node->specs](Tensor dy, std::span<Tensor* const> grads) {
    Op::backward.pick(device, dy.dtype())(op, specs, dy, grads);
  };
  auto record = std::make_shared<GradRecord>();
  record->node = std::move(node);
  y.set_grad_record(std::move(record));
  return y;
}

}  // namespace glia
