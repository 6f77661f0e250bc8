// Winograd's convolutions against sums in double: the accuracy that docs/performance.md states, on both ways to divide the work, every
// padding, and borders that cut tiles; the same bits for any number of threads.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "autograd/apply.h"
#include "kernels/conv.h"
#include "tensor/parallel.h"
#include "tensor/random.h"

namespace glia::tests {
namespace {

struct WinogradCase {
  const char* label;
  int64_t n, h, w, c, k, top, left, bottom, right;
  bool relu;
};

const WinogradCase winograd_cases[] = {
    {"one tile", 1, 4, 4, 16, 16, 1, 1, 1, 1, false},
    {"borders cut tiles", 2, 9, 13, 20, 35, 1, 1, 1, 1, true},
    {"no padding", 1, 11, 10, 33, 17, 0, 0, 0, 0, false},
    {"padding of two", 1, 7, 6, 16, 64, 2, 2, 2, 2, true},
    {"padding at one side", 1, 8, 12, 48, 16, 0, 2, 1, 0, false},
    {"one row", 1, 1, 50, 16, 32, 1, 1, 1, 1, false},
    {"many tiles, many columns", 2, 70, 90, 40, 144, 1, 1, 1, 1, true},
    {"many channels, few tiles", 1, 8, 9, 300, 200, 1, 1, 1, 1, false},
    {"few tiles, whose filters come in parts", 1, 38, 44, 120, 70, 1, 1, 1, 1, true},
    {"few tiles in two blocks", 1, 60, 62, 40, 70, 1, 1, 1, 1, false},
    {"fewer channels than a vector", 1, 20, 20, 3, 5, 1, 1, 1, 1, false},
    {"a pixel", 3, 1, 1, 17, 33, 1, 1, 1, 1, false},
    {"two pixels and three, padding of two", 2, 2, 3, 16, 16, 2, 2, 2, 2, true},
};

Tensor random_tensor(const Shape& shape, uint64_t stream) {
  Tensor t(shape);
  const Philox random(5, stream);
  for (int64_t i = 0; i < t.size(); ++i)
    t.data<float>()[i] = static_cast<float>(random.uniform(static_cast<uint64_t>(i), -1.0, 1.0));
  return t;
}

struct Passes {
  Tensor y, dx, dw;
};

struct Problem {
  Conv2d op;
  Tensor x, w, bias, scale, residual, dy;

  explicit Problem(const WinogradCase& c)
      : op{.pad = {c.top, c.left, c.bottom, c.right}, .activation = c.relu ? Activation::relu : Activation::none},
        x(random_tensor({c.n, c.h, c.w, c.c}, 1)),
        w(random_tensor({c.k, 3, 3, c.c}, 2)) {
    if (c.relu) bias = random_tensor({c.k}, 3), scale = random_tensor({c.k}, 4);
    const Shape shape = op.infer(x, w, bias, scale, {}).shape;
    if (c.relu) residual = random_tensor(shape, 5);
    dy = random_tensor(shape, 6);
  }

  Passes run(DType dtype, KernelChoice choice) const {
    const auto cast = [&](const Tensor& t) { return t ? t.cast(dtype) : t; };
    set_kernel_choice(choice);
    Passes r{Tensor(dy.shape(), dtype), Tensor(x.shape(), dtype), Tensor(w.shape(), dtype)};
    Conv2d::forward.pick({}, dtype)(op, cast(x), cast(w), cast(bias), cast(scale), cast(residual), r.y);
    Conv2d linear = op;
    linear.activation = Activation::none;  // else elements next to zero decide which gradients there are
    Conv2d::backward.pick({}, dtype)(linear, cast(x), cast(w), {}, {}, {}, {}, cast(dy), &r.dx, &r.dw, nullptr, nullptr, nullptr);
    set_kernel_choice(KernelChoice::automatic);
    return r;
  }
};

struct ForcedWinograd {
  ForcedWinograd() {
    for (const cpu::ConvAlgorithm& algorithm : cpu::conv_algorithms())
      if (std::strcmp(algorithm.name, "winograd") == 0) cpu::force_conv_algorithm(&algorithm);
  }
  ~ForcedWinograd() { cpu::force_conv_algorithm(nullptr); }
};

struct Error {
  double rms, max;  // over the rms of what is wanted
};
Error error_of(const Tensor& got, const Tensor& want) {
  double squares = 0, errors = 0, worst = 0;
  for (int64_t i = 0; i < want.size(); ++i) {
    const double w = want.data<double>()[i], e = double(got.data<float>()[i]) - w;
    squares += w * w;
    errors += e * e;
    worst = std::max(worst, std::abs(e));
  }
  const double rms = std::sqrt(squares / double(want.size()));
  return {std::sqrt(errors / double(want.size())) / rms, worst / rms};
}

}  // namespace

TEST_SUITE_BEGIN("ops");

TEST_CASE("Winograd's convolutions are as accurate as stated") {
  const ForcedWinograd forced;
  for (const WinogradCase& c : winograd_cases) {
    const Problem problem(c);
    const Passes want = problem.run(DType::float64, KernelChoice::reference),
                 got = problem.run(DType::float32, KernelChoice::hand);
    INFO(c.label);
    for (const auto& [name, g, w] : {std::tuple{"y", got.y, want.y}, {"dx", got.dx, want.dx}, {"dw", got.dw, want.dw}}) {
      INFO(name);
      const Error error = error_of(g, w);
      CHECK(error.rms < 8e-6);
      CHECK(error.max < 1e-4);
      CHECK(error.rms > 0);
    }
  }
}

// Element (n, i, j) of a map of numbers, zero outside the image.
double at(const Tensor& t, int64_t i, int64_t j, int64_t channel) {
  if (i < 0 || j < 0 || i >= t.dim(1) || j >= t.dim(2)) return 0;
  return double(t.data<float>()[(i * t.dim(2) + j) * t.dim(3) + channel]);
}

// Errors at `count` elements drawn at random, as sums in double give them.
template <class Want>
Error sampled_error(const Tensor& got, int64_t count, const Want& want) {
  Tensor g({count}), w({count}, DType::float64);
  const Philox random(9, 1);
  for (int64_t n = 0; n < count; ++n) {
    const auto element = static_cast<int64_t>(random.below(uint64_t(n), uint64_t(got.size())));
    const int64_t c = element % got.dim(3), j = element / got.dim(3) % got.dim(2), i = element / got.dim(3) / got.dim(2);
    g.data<float>()[n] = got.data<float>()[element];
    w.data<double>()[n] = want(i, j, c);
  }
  return error_of(g, w);
}

// Two layers of the networks, on numbers as they come: normally distributed, and cut at zero by a ReLU.
TEST_CASE("Winograd's errors on layers of the networks are within what the prototype had") {
  const ForcedWinograd forced;
  for (const bool relu : {false, true})
    for (const auto& [h, w, c] : {std::array<int64_t, 3>{128, 128, 64}, {50, 68, 256}}) {
      const auto noise = [&](const Shape& shape, uint64_t stream) {
        Tensor t(shape);
        const Philox random(6, stream);
        for (int64_t i = 0; i < t.size(); ++i) t.data<float>()[i] = static_cast<float>(random.normal(uint64_t(i)));
        return t;
      };
      Problem p({"layer", 1, h, w, c, c, 1, 1, 1, 1, false});
      p.x = noise(p.x.shape(), 1), p.w = noise(p.w.shape(), 2), p.dy = noise(p.dy.shape(), 3);
      if (relu)
        for (int64_t i = 0; i < p.x.size(); ++i) p.x.data<float>()[i] = std::max(0.0f, p.x.data<float>()[i]);
      const Passes got = p.run(DType::float32, KernelChoice::hand);
      const auto filter = [&](int64_t k, int64_t r, int64_t s, int64_t i) {
        return double(p.w.data<float>()[((k * 3 + r) * 3 + s) * c + i]);
      };
      const auto sum = [&](const auto& term) {
        double total = 0;
        for (int64_t r = 0; r < 3; ++r)
          for (int64_t s = 0; s < 3; ++s)
            for (int64_t i = 0; i < c; ++i) total += term(r, s, i);
        return total;
      };
      const Error y = sampled_error(got.y, 20000, [&](int64_t i, int64_t j, int64_t k) {
        return sum([&](int64_t r, int64_t s, int64_t n) { return at(p.x, i + r - 1, j + s - 1, n) * filter(k, r, s, n); });
      });
      const Error dx = sampled_error(got.dx, 20000, [&](int64_t i, int64_t j, int64_t n) {
        return sum([&](int64_t r, int64_t s, int64_t k) { return at(p.dy, i - r + 1, j - s + 1, k) * filter(k, r, s, n); });
      });
      const Error dw = sampled_error(got.dw.reshape({1, c * 3, 3, c}), 2000, [&](int64_t kr, int64_t s, int64_t n) {
        double total = 0;
        for (int64_t i = 0; i < h; ++i)
          for (int64_t j = 0; j < w; ++j) total += at(p.dy, i, j, kr / 3) * at(p.x, i + kr % 3 - 1, j + s - 1, n);
        return total;
      });
      INFO(c, " channels, ", std::string(relu ? "after a ReLU" : "normal"));
      CHECK(y.rms < 3.2e-6);  // 3.1e-6 with fused multiply-adds
      CHECK(y.max < 8e-5);
      CHECK(dx.rms < 3.2e-6);
      CHECK(dw.rms < 4.5e-6);
    }
}

TEST_CASE("Winograd's convolutions give the same bits with 1, 2, 5 and 8 threads") {
  const ForcedWinograd forced;
  const int before = num_threads();
  for (const WinogradCase& c : winograd_cases) {
    const Problem problem(c);
    set_num_threads(1);
    const Passes want = problem.run(DType::float32, KernelChoice::hand);
    for (const int threads : {2, 5, 8}) {
      set_num_threads(threads);
      const Passes got = problem.run(DType::float32, KernelChoice::hand);
      INFO(c.label, ", ", threads, " threads");
      for (const auto& [g, w] : {std::pair{got.y, want.y}, {got.dx, want.dx}, {got.dw, want.dw}})
        CHECK(std::memcmp(g.data<float>(), w.data<float>(), static_cast<size_t>(w.bytes())) == 0);
    }
  }
  set_num_threads(before);
}

TEST_CASE("Winograd's algorithm takes a batch without images") {
  const ForcedWinograd forced;
  const Tensor y =
      apply(Conv2d{.pad = {1, 1, 1, 1}}, Tensor({0, 8, 8, 16}), Tensor::zeros({16, 3, 3, 16}), Tensor(), Tensor(), Tensor());
  CHECK(y.shape() == Shape({0, 8, 8, 16}));
}

TEST_CASE("Winograd's weight gradient of a filter without output channels is empty") {
  const ForcedWinograd forced;
  const Tensor x = random_tensor({1, 8, 8, 16}, 1), w({0, 3, 3, 16}), dy({1, 8, 8, 0});
  Tensor dw({0, 3, 3, 16});
  Conv2d::backward.pick(x.device(), DType::float32)(Conv2d{.pad = {1, 1, 1, 1}}, x, w, {}, {}, {}, {}, dy, nullptr, &dw, nullptr,
                                                    nullptr, nullptr);
  CHECK(dw.size() == 0);
}

TEST_CASE("precision exact keeps to direct sums") {
  const ForcedWinograd forced;
  const Problem problem(winograd_cases[6]);
  const Tensor want = problem.run(DType::float64, KernelChoice::reference).y;
  set_precision(Precision::exact);
  const Error exact = error_of(problem.run(DType::float32, KernelChoice::hand).y, want);
  set_precision(Precision::fp32);
  const Error fast = error_of(problem.run(DType::float32, KernelChoice::hand).y, want);
  CHECK(exact.rms < 0.5 * fast.rms);
}

TEST_SUITE_END();

}  // namespace glia::tests
