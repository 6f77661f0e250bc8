// What the case table (op_cases_conv.cpp) does not reach: every algorithm of the CPU convolutions on its own, and the errors.
#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <string>

#include "autograd/apply.h"
#include "kernels/conv.h"
#include "kernels/cpu/winograd.h"
#include "kernels/matmul.h"
#include "tensor/random.h"
#include "tests/op_cases.h"
#include "tests/same_bits.h"

namespace glia::tests {
namespace {

struct Forced {
  explicit Forced(const cpu::ConvAlgorithm& algorithm) {
    cpu::force_conv_algorithm(&algorithm);
    set_kernel_choice(KernelChoice::hand);
  }
  ~Forced() {
    cpu::force_conv_algorithm(nullptr);
    set_kernel_choice(KernelChoice::automatic);
  }
};

double largest_difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  const Tensor x = a.cast(DType::float64), y = b.cast(DType::float64);
  double largest = 0;
  for (int64_t i = 0; i < x.size(); ++i) largest = std::max(largest, std::abs(x.data<double>()[i] - y.data<double>()[i]));
  return largest;
}

Tensor random_tensor(const Shape& shape) {
  Tensor t(shape);
  const Philox random(3, 4);
  for (int64_t i = 0; i < t.size(); ++i) t.data<float>()[i] = float(random.words(uint64_t(i))[0]) * 0x1p-31f - 1;
  return t;
}

struct Result {
  Tensor y, dx, dw;
};

Result run(const OpCase& c, const std::vector<Tensor>& inputs, DType dtype) {
  std::vector<Tensor> in;
  for (const Tensor& t : inputs) in.push_back(t ? t.cast(dtype).clone() : t);
  require_grad(in[0]);
  require_grad(in[1]);
  const Tensor y = c.run(in)[0];
  backward(y, Tensor::full(y.shape(), 0.5, dtype));
  return {y, grad_of(in[0]), grad_of(in[1])};
}

}  // namespace

TEST_SUITE_BEGIN("ops");

TEST_CASE("every algorithm of the convolutions gives the reference's values and gradients") {
  std::set<std::string> names;
  for (const cpu::ConvAlgorithm& algorithm : cpu::conv_algorithms()) {
    CHECK(names.insert(algorithm.name).second);
    for (const OpCase& c : op_cases()) {
      if (c.op != "conv2d" && c.op != "conv_transpose2d") continue;
      const auto inputs = make_inputs(c, 3);
      const Result want = run(c, inputs, DType::float64);
      const Forced forced(algorithm);
      const Result got = run(c, inputs, DType::float32);
      INFO(algorithm.name, ": ", c.op, " [", c.label, "]");
      CHECK(largest_difference(got.y, want.y) < 1e-3);
      CHECK(largest_difference(got.dx, want.dx) < 1e-3);
      CHECK(largest_difference(got.dw, want.dw) < 1e-3);
    }
  }
  CHECK(names.size() == cpu::conv_algorithms().size());
  CHECK(cpu::conv_algorithms().back().applicable({}, ConvPass::forward));
}

TEST_CASE("the choices among algorithms are recorded, each once") {
  const Tensor none;
  Tensor x = Tensor::zeros({1, 64, 64, 64}), w = Tensor::zeros({64, 3, 3, 64}), w2 = Tensor::zeros({5, 1, 1, 64});
  for (Tensor* t : {&x, &w, &w2}) require_grad(*t);
  set_kernel_choice(KernelChoice::hand);
  std::vector<cpu::ConvChoice> choices;
  cpu::record_conv_choices(&choices);
  for (int i = 0; i < 2; ++i) {
    const Tensor y = apply(Conv2d{.pad = {1, 1, 1, 1}}, x, w, none, none, none);
    const Tensor z = apply(Conv2d{}, y, w2, none, none, none);
    backward(z, Tensor::full(z.shape(), 1.0));
  }
  cpu::record_conv_choices(nullptr);
  apply(Conv2d{.stride = {2, 2}}, x, w2, none, none, none);
  set_kernel_choice(KernelChoice::automatic);
  REQUIRE(choices.size() == 6);
  int winograd = 0;
  for (const cpu::ConvChoice& c : choices) {
    CHECK(c.geometry.flops() == 2.0 * 64 * 64 * 64 * (c.geometry.k == 64 ? 64 * 9 : 5));
    const bool is_winograd = std::string(c.algorithm->name) == "winograd";
    CHECK(is_winograd == (c.geometry.r == 3));
    const std::optional<double> gain = cpu::winograd_gain(c.geometry, c.pass);
    REQUIRE(gain.has_value() == is_winograd);
    if (!gain) continue;
    CHECK(*gain > cpu::least_winograd_gain);
    CHECK(*gain < 4);  // 36 products instead of 144
    ConvGeometry narrow = c.geometry, shallow = c.geometry;
    narrow.k = 15;  // the estimate is not for so few
    shallow.k = 16;
    CHECK_FALSE(cpu::winograd_gain(narrow, c.pass).has_value());
    CHECK(cpu::winograd_gain(shallow, c.pass).value() < *gain);
    winograd += is_winograd;
  }
  CHECK(winograd == 3);
}

TEST_CASE("convolutions say what does not fit") {
  const Tensor x = Tensor::zeros({1, 5, 5, 4}), w = Tensor::zeros({6, 3, 3, 4}), none;
  CHECK_THROWS_WITH_AS(apply(Conv2d{}, x, Tensor::zeros({6, 3, 3, 5}), none, none, none),
                       "conv2d: x is (1, 5, 5, 4) with 4 channels, w is (6, 3, 3, 5): want C/groups = 5 with 1 groups",
                       InternalError);
  CHECK_THROWS_AS(apply(Conv2d{}, x, w, Tensor::zeros({5}), none, none), InternalError);
  CHECK_THROWS_AS(apply(Conv2d{}, x, w, none, none, Tensor::zeros({1, 5, 5, 6})), InternalError);
  CHECK_THROWS_AS(apply(Conv2d{.stride = {0, 1}}, x, w, none, none, none), InternalError);
  CHECK_THROWS_AS(apply(Conv2d{.dilation = {3, 1}}, x, w, none, none, none), InternalError);
  CHECK_THROWS_AS(apply(Conv2d{.groups = 4}, x, Tensor::zeros({6, 3, 3, 1}), none, none, none), InternalError);
  CHECK_THROWS_AS(apply(ConvTranspose2d{.output_padding = {1, 0}}, x, Tensor::zeros({4, 2, 2, 3}), none), InternalError);
  CHECK_THROWS_AS(apply(Linear{}, x, Tensor::zeros({3, 5}), none), InternalError);
  CHECK_THROWS_AS(apply(Matmul{}, Tensor::zeros({2, 3}), Tensor::zeros({2, 3})), InternalError);
}

TEST_CASE("the scale of a convolution has no gradient") {
  const Tensor x = Tensor::zeros({1, 3, 3, 4}), w = Tensor::zeros({6, 1, 1, 4}), none;
  Tensor scale = Tensor::full({6}, 2.0);
  require_grad(scale);
  for (const KernelChoice choice : {KernelChoice::hand, KernelChoice::vendor, KernelChoice::reference}) {
    set_kernel_choice(choice);
    const Tensor y = apply(Conv2d{}, x, w, none, scale, none);
    CHECK_THROWS_AS(backward(y, Tensor::full(y.shape(), 1.0)), InternalError);
  }
  set_kernel_choice(KernelChoice::automatic);
}

TEST_CASE("a NaN passes through a fused ReLU") {
  Tensor x = Tensor::zeros({1, 1, 20, 8});
  x.data<float>()[0] = NAN;
  const Tensor w = Tensor::full({33, 1, 1, 8}, 1.0);
  for (const KernelChoice choice : {KernelChoice::hand, KernelChoice::reference}) {
    set_kernel_choice(choice);
    const Tensor y = apply(Conv2d{.activation = Activation::relu}, x, w, Tensor(), Tensor(), Tensor());
    CHECK(std::isnan(y.data<float>()[32]));
    CHECK(y.data<float>()[33] == 0);
  }
  set_kernel_choice(KernelChoice::automatic);
}

TEST_CASE("results beyond the caches are those of each image alone") {
  const auto check = [](const Tensor& x, auto&& f) {
    const Tensor y = f(x);
    REQUIRE(y.bytes() > size_t(48) << 20);
    REQUIRE(y.bytes() < size_t(96) << 20);
    for (int64_t n = 0; n < 2; ++n) CHECK(same_bits(f(x.slice(n, n + 1)), y.slice(n, n + 1)));
  };
  const Conv2d conv{.activation = Activation::relu};
  for (const int64_t channels : {80, 72}) {  // whole lines of 64 bytes, and not
    const Tensor w = random_tensor({channels, 1, 1, 4}), bias = random_tensor({channels});
    check(random_tensor({2, 260, 512, 4}), [&](const Tensor& x) { return apply(conv, x, w, bias, Tensor(), Tensor()); });
  }
  const Tensor w = random_tensor({4, 2, 2, 64}), bias = random_tensor({64});
  check(random_tensor({2, 130, 256, 4}), [&](const Tensor& x) { return apply(ConvTranspose2d{.stride = {2, 2}}, x, w, bias); });
}

TEST_SUITE_END();

}  // namespace glia::tests
