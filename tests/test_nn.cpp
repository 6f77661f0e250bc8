// Modules, initialisers, layers: what the parity fixtures don't say.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <set>

#include "autograd/operators.h"
#include "autograd/tape.h"
#include "kernels/packed_filter.h"
#include "nn/layers.h"
#include "tests/same_bits.h"
#include "tests/small_net.h"

using namespace glia;
using namespace glia::tests;

namespace {

std::vector<std::string> names(const std::vector<NamedTensor>& list) {
  std::vector<std::string> result;
  for (const NamedTensor& t : list) result.push_back(t.name);
  return result;
}

struct Moments {
  double mean = 0, deviation = 0, largest = 0;
  explicit Moments(const Tensor& t) {
    for (const float v : t.values<float>()) mean += v;
    mean /= double(t.size());
    for (const float v : t.values<float>()) {
      deviation += (v - mean) * (v - mean);
      largest = std::max(largest, std::abs(double(v)));
    }
    deviation = std::sqrt(deviation / double(t.size()));
  }
};

}  // namespace

TEST_SUITE_BEGIN("nn");

TEST_CASE("a module's tensors have dotted names, and filters are stored as KCRS") {
  SmallNet net;
  CHECK(names(net.parameters()) == std::vector<std::string>{"conv.weight", "conv.bias", "body.norm.weight", "body.norm.bias",
                                                            "linear.weight", "linear.bias"});
  CHECK(names(net.buffers()) ==
        std::vector<std::string>{"body.norm.running_mean", "body.norm.running_var", "body.norm.num_batches_tracked"});
  CHECK(net.parameter_count() == 3 * 2 * 9 + 3 + 3 + 3 + 3 + 1);
  net.initialize(7);
  const StateDict state = net.state_dict();
  CHECK(state.size() == 9);
  const Tensor& weight = state.at("conv.weight");
  CHECK(weight.shape() == Shape{3, 2, 3, 3});
  const Tensor ours = *net.parameters()[0].tensor;  // KRSC
  for (int64_t k = 0; k < 3; ++k)
    for (int64_t c = 0; c < 2; ++c)
      for (int64_t i = 0; i < 9; ++i) CHECK(weight.data<float>()[(k * 2 + c) * 9 + i] == ours.data<float>()[(k * 9 + i) * 2 + c]);
  SmallNet other;
  other.initialize(8);
  CHECK_FALSE(same_bits(state, other.state_dict()));
  other.load_state_dict(state, "a test");
  CHECK(same_bits(state, other.state_dict()));
}

TEST_CASE("a state dict that does not fit says why") {
  SmallNet net;
  const StateDict good = net.state_dict();
  StateDict bad = good;
  bad.erase("linear.bias");
  CHECK_THROWS_WITH_AS(net.load_state_dict(bad, "x.safetensors"),
                       "x.safetensors: not in it: linear.bias (a checkpoint of another model?)", DataError);
  bad = good;
  bad["conv.weight"] = Tensor::zeros({3, 1, 3, 3});
  CHECK_THROWS_WITH_AS(
      net.load_state_dict(bad, "x"),
      "x: conv.weight is (3, 1, 3, 3), the model wants (3, 2, 3, 3) (another width, depth or number of classes?)", DataError);
  bad = good;
  bad["extra"] = Tensor::zeros({1});
  CHECK_THROWS_WITH_AS(net.load_state_dict(bad, "x"), "x: the model has no extra (a checkpoint of another model?)", DataError);
  CHECK(net.load_state_dict(bad, "x", false) == std::vector<std::string>{"extra"});
}

TEST_CASE("initialisers have the spread that Keras and PyTorch give them, and depend on seed and name alone") {
  const Fans fans{288, 576};
  const auto draw = [&](Initializer kind, uint64_t seed = 1, const char* name = "w") {
    Tensor t({40000});
    initialize(t, kind, fans, seed, name);
    return t;
  };
  const auto uniform = [&](Initializer kind, double limit) {
    INFO(name_of(kind));
    const Moments m(draw(kind));
    CHECK(m.largest <= limit);
    CHECK(m.largest > 0.999 * limit);
    CHECK(m.deviation == doctest::Approx(limit / std::sqrt(3.0)).epsilon(0.02));
  };
  uniform(Initializer::glorot_uniform, std::sqrt(6.0 / (288 + 576)));
  uniform(Initializer::he_uniform, std::sqrt(6.0 / 288));
  uniform(Initializer::torch_default, 1 / std::sqrt(288.0));
  uniform(Initializer::kaiming_uniform_a1, std::sqrt(3.0 / 288));
  const auto cut = [&](Initializer kind, double deviation) {
    INFO(name_of(kind));
    const Moments m(draw(kind));
    CHECK(m.deviation == doctest::Approx(deviation).epsilon(0.02));
    CHECK(m.largest <= 2 * deviation / 0.87962566103423978);
    CHECK(std::abs(m.mean) < 0.02 * deviation);
  };
  cut(Initializer::he_normal, std::sqrt(2.0 / 288));
  cut(Initializer::glorot_normal, std::sqrt(2.0 / (288 + 576)));
  cut(Initializer::lecun_normal, std::sqrt(1.0 / 288));
  const Moments wide(draw(Initializer::kaiming_normal_fan_out));
  CHECK(wide.deviation == doctest::Approx(std::sqrt(2.0 / 576)).epsilon(0.02));
  CHECK(wide.largest > 3 * wide.deviation);  // not cut
  const auto same = [](const Tensor& a, const Tensor& b) { return std::memcmp(a.raw(), b.raw(), a.bytes()) == 0; };
  CHECK(same(draw(Initializer::he_normal), draw(Initializer::he_normal)));
  CHECK_FALSE(same(draw(Initializer::he_normal), draw(Initializer::he_normal, 2)));
  CHECK_FALSE(same(draw(Initializer::he_normal), draw(Initializer::he_normal, 1, "v")));
  CHECK(parse_initializer("he_normal") == Initializer::he_normal);
  CHECK_THROWS_AS(parse_initializer("he_norml"), UsageError);
}

TEST_CASE("without initial values nothing is drawn, and what is loaded is all there is") {
  const nn::ConvOptions options{.in = 37, .out = 11, .kernel = 3};
  nn::Conv2d drawn(options);
  std::unique_ptr<nn::Conv2d> empty;
  {
    const WithoutInitialValues scope;
    empty = std::make_unique<nn::Conv2d>(options);
  }
  const StateDict state = drawn.state_dict();
  CHECK_FALSE(same_bits(empty->state_dict().at("weight"), state.at("weight")));
  CHECK(wants_grad(*empty->parameters()[0].tensor));
  empty->load_state_dict(state, "drawn");
  CHECK(same_bits(empty->state_dict().at("weight"), state.at("weight")));
  nn::Conv2d later(options);
  CHECK(same_bits(later.state_dict().at("weight"), state.at("weight")));
}

namespace {

struct ForwardOps : OpObserver {
  std::vector<std::string> names;
  void after_forward(const char* op, std::span<const Tensor>, const Tensor&) override { names.push_back(op); }
  void after_backward(const Node&, std::span<const Tensor>) override {}
  bool saw(const std::string& name) const { return std::find(names.begin(), names.end(), name) != names.end(); }
};

struct ConvAndNorm : Module {
  nn::Conv2d conv;
  nn::BatchNorm2d norm{32};
  bool joined;  // of two images side by side

  ConvAndNorm(bool joined_, bool bias) : conv({.in = 64, .out = 32, .pad = nn::same_pad(3), .bias = bias}), joined(joined_) {
    add("conv", conv);
    add("norm", norm);
    initialize(4);
    uint64_t stream = 0;
    for (const NamedTensor& t : parameters())
      if (t.tensor->rank() == 1) t.tensor->copy_from(noise(t.tensor->shape(), ++stream));
  }
  Tensor operator()(const Tensor& a, const Tensor& b, bool apart) {
    if (joined) return apart ? norm(conv.of_concat(a, b), Activation::relu) : conv.of_concat(a, b, norm, Activation::relu);
    const Tensor x = concat({a, b}, 3);
    return apart ? norm(conv(x), Activation::relu) : conv(x, norm, Activation::relu);
  }
};

}  // namespace

TEST_CASE("a batch norm of evaluation is part of the convolution, and follows the norm's numbers") {
  const Tensor a = noise({2, 24, 20, 32}, 7), b = noise({2, 24, 20, 32}, 8);
  for (const bool joined : {false, true})
    for (const bool bias : {false, true}) {
      INFO(joined, " ", bias);
      ConvAndNorm net(joined, bias);
      const auto check = [&] {
        const NoGrad no_grad;
        const Tensor want = net(a, b, true);
        const ForwardOps ops;
        const Tensor got = net(a, b, false);
        CHECK_FALSE(ops.saw("batch_norm"));
        REQUIRE(got.shape() == want.shape());
        double worst = 0, largest = 0;
        for (int64_t i = 0; i < want.size(); ++i) {
          worst = std::max(worst, std::abs(double(got.data<float>()[i]) - want.data<float>()[i]));
          largest = std::max(largest, std::abs(double(want.data<float>()[i])));
        }
        CHECK(largest > 0.1);
        CHECK(worst < 1e-4 * largest);
      };
      {  // training: by the batch's statistics, which move the running ones
        const ForwardOps ops;
        CHECK(wants_grad(net(a, b, false)));
        CHECK(ops.saw("batch_norm"));
      }
      net.eval();
      check();
      {  // the norm alone goes on: its statistics, measured again
        const NoGrad no_grad;
        net.norm.train();
        net(a * a, b, true);
        net.norm.eval();
      }
      check();
      check();
      net.train();
      net(a, noise(b.shape(), 9), false);
      net.eval();
      check();
      StateDict state = net.state_dict();
      state.at("norm.weight").fill(2.5);
      net.load_state_dict(state, "state");
      check();
      set_pack_weights(false);
      check();
      set_pack_weights(true);
      const ForwardOps ops;  // with gradients it stays apart
      CHECK(wants_grad(net(a, b, false)));
      CHECK(ops.saw("batch_norm"));
    }
}

TEST_CASE("a transposed convolution takes its output channels for fan_in, as PyTorch does") {
  nn::ConvTranspose2d up({.in = 64, .out = 16, .kernel = 2, .stride = 2});
  up.initialize(1);
  const Moments m(*up.parameters()[0].tensor);
  CHECK(m.largest <= 1 / std::sqrt(16.0 * 4));
  CHECK(m.largest > 0.99 / std::sqrt(16.0 * 4));
}

TEST_CASE("dropout is off in evaluation and repeats by seed, name and step") {
  struct Two : Module {
    nn::Dropout a{0.5}, b{0.5};
    Two() {
      add("a", a);
      add("b", b);
    }
  };
  Two net;
  const Tensor x = Tensor::full({1000}, 1);
  const auto bits = [](const Tensor& t) {
    std::string s;
    for (const float v : t.values<float>()) s += v != 0 ? '1' : '0';
    return s;
  };
  std::set<std::string> seen;
  for (const int64_t step : {0, 1}) {
    net.set_random(5, step);
    seen.insert(bits(net.a(x)));
    seen.insert(bits(net.b(x)));
  }
  net.set_random(6, 0);
  seen.insert(bits(net.a(x)));
  CHECK(seen.size() == 5);
  net.set_random(5, 1);
  CHECK(seen.count(bits(net.b(x))) == 1);
  const std::string drawn = bits(net.a(x));
  CHECK(std::abs(double(std::count(drawn.begin(), drawn.end(), '1')) - 500) < 60);
  net.eval();
  CHECK(bits(net.a(x)) == std::string(1000, '1'));
}

TEST_CASE("batch norm's running statistics by PyTorch and by Keras") {
  for (const bool keras : {false, true}) {
    nn::BatchNorm2d norm(1, keras ? nn::keras_batch_norm : nn::BatchNormOptions{});
    norm(Tensor::from<float>({1, 1, 2, 1}, {1, 3}));  // mean 2, biased variance 1, unbiased 2
    const StateDict state = norm.state_dict();
    CHECK(state.at("running_mean").item() == doctest::Approx(keras ? 0.02 : 0.2));
    CHECK(state.at("running_var").item() == doctest::Approx(keras ? 1.0 : 0.9 + 0.2));
    CHECK(state.at("num_batches_tracked").item() == 1);
    norm.eval();
    norm(Tensor::from<float>({1, 1, 2, 1}, {1, 3}));
    CHECK(norm.state_dict().at("num_batches_tracked").item() == 1);
  }
}

TEST_SUITE_END();
