// Optimizers, averages of weights, schedules: what the parity fixtures don't say.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "autograd/operators.h"
#include "nn/optimizer.h"
#include "nn/schedule.h"
#include "tensor/parallel.h"
#include "tests/same_bits.h"
#include "tests/small_net.h"

using namespace glia;
using namespace glia::tests;

namespace {

void train(SmallNet& net, Optimizer& optimizer, int64_t from, int64_t to) {
  for (int64_t i = from; i < to; ++i) {
    optimizer.zero_grad();
    const Tensor y = net(noise({2, 5, 4, 2}, uint64_t(i)));
    backward(apply(Mean{}, square(y)));
    optimizer.clip_norm(0.5);
    optimizer.step(0.01);
  }
}

}  // namespace

TEST_SUITE_BEGIN("nn");

TEST_CASE("parameters are views of the arena, and training resumes to the bit on any number of threads") {
  for (const OptimizerKind kind :
       {OptimizerKind::sgd, OptimizerKind::keras_sgd, OptimizerKind::adam, OptimizerKind::radam, OptimizerKind::rmsprop}) {
    const OptimizerOptions options{.kind = kind, .momentum = 0.9, .weight_decay = 1e-3};
    SmallNet straight;
    straight.initialize(3);
    Optimizer optimizer(options, straight.parameters());
    for (const NamedTensor& p : straight.parameters()) {
      CHECK(p.tensor->shares_data_with(optimizer.weights()));
      CHECK(reinterpret_cast<uintptr_t>(p.tensor->raw()) % 64 == 0);
    }
    train(straight, optimizer, 0, 5);
    const StateDict weights = straight.state_dict(), state = optimizer.state_dict();
    train(straight, optimizer, 5, 12);

    const int threads = num_threads();
    set_num_threads(threads == 1 ? 2 : 1);
    SmallNet resumed;
    resumed.initialize(99);
    resumed.load_state_dict(weights, "weights");
    Optimizer again(options, resumed.parameters());
    again.load_state_dict(state, "state");
    train(resumed, again, 5, 12);
    set_num_threads(threads);
    CHECK(same_bits(straight.state_dict(), resumed.state_dict()));
    CHECK(same_bits(optimizer.state_dict(), again.state_dict()));
    CHECK(optimizer.steps() == 12);
  }
}

TEST_CASE("Keras' SGD keeps the learning rate in its velocity") {
  struct One : Module {
    Tensor w;
    One() { add_parameter("w", w, {1}, {}); }
  };
  One net;
  net.w.fill(1);
  Optimizer optimizer({.kind = OptimizerKind::keras_sgd, .momentum = 0.5}, net.parameters());
  for (const double lr : {0.1, 0.01}) {
    GradRecord& record = *net.w.grad_record();
    record.buffer.fill(2);
    record.grad = record.buffer;
    optimizer.step(lr);
  }
  // v = -0.2, w = 0.8; v = -0.1 - 0.02, w = 0.68 (PyTorch's b = 3 would give 0.77)
  CHECK(net.w.item() == doctest::Approx(0.68));
}

TEST_CASE("groups scale, freeze and spare parameters by name") {
  CHECK(matches("*", "a.b"));
  CHECK(matches("*.bias", "conv.bias"));
  CHECK(matches("conv*w*", "conv.weight"));
  CHECK_FALSE(matches("*.bias", "conv.bias2"));
  CHECK_FALSE(matches("conv", "conv.weight"));

  SmallNet net;
  net.initialize(1);
  const StateDict before = net.state_dict();
  Optimizer optimizer({.kind = OptimizerKind::sgd, .weight_decay = 0.1}, net.parameters(),
                      {{"conv.*", 0, 1}, {"*.bias", 1, 0}, {"linear.weight", 0.5, 1}});
  backward(apply(Mean{}, net(noise({1, 4, 4, 2}, 1))));
  CHECK_FALSE(grad_of(*net.parameters()[0].tensor));  // frozen: none is computed
  StateDict gradient;
  for (const NamedTensor& p : net.parameters())
    if (grad_of(*p.tensor)) gradient[p.name] = to_checkpoint(grad_of(*p.tensor), p.rule.layout);
  optimizer.step(0.1);
  const StateDict after = net.state_dict();
  const auto check = [&](const char* name, double lr, double decay) {
    INFO(name);
    for (int64_t i = 0; i < before.at(name).size(); ++i) {
      const double w = before.at(name).data<float>()[i];
      CHECK(after.at(name).data<float>()[i] == doctest::Approx(w - lr * (gradient.at(name).data<float>()[i] + decay * w)));
    }
  };
  check("linear.bias", 0.1, 0);
  check("linear.weight", 0.05, 0.1);
  check("body.norm.weight", 0.1, 0.1);
  CHECK(std::memcmp(before.at("conv.weight").raw(), after.at("conv.weight").raw(), before.at("conv.weight").bytes()) == 0);
}

TEST_CASE("norm layers and biases have their own weight decay and learning rate, as detectron2's parameter groups") {
  SmallNet net;
  net.initialize(1);
  const StateDict before = net.state_dict();
  Optimizer optimizer(
      {.kind = OptimizerKind::sgd, .weight_decay = 0.1, .weight_decay_norm = 0.0, .weight_decay_bias = 0.3, .bias_lr_factor = 2},
      net.parameters());
  for (const NamedTensor& p : net.parameters()) {
    GradRecord& record = *p.tensor->grad_record();
    record.buffer.fill(1);
    record.grad = record.buffer;
  }
  optimizer.step(0.1);
  const StateDict after = net.state_dict();
  const auto check = [&](const char* name, double lr, double decay) {
    INFO(name);
    for (int64_t i = 0; i < before.at(name).size(); ++i) {
      const double w = before.at(name).data<float>()[i];
      CHECK(after.at(name).data<float>()[i] == doctest::Approx(w - lr * (1 + decay * w)));
    }
  };
  check("conv.weight", 0.1, 0.1);
  check("linear.weight", 0.1, 0.1);
  check("linear.bias", 0.2, 0.3);
  check("body.norm.weight", 0.1, 0);
  check("body.norm.bias", 0.2, 0.3);  // what is named bias counts last
}

TEST_CASE("gradients are clipped by the norm of each parameter's, where asked") {
  SmallNet net;
  net.initialize(1);
  Optimizer optimizer({.kind = OptimizerKind::sgd}, net.parameters());
  double value = 0;
  for (const NamedTensor& p : net.parameters()) {
    GradRecord& record = *p.tensor->grad_record();
    record.buffer.fill(value += 0.01);
    record.grad = record.buffer;
  }
  optimizer.clip_norm_each(0.05);
  value = 0;
  for (const NamedTensor& p : net.parameters()) {
    INFO(p.name);
    const double norm = (value += 0.01) * std::sqrt(double(p.tensor->size()));
    CHECK(grad_of(*p.tensor).data<float>()[0] == doctest::Approx(value * std::min(1.0, 0.05 / (norm + 1e-6))).epsilon(1e-5));
  }
}

TEST_CASE("the first non-finite gradient is named") {
  SmallNet net;
  Optimizer optimizer({}, net.parameters());
  CHECK(optimizer.first_non_finite_gradient() == "");
  backward(apply(Mean{}, net(noise({1, 4, 4, 2}, 1))));
  CHECK(std::isfinite(optimizer.grad_norm()));
  const Tensor gradient = grad_of(*net.parameters()[4].tensor);
  gradient.data<float>()[1] = NAN;
  CHECK(optimizer.first_non_finite_gradient() == "linear.weight");
  CHECK_FALSE(std::isfinite(optimizer.grad_norm()));
  CHECK(optimizer.first_non_finite_value() == "");
}

TEST_CASE("averages swap in and out") {
  SmallNet net;
  net.initialize(1);
  Optimizer optimizer({.kind = OptimizerKind::sgd}, net.parameters());
  Ema ema(optimizer, 0.75);
  const Tensor w = *net.parameters()[5].tensor;
  w.fill(1);
  ema.swap();
  const double start = w.item();
  ema.swap();
  CHECK(w.item() == 1);
  ema.update();
  const StateDict state = ema.state_dict();
  CHECK(state.at("linear.bias").item() == doctest::Approx(0.75 * start + 0.25));
  Ema loaded(optimizer, 0.75);
  loaded.load_state_dict(state, "ema");
  CHECK(same_bits(loaded.state_dict(), state));
  ema.swap();
  CHECK(w.item() == doctest::Approx(0.75 * start + 0.25));
}

TEST_CASE("schedules refuse what they cannot do") {
  CHECK_THROWS_AS((Schedule{.kind = "cosin"}.validate()), UsageError);
  CHECK_THROWS_AS((Schedule{.kind = "cosine"}.validate()), UsageError);  // no total
  CHECK_THROWS_AS((Schedule{.kind = "multistep", .milestones = {5, 3}}.validate()), UsageError);
  CHECK_NOTHROW((Schedule{.kind = "cosine", .total = 10}.validate()));
  const Schedule warm{.kind = "constant", .lr = 2, .warmup_steps = 4, .warmup_factor = 0};
  CHECK(warm.lr_at(0) == 0);
  CHECK(warm.lr_at(1) == doctest::Approx(0.5));
  CHECK(warm.lr_at(4) == 2);
}

TEST_SUITE_END();
