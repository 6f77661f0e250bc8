// The UNets against PyTorch: values, gradients and training steps with weights from a formula.
#include <doctest/doctest.h>

#include <cmath>
#include <optional>

#include "autograd/operators.h"
#include "kernels/loss.h"
#include "kernels/loss_region.h"
#include "models/pixel_weights.h"
#include "models/unet.h"
#include "nn/optimizer.h"
#include "tests/formula_weights.h"
#include "tests/parity.h"

namespace glia::tests {
namespace {

void load_formula_weights(const ParityCase& c, Module& net) {
  const auto& weights = c.description()["weights"];
  const auto seed = static_cast<uint64_t>(c.description()["seed"].GetInt64());
  StateDict state;
  for (const auto& w : weights.GetArray()) {
    std::vector<int64_t> dims;
    for (const auto& d : w[1].GetArray()) dims.push_back(d.GetInt64());
    state[w[0].GetString()] =
        formula_weights(w[0].GetString(), Shape(std::span<const int64_t>(dims)), w[2].GetDouble(), w[3].GetDouble(), seed);
  }
  net.load_state_dict(state, c.name());
}

struct Outcome {
  std::vector<std::pair<std::string, Tensor>> maps;  // logits, ...
  Tensor loss;
  double dice = -1;  // soft dice coefficient of the batch, as the loss of the case smooths it
};

double soft_dice(const Tensor& logits, const Tensor& target, double smooth) {
  const NoGrad no_grad;
  return 1 - apply(DiceLoss{.per = Per::batch, .smooth = smooth}, sigmoid(logits), target)[0].item();
}

// UNet++: the mean over the heads of 0.5 bce + dice per image, and the mean of their probabilities.
Outcome run_heads(const ParityCase& c, Unet& net) {
  const std::vector<Tensor> heads = net.heads(c.input("x", to_nhwc));
  const Tensor target = c.input("y", to_nhwc).cast(DType::float32);
  const BceDiceLoss op{.per = Per::sample, .smooth = c.params()["dice"]["smooth"].GetDouble(), .bce_weight = 0.5};
  Outcome outcome;
  Tensor loss, probability;
  for (size_t k = 0; k < heads.size(); ++k) {
    outcome.maps.emplace_back(heads.size() > 1 ? fmt::format("logits_{}", k + 1) : "logits", heads[k]);
    const Tensor l = apply(op, heads[k], target)[0], p = sigmoid(heads[k]);
    loss = loss ? loss + l : l;
    probability = probability ? probability + p : p;
  }
  outcome.loss = loss * (1.0 / double(heads.size()));
  outcome.maps.emplace_back("probability", probability * (1.0 / double(heads.size())));
  return outcome;
}

Outcome run(const ParityCase& c, Unet& net) {
  if (c.op() == "unet_plus_plus") return run_heads(c, net);
  const Tensor logits = net(c.input("x", to_nhwc));
  if (c.text("loss", "") == "weighted softmax cross entropy")
    return {{{"logits", logits}}, apply(CrossEntropy{}, logits, c.input("y"), Tensor(), c.input("weight"))[0]};
  const Tensor target = c.input("y", to_nhwc).cast(DType::float32);
  if (c.text("loss", "") == "bce")
    return {{{"logits", logits}}, apply(BceWithLogits{}, logits, target, Tensor(), Tensor()), soft_dice(logits, target, 1)};
  const double smooth = c.params()["dice"]["smooth"].GetDouble();
  return {{{"logits", logits}},
          apply(BceDiceLoss{.per = Per::batch, .smooth = smooth}, logits, target)[0],
          soft_dice(logits, target, smooth)};
}

void check_outcome(const ParityCase& c, const std::string& prefix, const Outcome& got) {
  for (const auto& [name, map] : got.maps) c.check(prefix + name, map, to_nchw);
  c.check_number(prefix + "loss", got.loss.item());
  if (got.dice >= 0) c.check_number(prefix + "dice", got.dice);
}

struct Training {
  Optimizer optimizer;
  double lr = 0, clip_norm = 0;

  static OptimizerOptions options(const rapidjson::Value& o) {
    OptimizerOptions result;
    const std::string name = o["name"].GetString();
    result.kind = name == "sgd" ? OptimizerKind::sgd : OptimizerKind::keras_adam;
    if (o.HasMember("momentum")) result.momentum = o["momentum"].GetDouble();
    if (o.HasMember("weight_decay")) result.weight_decay = o["weight_decay"].GetDouble();
    return result;
  }
  Training(const rapidjson::Value& o, Module& net) : optimizer(options(o), net.parameters()), lr(o["lr"].GetDouble()) {
    if (o.HasMember("clip_norm")) clip_norm = o["clip_norm"].GetDouble();
  }
  void step() {
    if (clip_norm > 0) optimizer.clip_norm(clip_norm);
    optimizer.step(lr);
    optimizer.zero_grad();
  }
};

// Gradients of the first step, the losses of all, running statistics at the end.
void check_training(const ParityCase& c, Unet& net) {
  const int64_t steps = c.integer("steps", 0);
  std::optional<Training> training;
  if (steps > 0) training.emplace(c.params()["optimizer"], net);
  Outcome outcome = run(c, net);
  check_outcome(c, "", outcome);
  backward(outcome.loss);
  double squares = 0;
  for (const NamedTensor& p : net.parameters()) {
    const Tensor gradient = to_checkpoint(grad_of(*p.tensor), p.rule.layout);
    c.check_key("gin/" + p.name, gradient);
    for (const float g : gradient.values<float>()) squares += double(g) * double(g);
  }
  c.check_number("grad_norm", std::sqrt(squares));
  if (steps == 0) return;

  std::vector<double> losses{outcome.loss.item()};
  for (int64_t i = 0; i < steps; ++i) {
    training->step();
    outcome = run(c, net);
    losses.push_back(outcome.loss.item());
    if (i + 1 < steps) backward(outcome.loss);
  }
  c.check("losses", Tensor::from<double>({steps + 1}, losses));
  for (const NamedTensor& b : net.buffers())
    if (b.name.ends_with("running_mean") || b.name.ends_with("running_var")) c.check("after/" + b.name, *b.tensor);
}

// Evaluation, and training where the case has steps.
void check_network(const ParityCase& c, const UnetOptions& options) {
  const auto net = make_unet(options);
  load_formula_weights(c, *net);
  CHECK(net->parameter_count() == c.integer("parameters", 0));
  {
    const NoGrad no_grad;
    net->eval();
    check_outcome(c, "eval_", run(c, *net));
  }
  if (c.integer("steps", 0) < 0) return;
  net->train();
  check_training(c, *net);
}

PARITY_MODEL(unet) {
  const std::string variant = c.text("variant", "");
  UnetOptions options;
  options.name = variant == "dsb2018" ? "unet_dsb" : variant == "valid" ? "unet_original" : "unet_" + variant;
  options.in_channels = c.input("x").dim(1);
  options.out_channels = variant == "valid" ? 2 : 1;
  options.base_channels = c.integer("base", 0);
  options.head = "keras";
  options.bilinear = c.flag("bilinear", false);
  options.dropout = false;
  check_network(c, options);
}

PARITY_MODEL(unet_plus_plus) {
  UnetOptions options;
  options.name = "unet_plus_plus";
  options.in_channels = c.input("x").dim(1);
  options.base_channels = c.integers("widths")[0];
  options.bilinear = c.text("variant", "") == "bilinear";
  options.deep_supervision = options.bilinear ? c.flag("deep_supervision", false) : c.integers("heads").size() > 1;
  options.dropout = false;
  check_network(c, options);
}

PARITY_MODEL(unet_border_weights) {
  const PixelWeights options{.border = c.number("w0", 0), .sigma = c.number("sigma", 0), .balance = true};
  c.check("weight", pixel_weights(c.input("labels").cast(DType::int32), options));
}

}  // namespace
}  // namespace glia::tests
