#pragma once
// Optimizers over one flat arena. The parameters of a module become views into one array, their gradients into another, the state
// (momentum, moments) into further ones, so that a step, a norm or an average is one loop over contiguous memory.
//
//   Optimizer optimizer({.kind = OptimizerKind::adam}, net.parameters());
//   for (...) {
//     optimizer.zero_grad();
//     backward(loss);
//     optimizer.clip_norm(1.0);
//     optimizer.step(schedule.lr_at(i));
//   }
#include <optional>
#include <string>
#include <vector>

#include "nn/module.h"

namespace glia {

enum class OptimizerKind : uint8_t { sgd, keras_sgd, adam, keras_adam, adamw, radam, rmsprop };
OptimizerKind parse_optimizer(std::string_view name);  // "sgd", "adam", ...; UsageError for an unknown name

struct OptimizerOptions {
  OptimizerKind kind = OptimizerKind::adam;
  double momentum = 0;  // of sgd and rmsprop
  double dampening = 0;
  bool nesterov = false;
  double beta1 = 0.9;
  double beta2 = 0.999;
  bool amsgrad = false;
  double alpha = 0.99;  // rmsprop's decay of the squared gradient
  bool centered = false;
  double eps = 0;  // 0: 1e-8, or 1e-7 in Keras' optimizers
  double weight_decay = 0;
  std::optional<double> weight_decay_norm{};  // of norm layers' parameters, instead of weight_decay
  std::optional<double>
      weight_decay_bias{};    // of parameters named bias, those of norm layers too, instead of either (as detectron2)
  double bias_lr_factor = 1;  // of parameters named bias
};

// Parameters whose name matches `pattern` (* stands for any text) have their learning rate and weight decay multiplied; the first
// group that matches counts. An lr_factor of 0 freezes: the parameter takes no gradient and stays out of the arena.
struct ParameterGroup {
  std::string pattern;
  double lr_factor = 1;
  double decay_factor = 1;
};

bool matches(std::string_view pattern, std::string_view name);

// Invariants: parameter i is the view [offset, offset + size) of weights_, and its gradient record's buffer the same part of
// gradients_; parts start at multiples of 64 bytes, the gaps stay 0; the parameters of a run are contiguous.
class Optimizer {
 public:
  // Moves the parameters into the arena, but for frozen ones. The module must outlive the optimizer.
  Optimizer(const OptimizerOptions& options, const std::vector<NamedTensor>& parameters,
            const std::vector<ParameterGroup>& groups = {});

  void zero_grad();
  // 2-norm of all gradients, in double and in a fixed order. Not finite if any gradient is not. Waits for the device; its square, a
  // float64 scalar there, does not.
  double grad_norm();
  Tensor squared_norm();
  // Scales the gradients by min(1, max_norm / (norm + 1e-6)) as PyTorch does, given squared_norm() or with the one that is returned.
  void clip_norm(double max_norm, const Tensor& squared_norm);
  double clip_norm(double max_norm);
  void clip_norm_each(double max_norm);  // the same for each parameter's gradient alone (detectron2's clipping by "norm")
  void clip_value(double limit);         // clamps every element of the gradients to [-limit, limit]
  void scale_gradients(double factor);
  // One step with this learning rate. A parameter that no gradient reached counts as having gradient 0.
  void step(double lr);
  void set_momentum(double momentum);  // for schedules that change it; beta1 of the Adams
  int64_t steps() const { return steps_; }

  // What step() changes, copied, and back.
  struct Snapshot {
    std::vector<Tensor> arrays;
    int64_t steps = 0;
  };
  void save(Snapshot& snapshot) const;  // into the arrays of an earlier one where it has them
  void restore(const Snapshot& snapshot);

  // Name of the first parameter whose gradient (value) has a NaN or infinity; empty if none has.
  std::string first_non_finite_gradient();
  std::string first_non_finite_value();

  const Tensor& weights() const { return weights_; }  // the arenas, flat
  const Tensor& gradients() const { return gradients_; }
  const OptimizerOptions& options() const { return options_; }

  // State as `optimizer.KIND_OF_STATE.PARAMETER` (layout of checkpoints) and `optimizer.steps`.
  StateDict state_dict() const;
  void load_state_dict(const StateDict& state, std::string_view source);  // DataError where something is missing or misshapen

  // A flat array over the arena as tensors by parameter name, in the layout of checkpoints, and back: for averages.
  StateDict unflatten(const Tensor& flat) const;
  void flatten(const StateDict& state, std::string_view source, const std::string& prefix, const Tensor& flat) const;

 private:
  struct Part {
    std::string name;
    Tensor* tensor;
    ParameterLayout layout;
    int64_t offset;
  };
  struct Run {  // of parameters of one group and one kind
    int64_t begin, end;
    double lr_factor, weight_decay;
  };
  struct State {
    std::string name;
    Tensor flat;
  };

  Run rules_of(const NamedTensor& parameter, const ParameterGroup& group) const;
  void require_gradients();  // fills the gradients that backward did not reach with 0
  void step_run(const Run& run, double lr);
  std::string first_non_finite(const Tensor& arena) const;
  std::vector<Tensor> arrays() const;  // weights and state

  OptimizerOptions options_;
  std::vector<Part> parts_;
  std::vector<Run> runs_;
  std::vector<State> states_;
  Tensor weights_, gradients_;
  int64_t steps_ = 0;
};

// Exponential moving average of an optimizer's parameters (buffers are not averaged). `swap` exchanges parameters and average:
// once before evaluation, once after.
class Ema {
 public:
  Ema(const Optimizer& optimizer, double decay);
  void update();  // after each step
  void swap();
  const Tensor& average() const { return average_; }  // flat, as the optimizer's weights
  StateDict state_dict() const;                       // parameter names, without prefix
  void load_state_dict(const StateDict& state, std::string_view source);

 private:
  const Optimizer* optimizer_;
  double decay_;
  Tensor average_;
};

}  // namespace glia
