// Optimizers, clipping, averages and learning rate schedules against PyTorch, Keras' formula, detectron2 and Cellpose.
#include <doctest/doctest.h>

#include "nn/optimizer.h"
#include "nn/schedule.h"
#include "tests/parity.h"

namespace glia::tests {
namespace {

struct Weights : Module {
  std::vector<Tensor> tensors;
  explicit Weights(const std::vector<Tensor>& values) : tensors(values.size()) {
    for (size_t i = 0; i < values.size(); ++i) {
      add_parameter(fmt::format("g{}", i), tensors[i], values[i].shape(), {});
      tensors[i].copy_from(values[i]);
    }
  }
  // Leaves `gradient` as backward would.
  void set_gradient(size_t i, const Tensor& gradient) {
    GradRecord& record = *tensors[i].grad_record();
    record.buffer.copy_from(gradient);
    record.grad = record.buffer;
  }
};

void run_optimizer(const ParityCase& c, OptimizerKind kind) {
  const Tensor w = c.input("w"), g = c.input("g");
  OptimizerOptions o{.kind = kind};
  o.momentum = c.number("momentum", 0);
  o.dampening = c.number("dampening", 0);
  o.nesterov = c.flag("nesterov", false);
  o.weight_decay = c.number("weight_decay", 0);
  o.amsgrad = c.flag("amsgrad", false);
  o.alpha = c.number("alpha", 0.99);
  o.centered = c.flag("centered", false);
  o.eps = c.number("eps", 0);
  if (c.params().HasMember("betas")) {
    o.beta1 = c.params()["betas"][0].GetDouble();
    o.beta2 = c.params()["betas"][1].GetDouble();
  }
  Weights net({w});
  Optimizer optimizer(o, net.parameters());
  Tensor after(g.shape());
  for (int64_t t = 0; t < g.dim(0); ++t) {
    net.set_gradient(0, g.slice(t, t + 1).reshape(w.shape()));
    optimizer.step(c.number("lr", 0));
    after.slice(t, t + 1).reshape(w.shape()).copy_from(net.tensors[0]);
  }
  c.check("w", after);
}

PARITY_OP(sgd) { run_optimizer(c, OptimizerKind::sgd); }
PARITY_OP(adam) { run_optimizer(c, c.text("epsilon", "") == "hat" ? OptimizerKind::keras_adam : OptimizerKind::adam); }
PARITY_OP(adamw) { run_optimizer(c, OptimizerKind::adamw); }
PARITY_OP(radam) { run_optimizer(c, OptimizerKind::radam); }
PARITY_OP(rmsprop) { run_optimizer(c, OptimizerKind::rmsprop); }

template <class Clip>
void check_clipped(const ParityCase& c, const Clip& clip) {
  const std::vector<Tensor> parts{c.input("g0"), c.input("g1"), c.input("g2")};
  Weights net(parts);
  Optimizer optimizer({}, net.parameters());
  for (size_t i = 0; i < parts.size(); ++i) net.set_gradient(i, parts[i]);
  clip(optimizer);
  for (size_t i = 0; i < parts.size(); ++i) c.check(fmt::format("g{}", i), grad_of(net.tensors[i]));
}

PARITY_OP(clip_grad_norm) {
  check_clipped(c, [&](Optimizer& optimizer) { c.check_number("norm", optimizer.clip_norm(c.number("max_norm", 0))); });
}
PARITY_OP(clip_grad_value) {
  check_clipped(c, [&](Optimizer& optimizer) { optimizer.clip_value(c.number("value", 0)); });
}

PARITY_OP(ema) {
  const Tensor w = c.input("w"), x = c.input("x");
  Weights net({w});
  Optimizer optimizer({}, net.parameters());
  Ema ema(optimizer, c.number("decay", 0));
  Tensor after(x.shape());
  for (int64_t t = 0; t < x.dim(0); ++t) {
    net.tensors[0].copy_from(x.slice(t, t + 1).reshape(w.shape()));
    ema.update();
    after.slice(t, t + 1).reshape(w.shape()).copy_from(ema.state_dict().at("g0"));
  }
  c.check("w", after);
}

ReduceOnPlateau plateau(const ParityCase& c) {
  return {.lr = c.number("lr", 0),
          .maximize = c.text("mode", "min") == "max",
          .factor = c.number("factor", 0.1),
          .patience = c.integer("patience", 10),
          .threshold = c.number("threshold", 1e-4),
          .threshold_absolute = c.text("threshold_mode", "rel") == "abs",
          .cooldown = c.integer("cooldown", 0),
          .min_lr = c.number("min_lr", 0)};
}

Schedule schedule(const ParityCase& c) {
  Schedule s;
  const std::string kind = c.text("kind", "");
  s.kind = kind.starts_with("detectron2_old_warmup_") ? kind.substr(22)
           : kind.starts_with("detectron2_")          ? kind.substr(11)
                                                      : kind;
  s.lr = c.number("lr", 0);
  s.total = c.integer("total", c.integer("steps", 0));
  s.warmup_steps = c.integer("warmup_steps", 0);
  s.warmup_factor = c.number("warmup_factor", 1);
  s.warmup_constant = c.text("warmup", "linear") == "constant";
  s.end = c.number("end", 0);
  s.power = c.number("power", 1);
  s.gamma = c.number("gamma", 0.1);
  s.step_size = c.integer("step_size", 0);
  s.milestones = c.integers("milestones");
  s.period = c.integer("period", 0);
  s.multiply = c.integer("multiply", 1);
  s.max_lr = c.number("max_lr", 0);
  s.warm_fraction = c.number("warm_fraction", 0.3);
  s.div = c.number("div", 25);
  s.final_div = c.number("final_div", 1e4);
  if (c.params().HasMember("momentum")) {
    s.momentum_low = c.params()["momentum"][0].GetDouble();
    s.momentum_high = c.params()["momentum"][1].GetDouble();
  }
  s.validate();
  return s;
}

PARITY_MODEL(lr_schedule) {
  const int64_t steps = c.integer("steps", 0);
  Tensor lr({steps}, DType::float64), momentum({steps}, DType::float64);
  if (c.text("kind", "") == "reduce_on_plateau") {
    ReduceOnPlateau rule = plateau(c);
    const Tensor metric = c.input("metric");
    for (int64_t i = 0; i < steps; ++i) {
      lr.data<double>()[i] = rule.lr;
      rule.update(metric.data<double>()[i]);
    }
  } else {
    const Schedule s = schedule(c);
    for (int64_t i = 0; i < steps; ++i) {
      lr.data<double>()[i] = s.lr_at(i);
      momentum.data<double>()[i] = s.momentum_at(i).value_or(0);
    }
  }
  c.check("lr", lr);
  if (c.has("out/momentum")) c.check("momentum", momentum);
}

}  // namespace
}  // namespace glia::tests
