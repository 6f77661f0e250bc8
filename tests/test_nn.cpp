// Modules, initialisers, layers, optimizers: what the parity fixtures don't say.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <set>

#include "autograd/operators.h"
#include "models/unet.h"
#include "nn/layers.h"
#include "nn/optimizer.h"
#include "nn/schedule.h"
#include "tensor/parallel.h"

using namespace glia;

namespace {

struct Net : Module {
  nn::Conv2d conv{{.in = 2, .out = 3, .pad = nn::same_pad(3)}};
  nn::BatchNorm2d norm{3};
  nn::Linear linear{3, 1};
  Net() {
    add("conv", conv);
    add("body.norm", norm);
    add("linear", linear);
  }
  Tensor operator()(const Tensor& x) { return linear(norm(conv(x), Activation::relu)); }
};

std::vector<std::string> names(const std::vector<NamedTensor>& list) {
  std::vector<std::string> result;
  for (const NamedTensor& t : list) result.push_back(t.name);
  return result;
}

Tensor noise(const Shape& shape, uint64_t seed) {
  Tensor t(shape);
  initialize(t, Initializer::he_normal, {}, seed, "noise");
  return t;
}

void train(Net& net, Optimizer& optimizer, int64_t from, int64_t to) {
  for (int64_t i = from; i < to; ++i) {
    optimizer.zero_grad();
    const Tensor y = net(noise({2, 5, 4, 2}, uint64_t(i)));
    backward(apply(Mean{}, square(y)));
    optimizer.clip_norm(0.5);
    optimizer.step(0.01);
  }
}

bool equal(const StateDict& a, const StateDict& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, tensor] : a) {
    const auto other = b.find(name);
    if (other == b.end() || !same_shape(tensor, other->second) || tensor.dtype() != other->second.dtype()) return false;
    if (std::memcmp(tensor.raw(), other->second.raw(), tensor.bytes()) != 0) return false;
  }
  return true;
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
  Net net;
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
  Net other;
  other.initialize(8);
  CHECK_FALSE(equal(state, other.state_dict()));
  other.load_state_dict(state, "a test");
  CHECK(equal(state, other.state_dict()));
}

TEST_CASE("a state dict that does not fit says why") {
  Net net;
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

TEST_CASE("a transposed convolution takes its output channels for fan_in, as PyTorch does") {
  nn::ConvTranspose2d up({.in = 64, .out = 16, .kernel = 2, .stride = 2});
  up.initialize(1);
  const Moments m(*up.parameters()[0].tensor);
  CHECK(m.largest <= 1 / std::sqrt(16.0 * 4));
  CHECK(m.largest > 0.99 / std::sqrt(16.0 * 4));
}

TEST_CASE("parameters are views of the arena, and training resumes to the bit on any number of threads") {
  for (const OptimizerKind kind :
       {OptimizerKind::sgd, OptimizerKind::keras_sgd, OptimizerKind::adam, OptimizerKind::radam, OptimizerKind::rmsprop}) {
    const OptimizerOptions options{.kind = kind, .momentum = 0.9, .weight_decay = 1e-3};
    Net straight;
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
    Net resumed;
    resumed.initialize(99);
    resumed.load_state_dict(weights, "weights");
    Optimizer again(options, resumed.parameters());
    again.load_state_dict(state, "state");
    train(resumed, again, 5, 12);
    set_num_threads(threads);
    CHECK(equal(straight.state_dict(), resumed.state_dict()));
    CHECK(equal(optimizer.state_dict(), again.state_dict()));
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

  Net net;
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
  Net net;
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
  Net net;
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
  Net net;
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
  Net net;
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
  CHECK(equal(loaded.state_dict(), state));
  ema.swap();
  CHECK(w.item() == doctest::Approx(0.75 * start + 0.25));
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

TEST_SUITE_BEGIN("models");

TEST_CASE("UNets of any depth keep the image's size, or lose the margin") {
  const NoGrad no_grad;
  for (const std::string& name : unet_names()) {
    for (const int64_t depth : {1, 2, 3}) {
      INFO(name, " depth ", depth);
      UnetOptions options{.name = name, .in_channels = 2, .out_channels = 3, .base_channels = 4, .depth = depth};
      const auto net = make_unet(options);
      net->initialize(1);
      // unet_original: s - 4 even at every level
      const int64_t side = name == "unet_original" ? 4 * ((int64_t{1} << depth) - 1) + 20 * (int64_t{1} << depth) : 32;
      const Tensor y = (*net)(noise({1, side, side, 2}, 1));
      CHECK(y.shape() == Shape{1, side - 2 * net->margin(), side - 2 * net->margin(), 3});
    }
  }
  CHECK(make_unet({.name = "unet_original", .base_channels = 2})->margin() == 92);
  const auto odd = make_unet({.name = "unet_milesial", .base_channels = 4, .depth = 2, .bilinear = true});
  CHECK((*odd)(noise({2, 13, 18, 1}, 1)).shape() == Shape{2, 13, 18, 1});
  const auto strict = make_unet({.name = "unet_keras", .base_channels = 4, .depth = 2});
  CHECK_THROWS_AS((*strict)(noise({1, 13, 16, 1}, 1)), UsageError);
  CHECK_THROWS_AS(make_unet({.name = "unet"}), UsageError);
  CHECK_THROWS_AS(make_unet({.depth = 9}), UsageError);
}

TEST_CASE("UNet++: pruned to a column it gives that head's logits to the bit, and does without the deeper levels") {
  const NoGrad no_grad;
  struct Convolutions : OpObserver {
    int count = 0;
    void after_forward(const char* name, std::span<const Tensor>, const Tensor&) override {
      count += std::string_view(name).starts_with("conv");
    }
    void after_backward(const Node&, std::span<const Tensor>) override {}
  };
  const Tensor x = noise({1, 16, 24, 1}, 1);
  for (const bool bilinear : {false, true}) {
    UnetOptions options{.name = "unet_plus_plus", .out_channels = 2, .base_channels = 4, .depth = 3, .bilinear = bilinear};
    const auto whole = make_unet(options);
    whole->initialize(1);
    whole->eval();
    const std::vector<Tensor> all = whole->heads(x);
    REQUIRE(all.size() == 3);
    for (int64_t d = 1; d <= 3; ++d) {
      INFO("pruned to ", d, std::string(bilinear ? ", bilinear" : ", transposed"));
      options.prune = d;
      const auto pruned = make_unet(options);
      pruned->load_state_dict(whole->state_dict(), "whole");
      pruned->eval();
      Convolutions convolutions;
      const std::vector<Tensor> one = pruned->heads(x);
      REQUIRE(one.size() == 1);
      CHECK(std::memcmp(one[0].raw(), all[size_t(d - 1)].raw(), one[0].bytes()) == 0);
      const int64_t nodes = (d + 1) * (d + 2) / 2, ups = bilinear ? 0 : d * (d + 1) / 2;
      CHECK(convolutions.count == 2 * nodes + ups + 1);
      pruned->train();
      CHECK(pruned->heads(x).size() == 3);  // a training trains all of it
    }
  }
  CHECK_THROWS_WITH_AS(make_unet({.name = "unet_plus_plus", .deep_supervision = false, .prune = 2}),
                       doctest::Contains("model.deep_supervision"), UsageError);
  CHECK_THROWS_AS(make_unet({.name = "unet_plus_plus", .depth = 3, .prune = 4}), UsageError);
  const auto single = make_unet({.name = "unet_plus_plus", .base_channels = 4, .depth = 3, .deep_supervision = false});
  CHECK(single->heads(x).size() == 1);
  CHECK_THROWS_AS(single->heads(noise({1, 12, 16, 1}, 1)), UsageError);
}

TEST_SUITE_END();
