// What the parity fixture of the backbone does not reach: freezing, the other norms, the deeper network, layouts.
#include <doctest/doctest.h>

#include "autograd/operators.h"
#include "models/fpn.h"
#include "nn/optimizer.h"
#include "tensor/random.h"

namespace glia::tests {
namespace {

Tensor noise(const Shape& shape, uint64_t stream) {
  Tensor t(shape);
  for (int64_t i = 0; i < t.size(); ++i) t.data<float>()[i] = static_cast<float>(Philox(7, stream).normal(uint64_t(i)));
  return t;
}

ResnetOptions narrow() { return {.stem_channels = 8, .res2_channels = 32, .width_per_group = 32}; }

double largest_difference(const Tensor& a, const Tensor& b) {
  REQUIRE(same_shape(a, b));
  double most = 0;
  for (int64_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(double(a.data<float>()[i]) - double(b.data<float>()[i])));
  return most;
}

}  // namespace

TEST_SUITE_BEGIN("models");

TEST_CASE("frozen parameters: no gradient, not the optimizer's, but drawn, saved and loaded") {
  nn::Conv2d frozen({.in = 2, .out = 2, .kernel = 1}), trained({.in = 2, .out = 2, .kernel = 1});
  struct Net : Module {
    Net(Module& a, Module& b) {
      add("frozen", a);
      add("trained", b);
    }
  } net(frozen, trained);
  frozen.freeze();
  net.initialize(3);
  CHECK(net.state_dict().size() == 4);
  const StateDict before = net.state_dict();
  Optimizer optimizer({.kind = OptimizerKind::sgd, .weight_decay = 0.1}, net.parameters());
  CHECK(optimizer.weights().size() == 32);  // weight and bias of `trained`, each on a line of 16 elements
  backward(apply(Sum{}, trained(frozen(noise({1, 3, 3, 2}, 1)))));
  optimizer.step(0.1);
  const StateDict after = net.state_dict();
  CHECK(largest_difference(before.at("frozen.weight"), after.at("frozen.weight")) == 0);
  CHECK(largest_difference(before.at("trained.weight"), after.at("trained.weight")) > 0);
  net.load_state_dict(before, "before");
  CHECK(largest_difference(before.at("trained.weight"), net.state_dict().at("trained.weight")) == 0);
}

TEST_CASE("a linear layer over pooled images keeps the checkpoint's order of columns") {
  nn::Linear linear(6, 1, false, {}, ParameterLayout::pooled(3));  // 2 channels of 3 pixels
  linear.load_state_dict({{"weight", Tensor::from<float>({1, 6}, {0, 1, 2, 10, 11, 12})}}, "test");
  CHECK(linear(Tensor::from<float>({1, 6}, {1, 0, 0, 0, 0, 0})).item() == 0);   // pixel 0, channel 0
  CHECK(linear(Tensor::from<float>({1, 6}, {0, 1, 0, 0, 0, 0})).item() == 10);  // pixel 0, channel 1
  CHECK(linear(Tensor::from<float>({1, 6}, {0, 0, 0, 0, 0, 1})).item() == 12);
  CHECK(linear.state_dict().at("weight").data<float>()[3] == 10);
  CHECK_THROWS_AS(linear.load_state_dict({{"weight", Tensor::zeros({1, 7})}}, "test"), DataError);
}

TEST_CASE("convolution and norm: a constant batch norm in the epilogue is the batch norm") {
  const nn::ConvOptions options{.in = 3, .out = 5, .pad = nn::same_pad(3), .bias = false, .activation = Activation::relu};
  nn::ConvNorm2d frozen(options, nn::NormKind::frozen_bn), trained(options, nn::NormKind::bn);
  StateDict state;
  for (const auto& [name, t] : frozen.state_dict()) {
    state[name] = noise(t.shape(), name.size());
    if (name == "norm.running_var") state[name] = apply(Square{}, state[name]);
  }
  frozen.load_state_dict(state, "test");
  state["norm.num_batches_tracked"] = Tensor::zeros({}, DType::int64);
  trained.load_state_dict(state, "test");
  trained.eval();
  const Tensor x = noise({2, 6, 7, 3}, 50), residual = noise({2, 6, 7, 5}, 51);
  const Tensor y = frozen(x, residual);
  CHECK(largest_difference(y, trained(x, residual)) < 1e-5);
  const NoGrad no_grad;
  CHECK(largest_difference(y, trained(x, residual)) < 1e-5);
}

TEST_CASE("backbone with batch or group norm: frozen stages are constants, all others learn") {
  for (const nn::NormKind norm : {nn::NormKind::bn, nn::NormKind::gn}) {
    ResnetOptions options = narrow();
    options.stem_channels = 32;
    options.norm = norm;
    Fpn net(options, 8);
    net.initialize(1);
    const Pyramid p = net(noise({2, 64, 96, 3}, 2));
    for (size_t i = 0; i < 5; ++i) CHECK(p[i].dim(2) == (96 + pyramid_strides[i] - 1) / pyramid_strides[i]);
    backward(apply(Sum{}, apply(Square{}, p[0])) + apply(Sum{}, apply(Square{}, p[3])) + apply(Sum{}, apply(Square{}, p[1])) +
             apply(Sum{}, apply(Square{}, p[2])));
    for (const NamedTensor& t : net.parameters()) {
      INFO(t.name);
      const bool still = t.name.find("stem") != std::string::npos || t.name.find("res2") != std::string::npos;
      CHECK(bool(grad_of(*t.tensor)) != still);
    }
  }
}

TEST_CASE("ResNet-101 has 23 blocks in its fourth stage; other depths are told") {
  ResnetOptions options = narrow();
  options.depth = 101;
  Resnet net(options);
  CHECK(net.state_dict().contains("res4.22.conv3.norm.running_var"));
  CHECK(!net.state_dict().contains("res4.23.conv1.weight"));
  options.depth = 34;
  CHECK_THROWS_AS(Resnet{options}, UsageError);
}

}  // namespace glia::tests

TEST_SUITE_END();
