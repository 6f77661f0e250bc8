// What the case table does not reach: special values, outputs so large that stores go past the caches, every SIMD target, running
// statistics and errors of the element-wise, normalisation, pooling and resampling ops.
#include <doctest/doctest.h>

#include <hwy/targets.h>

#include <cmath>
#include <limits>

#include "kernels/binary.h"
#include "kernels/dropout.h"
#include "kernels/norm.h"
#include "kernels/pool.h"
#include "kernels/resize.h"
#include "kernels/softmax.h"
#include "kernels/unary.h"
#include "tensor/random.h"
#include "tests/op_cases.h"
#include "tests/same_bits.h"

namespace glia::tests {
namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

struct Kernels {
  KernelChoice before = kernel_choice();
  explicit Kernels(KernelChoice choice) { set_kernel_choice(choice); }
  ~Kernels() { set_kernel_choice(before); }
};

template <class Op>
Tensor run(KernelChoice choice, const Op& op, const Tensor& x) {
  const Kernels scope(choice);
  return apply(op, x);
}

void check_close(const Tensor& got, const Tensor& want, double tolerance) {
  REQUIRE(got.shape() == want.shape());
  for (int64_t i = 0; i < want.size(); ++i) {
    const double g = got.cast(DType::float64).data<double>()[i], w = want.cast(DType::float64).data<double>()[i];
    if (g == w || (std::isnan(g) && std::isnan(w))) continue;
    INFO("element ", i, ": got ", g, ", want ", w);
    CHECK((!std::isinf(w) && std::abs(g - w) <= tolerance * std::abs(w) + 1e-37));
  }
}

template <class Op>
void check_special(const Op& op) {
  const Tensor x = Tensor::from<float>(
      {25}, {0.0f,   -0.0f,   nan,     inf,    -inf, 1e-40f, -1e-40f, 1e-20f, -1e-20f, 3e38f, -3e38f, 88.5f, 89.0f,
             -87.0f, -103.0f, -104.5f, 105.0f, 1e4f, -1e4f,  20.5f,   -20.5f, 1.0f,    -1.0f, 4.0f,   -4.0f});
  INFO(Op::forward.name);
  const Tensor want = run(KernelChoice::reference, op, x.cast(DType::float64)).cast(DType::float32);
  check_close(run(KernelChoice::hand, op, x), want, 2e-5);
}

Tensor random_tensor(const Shape& shape) {
  Tensor t(shape);
  const Philox random(3, 4);
  for (int64_t i = 0; i < t.size(); ++i) t.data<float>()[i] = float(random.words(uint64_t(i))[0]) * 0x1p-31f - 1;
  return t;
}

// Gradients of x, y of an op on one input with the cotangent dy.
template <class Op>
std::pair<Tensor, Tensor> run_both(const Op& op, const Tensor& x, const Tensor& dy) {
  const Tensor leaf = x.detach();
  Tensor in = leaf;
  require_grad(in);
  const Tensor y = apply(op, in);
  backward(y, dy);
  return {y.detach(), grad_of(in)};
}

// A batch of two large images gives what each image gives alone; only the batch's output is large enough for streaming stores.
template <class Op>
void check_large(const Op& op, const Tensor& x) {
  INFO(Op::forward.name);
  const Tensor dy = random_tensor(op.infer(x).shape);
  const auto [y, dx] = run_both(op, x, dy);
  REQUIRE(std::max(y.bytes(), dx.bytes()) > size_t(24) << 20);
  for (int64_t n = 0; n < 2; ++n) {
    const auto [y1, dx1] = run_both(op, x.slice(n, n + 1), dy.slice(n, n + 1));
    CHECK(same_bits(y1, y.slice(n, n + 1)));
    CHECK(same_bits(dx1, dx.slice(n, n + 1)));
  }
}

}  // namespace

TEST_SUITE_BEGIN("ops");

TEST_CASE("special values: infinities, NaN, overflow, subnormal numbers") {
  check_special(Relu{});
  check_special(LeakyRelu{});
  check_special(Elu{});
  check_special(Silu{});
  check_special(Sigmoid{});
  check_special(Tanh{});
  check_special(Abs{});
  check_special(Exp{});
  check_special(Log{});
  check_special(Sqrt{});
  check_special(Clamp{.min = -1, .max = 0.5});
}

TEST_CASE("a NaN is never lost: max pooling, softmax, maximum") {
  for (int at = 0; at < 4; ++at) {
    Tensor x = Tensor::full({1, 2, 2, 20}, 1);
    x.data<float>()[at * 20 + 17] = nan;
    for (const auto choice : {KernelChoice::hand, KernelChoice::reference}) {
      CHECK(std::isnan(run(choice, MaxPool2d{}, x).data<float>()[17]));
      CHECK(run(choice, MaxPool2d{}, x).data<float>()[16] == 1);
      CHECK(std::isnan(run(choice, MaxPool2d{.kernel = {2, 2}, .stride = {1, 1}}, x).data<float>()[17]));
      CHECK(std::isnan(run(choice, Softmax{}, x).data<float>()[at * 20]));
      CHECK(std::isnan(run(choice, Softmax{.axis = 1}, x).data<float>()[at % 2 * 20 + 17]));
      const Kernels scope(choice);
      const Tensor other = Tensor::full({1, 2, 2, 20}, 2);
      CHECK(std::isnan(apply(Maximum{}, x, other).data<float>()[at * 20 + 17]));
      CHECK(std::isnan(apply(Minimum{}, other, x).data<float>()[at * 20 + 17]));
    }
  }
}

TEST_CASE("logits of 1e4 and -inf") {
  const Tensor x = Tensor::from<float>({2, 3}, {1e4f, 1e4f, -inf, -inf, 0.0f, -1e4f});
  for (const auto choice : {KernelChoice::hand, KernelChoice::reference})
    for (const int axis : {1, 0}) {
      const Tensor y = axis ? run(choice, Softmax{}, x) : run(choice, Softmax{.axis = 0}, permuted(x, {1, 0}));
      const Tensor rows = axis ? y : permuted(y, {1, 0});
      check_close(rows, Tensor::from<float>({2, 3}, {0.5f, 0.5f, 0.0f, 0.0f, 1.0f, 0.0f}), 1e-6);
      const Tensor l = run(choice, LogSoftmax{}, x);
      check_close(l, Tensor::from<float>({2, 3}, {-0.69314718f, -0.69314718f, -inf, -inf, 0.0f, -1e4f}), 1e-6);
    }
}

TEST_CASE("outputs beyond the caches") {
  const Tensor x = random_tensor({2, 224, 240, 64});
  check_large(Relu{}, x);
  check_large(MaxPool2d{}, x);
  check_large(MaxPool2d{}, random_tensor({2, 225, 241, 64}));
  const Tensor small = random_tensor({2, 112, 120, 64});
  check_large(Resize{.mode = ResizeMode::nearest, .size = {224, 240}}, small);
  check_large(Resize{.size = {224, 240}, .align_corners = true}, small);
  check_large(Resize{.size = {225, 240}, .antialias = true}, small);

  const Tensor c = random_tensor({64}), v = Tensor::full({64}, 0.75);
  const auto [y, mean, variance] = apply(BatchNorm{.train = false, .relu = true}, x, c, c, c, v);
  for (int64_t n = 0; n < 2; ++n)
    CHECK(same_bits(apply(BatchNorm{.train = false, .relu = true}, x.slice(n, n + 1), c, c, c, v)[0], y.slice(n, n + 1)));
}

TEST_CASE("dropout keeps the share it should, and the same elements for the same numbers") {
  const Tensor x = Tensor::full({1 << 16}, 1);
  const auto kept = [](const Tensor& y) {
    int64_t n = 0;
    for (const float value : y.values<float>()) n += value != 0;
    return double(n) / double(y.size());
  };
  const Tensor y = apply(Dropout{.p = 0.3, .seed = 5, .stream = 6}, x);
  CHECK(std::abs(kept(y) - 0.7) < 0.01);
  CHECK(same_bits(y, apply(Dropout{.p = 0.3, .seed = 5, .stream = 6}, x)));
  CHECK_FALSE(same_bits(y, apply(Dropout{.p = 0.3, .seed = 5, .stream = 7}, x)));
  CHECK_FALSE(same_bits(y, apply(Dropout{.p = 0.3, .seed = 6, .stream = 6}, x)));
  // A tensor of other size has the same mask on their common part.
  CHECK(same_bits(y.slice(0, 1001), apply(Dropout{.p = 0.3, .seed = 5, .stream = 6}, x.slice(0, 1001))));
  CHECK(kept(apply(Dropout{.p = 0}, x)) == 1);
  CHECK(kept(apply(Dropout{.p = 1}, x)) == 0);
}

TEST_CASE("a pooling window that would start beyond the input is dropped in ceil mode") {
  const Tensor x = Tensor::full({1, 3, 4, 2}, 1);
  for (const auto choice : {KernelChoice::hand, KernelChoice::reference}) {
    CHECK(run(choice, MaxPool2d{.stride = {3, 3}, .ceil_mode = true}, x).shape() == Shape{1, 1, 2, 2});
    CHECK(run(choice, MaxPool2d{.stride = {3, 3}, .pad = {0, 0, 1, 1}, .ceil_mode = true}, x).shape() == Shape{1, 1, 2, 2});
    CHECK(run(choice, AvgPool2d{.stride = {3, 3}, .pad = {1, 1, 0, 0}, .ceil_mode = true}, x).shape() == Shape{1, 2, 2, 2});
  }
}

TEST_CASE("running statistics: biased and unbiased") {
  const Tensor mean = Tensor::full({2}, 3), variance = Tensor::full({2}, 8);
  for (const bool unbiased : {false, true}) {
    const Tensor m = Tensor::full({2}, 1), v = Tensor::full({2}, 2);
    update_running_stats({.count = 5, .momentum = 0.25, .unbiased = unbiased}, mean, variance, m, v);
    CHECK(m.data<float>()[1] == doctest::Approx(1.5));
    CHECK(v.data<float>()[1] == doctest::Approx(unbiased ? 4.0 : 3.5));
  }
}

// Highway picks the best target of the machine; the others must be right too. Compared with the double reference.
TEST_CASE("every SIMD target gives the values of the reference") {
  const int64_t compiled = HWY_TARGETS;
  for (int64_t rest = hwy::SupportedTargets() & compiled; rest != 0; rest &= rest - 1) {
    const int64_t target = rest & -rest;
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().DeInit();
    for (const OpCase& c : op_cases()) {
      static const std::string mine =
          " relu elu gelu silu sigmoid tanh exp log clamp add mul div maximum softmax log_softmax batch_norm group_norm "
          "layer_norm "
          "max_pool2d avg_pool2d global_avg_pool resize dropout ";
      if (mine.find(" " + c.op + " ") == std::string::npos) continue;
      const auto results = [&](DType dtype) {
        std::vector<Tensor> in, out;
        for (const Tensor& t : make_inputs(c)) {
          in.push_back(t && is_floating(t.dtype()) ? t.cast(dtype).clone() : t);
          if (c.has_gradient && in.back() && c.inputs[in.size() - 1].differentiable) require_grad(in.back());
        }
        const Tensor y = c.run(in)[0];
        if (wants_grad(y)) backward(y, random_tensor(y.shape()).cast(dtype));
        out.push_back(y.cast(DType::float64));
        for (const Tensor& t : in)
          if (t && grad_of(t)) out.push_back(grad_of(t).cast(DType::float64));
        return out;
      };
      INFO(c.op, " [", c.label, "]");
      const auto got = results(DType::float32), want = results(DType::float64);
      REQUIRE(got.size() == want.size());
      for (size_t k = 0; k < want.size(); ++k) {
        double worst = 0, largest = 1e-3;
        for (int64_t i = 0; i < want[k].size(); ++i) {
          const double a = got[k].data<double>()[i], b = want[k].data<double>()[i];
          if (a == b || (std::isnan(a) && std::isnan(b))) continue;
          const double error = std::abs(a - b);
          worst = std::isnan(worst) || error <= worst ? worst : error;  // a NaN stays
          largest = std::max(largest, std::abs(b));
        }
        INFO(hwy::TargetName(target), " ", c.op, " [", c.label, "] tensor ", k);
        CHECK(worst <= c.tolerance * largest);
      }
    }
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().DeInit();
}

TEST_CASE("shapes and parameters that make no sense") {
  const Tensor image({1, 4, 4, 3});
  CHECK_THROWS_WITH(apply(Add{}, Tensor({2, 3}), Tensor({2, 4})),
                    "add: (2, 3) and (2, 4) do not broadcast: sizes 3 and 4 at axis 1 from the end");
  CHECK_THROWS_WITH(apply(MaxPool2d{.kernel = {5, 2}}, image),
                    "max_pool2d: x is (1, 4, 4, 3), smaller than the window of 5 with "
                    "padding (0, 0)");
  CHECK_THROWS_WITH(apply(MaxPool2d{.pad = {2, 0, 0, 0}}, image), "max_pool2d: padding (2, 0) with kernel 2, want less");
  CHECK_THROWS_WITH(apply(Resize{.size = {0, 4}}, image), "resize: to 0 x 4 pixels, want at least 1 x 1");
  CHECK_THROWS_WITH(apply(GroupNorm{.groups = 2}, image, Tensor(), Tensor()),
                    "group_norm: 3 channels do not split into 2 groups");
  CHECK_THROWS_WITH(apply(BatchNorm{}, image, Tensor({4}), Tensor(), Tensor(), Tensor()), "batch_norm: gamma is (4,), want (3,)");
  CHECK_THROWS_WITH(apply(BatchNorm{.train = false}, image, Tensor(), Tensor(), Tensor(), Tensor()),
                    "batch_norm: running_mean is missing");
  CHECK_THROWS_WITH(apply(Dropout{.p = 1.5}, image), "dropout: p is 1.5, want 0 to 1");
  CHECK_THROWS_WITH(apply(Elu{.alpha = -1}, image), "elu: alpha -1, want at least 0");
}

TEST_SUITE_END();

}  // namespace glia::tests
