// Runs the case table of ops (tests/op_cases.h).
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>

#include "kernels/op.h"
#include "tensor/parallel.h"
#include "tensor/random.h"
#include "tests/op_run.h"
#include "tests/paths.h"

namespace glia::tests {
namespace {

double dot(const Tensor& y, const Tensor& dy) {
  double sum = 0;
  for (int64_t i = 0; i < y.size(); ++i) sum += y.data<double>()[i] * dy.data<double>()[i];
  return sum;
}

// Central differences of dot(y, dy): every element of small inputs, a random direction for large ones.
void check_gradient(const OpCase& c) {
  const auto inputs = cast_all(make_inputs(c), DType::float64);
  const Run analytic = run_case(c, inputs, KernelChoice::reference);
  const Tensor dy = cotangent(analytic.outputs[0]);
  const NoGrad no_grad;
  constexpr double eps = 1e-6;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Tensor& gradient = analytic.gradients[i];
    if (!gradient) continue;
    INFO(c.op, " [", c.label, "] input ", i);
    double* x = inputs[i].data<double>();
    const int64_t n = inputs[i].size();
    const Tensor saved = inputs[i].clone();
    const Philox random(5, i);
    const bool all = n < 200;
    for (int64_t j = 0; j < (all ? n : 3); ++j) {
      const auto direction = [&](int64_t k) { return all ? (k == j ? 1.0 : 0.0) : random.normal(uint64_t(j * n + k)); };
      const auto at = [&](double step) {
        for (int64_t k = 0; k < n; ++k) x[k] = saved.data<double>()[k] + step * direction(k);
        return dot(c.run(inputs)[0], dy);
      };
      const double numeric = (at(eps) - at(-eps)) / (2 * eps);
      double expected = 0, size = 0;
      for (int64_t k = 0; k < n; ++k) {
        expected += gradient.data<double>()[k] * direction(k);
        size += std::abs(gradient.data<double>()[k] * direction(k));
      }
      inputs[i].copy_from(saved);
      INFO("element ", j, ": numeric ", numeric, ", analytic ", expected);
      REQUIRE(std::abs(numeric - expected) <=
              1e-5 + 1e-3 * (all ? std::abs(expected) : std::sqrt(size * size / double(n)) + std::abs(expected)));
    }
  }
}

}  // namespace

TEST_SUITE_BEGIN("ops");

TEST_CASE("values and gradients of every variant equal the double reference, and stay inside their memory") {
  for (const OpCase& c : op_cases()) {
    const auto inputs = make_inputs(c);
    const Run want = run_case(c, cast_all(inputs, DType::float64), KernelChoice::reference);
    const Guarded guarded;
    const auto in = cast_all(inputs, DType::float32);
    check_run(c, run_case(c, in, KernelChoice::reference), want, "reference");
    check_run(c, run_case(c, in, KernelChoice::hand), want, "hand");
    if (c.has_vendor) check_run(c, run_case(c, in, KernelChoice::vendor), want, "vendor");
    INFO(c.op, " [", c.label, "]");
    CHECK(memory_guard_violations() == 0);
  }
}

TEST_CASE("the bits do not depend on the number of threads") {
  const int threads = num_threads();
  for (const OpCase& c : op_cases()) {
    const auto in = cast_all(make_inputs(c), DType::float32);
    set_num_threads(1);
    const Run want = run_case(c, in, KernelChoice::hand);
    for (const int n : {2, 5, 8}) {
      set_num_threads(n);
      const Run got = run_case(c, in, KernelChoice::hand);
      INFO("with ", n, " threads");
      check_same_bits(c, got, want, "hand");
    }
  }
  set_num_threads(threads);
}

TEST_CASE("every op of kernels/*.h has cases") {
  std::set<std::string> tested;
  for (const OpCase& c : op_cases()) tested.insert(c.op);
  int declared = 0;
  const std::filesystem::path folder = source_folder() / "kernels";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".h") continue;
    std::ifstream file(entry.path());
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    // A table: .name = "conv2d"; or a line of an op list: X(relu, Relu, ...
    static const std::regex name(R"re(\.name\s*=\s*"([a-z0-9_]+)"|\bX\(([a-z0-9_]+),\s*[A-Z])re");
    for (std::sregex_iterator i(text.begin(), text.end(), name), end; i != end; ++i) {
      const std::string op = (*i)[1].matched ? (*i)[1].str() : (*i)[2].str();
      if (op.ends_with("_backward")) continue;
      ++declared;
      INFO(entry.path().filename().string(), ": ", op);
      CHECK(tested.count(op) == 1);
    }
  }
  CHECK(declared >= 9);
}

TEST_SUITE_END();

TEST_SUITE_BEGIN("gradients");

TEST_CASE("gradients equal central differences in double") {
  for (const OpCase& c : op_cases())
    if (c.has_gradient && c.by_differences) check_gradient(c);
}

TEST_SUITE_END();

}  // namespace glia::tests
