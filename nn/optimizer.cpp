#include "nn/optimizer.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "autograd/tape.h"
#include "kernels/optimizer.h"
#include "kernels/packed_filter.h"

namespace glia {
namespace {

constexpr int64_t alignment = 16;  // elements: 64 bytes of float32

constexpr std::array<std::pair<std::string_view, OptimizerKind>, 7> names{{{"sgd", OptimizerKind::sgd},
                                                                           {"keras_sgd", OptimizerKind::keras_sgd},
                                                                           {"adam", OptimizerKind::adam},
                                                                           {"keras_adam", OptimizerKind::keras_adam},
                                                                           {"adamw", OptimizerKind::adamw},
                                                                           {"radam", OptimizerKind::radam},
                                                                           {"rmsprop", OptimizerKind::rmsprop}}};

bool is_adam(OptimizerKind kind) {
  return kind == OptimizerKind::adam || kind == OptimizerKind::keras_adam || kind == OptimizerKind::adamw ||
         kind == OptimizerKind::radam;
}

bool is_keras(OptimizerKind kind) { return kind == OptimizerKind::keras_sgd || kind == OptimizerKind::keras_adam; }

// What an optimizer remembers, under PyTorch's names.
std::vector<std::string> state_names(const OptimizerOptions& o) {
  if (is_adam(o.kind)) {
    if (o.amsgrad) return {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"};
    return {"exp_avg", "exp_avg_sq"};
  }
  std::vector<std::string> state;
  if (o.kind == OptimizerKind::rmsprop) state.push_back("square_avg");
  if (o.momentum > 0) state.push_back("momentum_buffer");
  if (o.kind == OptimizerKind::rmsprop && o.centered) state.push_back("grad_avg");
  return state;
}

SgdStep sgd(const OptimizerOptions& o, double lr, double decay, int64_t t) {
  return {.lr = lr,
          .momentum = o.momentum,
          .dampening = o.dampening,
          .weight_decay = decay,
          .nesterov = o.nesterov,
          .velocity = o.kind == OptimizerKind::keras_sgd,
          .first = t == 1};
}

// Bias corrections of step t (from 1), and RAdam's rectification (Liu et al. 2020, algorithm 2).
AdamStep adam(const OptimizerOptions& o, double lr, double decay, int64_t t) {
  const double correction1 = 1 - std::pow(o.beta1, double(t)), correction2 = 1 - std::pow(o.beta2, double(t));
  AdamStep step{.step = lr / correction1, .beta1 = o.beta1, .beta2 = o.beta2, .eps = o.eps, .weight_decay = decay};
  if (o.kind == OptimizerKind::keras_adam) {
    step.step *= std::sqrt(correction2);
  } else if (o.kind == OptimizerKind::radam) {
    const double longest = 2 / (1 - o.beta2) - 1;
    const double length = longest - 2 * double(t) * (1 - correction2) / correction2;
    step.adaptive = length > 5;
    if (step.adaptive)
      step.step *= std::sqrt(correction2 * (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length));
  } else {
    step.variance_scale = 1 / std::sqrt(correction2);
  }
  if (o.kind == OptimizerKind::adamw) {
    step.keep = 1 - lr * decay;
    step.weight_decay = 0;
  }
  return step;
}

RmspropStep rmsprop(const OptimizerOptions& o, double lr, double decay) {
  return {.lr = lr, .alpha = o.alpha, .eps = o.eps, .momentum = o.momentum, .weight_decay = decay};
}

template <class Op, class... Tensors>
void run(const Op& op, Tensors&&... tensors) {
  const Tensor& first = std::get<0>(std::tie(tensors...));
  Op::forward.pick(first.device(), first.dtype())(op, tensors...);
}

}  // namespace

OptimizerKind parse_optimizer(std::string_view name) {
  for (const auto& [known, kind] : names)
    if (known == name) return kind;
  std::string list;
  for (const auto& entry : names) list += (list.empty() ? "" : ", ") + std::string(entry.first);
  throw UsageError("optimizer \"{}\" is unknown; known are {}", name, list);
}

bool matches(std::string_view pattern, std::string_view name) {
  const size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == name;
  if (name.substr(0, star) != pattern.substr(0, star)) return false;
  const std::string_view rest = pattern.substr(star + 1);
  for (size_t i = star; i <= name.size(); ++i)
    if (matches(rest, name.substr(i))) return true;
  return false;
}

Optimizer::Optimizer(const OptimizerOptions& options, const std::vector<NamedTensor>& parameters,
                     const std::vector<ParameterGroup>& groups)
    : options_(options) {
  if (options_.eps == 0) options_.eps = is_keras(options_.kind) ? 1e-7 : 1e-8;
  const auto group_of = [&](const std::string& name) {
    const auto found =
        std::find_if(groups.begin(), groups.end(), [&](const ParameterGroup& g) { return matches(g.pattern, name); });
    return static_cast<size_t>(found - groups.begin());
  };
  struct Together {
    Run run;
    std::vector<const NamedTensor*> parameters;
  };
  std::vector<Together> all;
  for (size_t g = 0; g <= groups.size(); ++g) {
    const ParameterGroup group = g < groups.size() ? groups[g] : ParameterGroup{};
    const auto first = static_cast<ptrdiff_t>(all.size());
    for (const NamedTensor& p : parameters) {
      if (!wants_grad(*p.tensor) || group_of(p.name) != g) continue;
      const Run run = rules_of(p, group);
      if (run.lr_factor == 0) {
        p.tensor->set_grad_record(nullptr);
        continue;
      }
      auto same = std::find_if(all.begin() + first, all.end(), [&](const Together& t) {
        return t.run.lr_factor == run.lr_factor && t.run.weight_decay == run.weight_decay;
      });
      if (same == all.end()) same = all.insert(same, {run, {}});
      same->parameters.push_back(&p);
    }
  }
  int64_t size = 0;
  for (Together& t : all) {
    t.run.begin = size;
    for (const NamedTensor* p : t.parameters) {
      parts_.push_back({p->name, p->tensor, p->rule.layout, size});
      size += (p->tensor->size() + alignment - 1) / alignment * alignment;
    }
    t.run.end = size;
    runs_.push_back(t.run);
  }
  const MemoryScope scope("optimizer");
  const DType dtype = parts_.empty() ? DType::float32 : parts_[0].tensor->dtype();
  const Device device = parts_.empty() ? Device{} : parts_[0].tensor->device();
  weights_ = Tensor::zeros({size}, dtype, device);
  gradients_ = Tensor::zeros({size}, dtype, device);
  for (const std::string& name : state_names(options_)) states_.push_back({name, Tensor::zeros({size}, dtype, device)});
  for (const Part& part : parts_) {
    Tensor view = Tensor::view(weights_, part.offset, part.tensor->shape());
    view.copy_from(*part.tensor);
    require_grad(view);
    view.grad_record()->buffer = Tensor::view(gradients_, part.offset, view.shape());
    *part.tensor = view;
  }
}

// detectron2's order: a norm layer's decay first, then what concerns the name "bias".
Optimizer::Run Optimizer::rules_of(const NamedTensor& parameter, const ParameterGroup& group) const {
  const bool bias = parameter.name == "bias" || parameter.name.ends_with(".bias");
  double decay = options_.weight_decay;
  if (parameter.of_norm) decay = options_.weight_decay_norm.value_or(decay);
  if (bias) decay = options_.weight_decay_bias.value_or(decay);
  return {0, 0, group.lr_factor * (bias ? options_.bias_lr_factor : 1), decay * group.decay_factor};
}

void Optimizer::zero_grad() {
  for (const Part& part : parts_) glia::zero_grad(*part.tensor);
}

void Optimizer::require_gradients() {
  for (const Part& part : parts_) {
    GradRecord& record = *part.tensor->grad_record();
    if (record.grad) continue;
    record.buffer.fill(0);
    record.grad = record.buffer;
  }
}

Tensor Optimizer::squared_norm() {
  require_gradients();
  Tensor sum(Shape{}, DType::float64, gradients_.device());
  run(SquaredNorm{}, gradients_, sum);
  return sum;
}

double Optimizer::grad_norm() { return std::sqrt(squared_norm().item()); }

void Optimizer::clip_norm(double max_norm, const Tensor& squared_norm) {
  ClipByNorm::forward.pick(gradients_.device(), gradients_.dtype())({max_norm}, squared_norm, gradients_);
}

double Optimizer::clip_norm(double max_norm) {
  const Tensor squared = squared_norm();
  clip_norm(max_norm, squared);
  return std::sqrt(squared.item());
}

void Optimizer::clip_norm_each(double max_norm) {
  require_gradients();
  for (const Part& part : parts_) {
    Tensor gradient = Tensor::view(gradients_, part.offset, {part.tensor->size()});
    Tensor sum(Shape{}, DType::float64, gradient.device());
    run(SquaredNorm{}, gradient, sum);
    ClipByNorm::forward.pick(gradient.device(), gradient.dtype())({max_norm}, sum, gradient);
  }
}

void Optimizer::clip_value(double limit) {
  require_gradients();
  run(ClampInPlace{limit}, gradients_);
}

void Optimizer::scale_gradients(double factor) {
  require_gradients();
  run(ScaleInPlace{factor}, gradients_);
}

void Optimizer::set_momentum(double momentum) { (is_adam(options_.kind) ? options_.beta1 : options_.momentum) = momentum; }

void Optimizer::step(double lr) {
  require_gradients();
  ++steps_;
  for (const Run& r : runs_) step_run(r, lr * r.lr_factor);
  weights_changed();
}

void Optimizer::step_run(const Run& r, double lr) {
  const auto part = [&](const Tensor& flat) { return Tensor::view(flat, r.begin, {r.end - r.begin}); };
  const auto state = [&](std::string_view name) {
    for (const State& s : states_)
      if (s.name == name) return part(s.flat);
    return Tensor();
  };
  const double decay = r.weight_decay;
  Tensor w = part(weights_);
  const Tensor g = part(gradients_);
  Tensor buffer = state("momentum_buffer");
  if (is_adam(options_.kind)) {
    Tensor m = state("exp_avg"), v = state("exp_avg_sq"), v_max = state("max_exp_avg_sq");
    run(adam(options_, lr, decay, steps_), g, w, m, v, v_max);
  } else if (options_.kind == OptimizerKind::rmsprop) {
    Tensor v = state("square_avg"), mean = state("grad_avg");
    run(rmsprop(options_, lr, decay), g, w, v, buffer, mean);
  } else {
    run(sgd(options_, lr, decay, steps_), g, w, buffer);
  }
}

std::vector<Tensor> Optimizer::arrays() const {
  std::vector<Tensor> all{weights_};
  for (const State& s : states_) all.push_back(s.flat);
  return all;
}

void Optimizer::save(Snapshot& snapshot) const {
  const std::vector<Tensor> own = arrays();
  const MemoryScope scope("snapshot of the optimizer");
  for (size_t i = 0; i < own.size(); ++i) {
    if (i < snapshot.arrays.size()) {
      snapshot.arrays[i].copy_from(own[i]);
    } else {
      snapshot.arrays.push_back(own[i].clone());
    }
  }
  snapshot.steps = steps_;
}

void Optimizer::restore(const Snapshot& snapshot) {
  const std::vector<Tensor> own = arrays();
  for (size_t i = 0; i < own.size(); ++i) own[i].copy_from(snapshot.arrays[i]);
  weights_changed();
  steps_ = snapshot.steps;
}

std::string Optimizer::first_non_finite(const Tensor& arena) const {
  for (const Part& part : parts_) {
    Tensor sum(Shape{}, DType::float64, arena.device());
    const Tensor values = Tensor::view(arena, part.offset, {part.tensor->size()});
    run(SquaredNorm{}, values, sum);
    if (!std::isfinite(sum.item())) return part.name;
  }
  return {};
}

std::string Optimizer::first_non_finite_gradient() {
  require_gradients();
  return first_non_finite(gradients_);
}

std::string Optimizer::first_non_finite_value() { return first_non_finite(weights_); }

StateDict Optimizer::unflatten(const Tensor& flat) const {
  StateDict tensors;
  for (const Part& part : parts_)
    tensors[part.name] = to_checkpoint(Tensor::view(flat, part.offset, part.tensor->shape()), part.layout);
  return tensors;
}

void Optimizer::flatten(const StateDict& state, std::string_view source, const std::string& prefix, const Tensor& flat) const {
  for (const Part& part : parts_) {
    const auto found = state.find(prefix + part.name);
    if (found == state.end()) throw DataError("{}: no tensor {}{} (written by another optimizer?)", source, prefix, part.name);
    const Tensor value = from_checkpoint(found->second, part.layout);
    if (!same_shape(value, *part.tensor))
      throw DataError("{}: {}{} is {}, want {}", source, prefix, part.name, found->second.shape(),
                      to_checkpoint(*part.tensor, part.layout).shape());
    Tensor::view(flat, part.offset, value.shape()).copy_from(value.cast(flat.dtype()));
  }
}

StateDict Optimizer::state_dict() const {
  StateDict all;
  for (const State& s : states_)
    for (auto& [name, tensor] : unflatten(s.flat)) all["optimizer." + s.name + "." + name] = tensor;
  all["optimizer.steps"] = Tensor::scalar(double(steps_), DType::int64);
  return all;
}

void Optimizer::load_state_dict(const StateDict& state, std::string_view source) {
  const auto steps = state.find("optimizer.steps");
  if (steps == state.end()) throw DataError("{}: no tensor optimizer.steps (weights without a training's state?)", source);
  for (const State& s : states_) flatten(state, source, "optimizer." + s.name + ".", s.flat);
  steps_ = static_cast<int64_t>(steps->second.item());
}

Ema::Ema(const Optimizer& optimizer, double decay)
    : optimizer_(&optimizer), decay_(decay), average_(optimizer.weights().clone()) {}

void Ema::update() { run(EmaStep{decay_}, optimizer_->weights(), average_); }

void Ema::swap() {
  const Tensor weights = optimizer_->weights().clone();
  optimizer_->weights().copy_from(average_);
  average_.copy_from(weights);
  weights_changed();
}

StateDict Ema::state_dict() const { return optimizer_->unflatten(average_); }

void Ema::load_state_dict(const StateDict& state, std::string_view source) { optimizer_->flatten(state, source, "", average_); }

}  // namespace glia
