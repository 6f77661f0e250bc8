#include "tests/op_run.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tensor/random.h"

namespace glia::tests {

std::vector<Tensor> cast_all(const std::vector<Tensor>& inputs, DType dtype) {
  std::vector<Tensor> result;
  for (const Tensor& t : inputs) result.push_back(t && is_floating(t.dtype()) ? t.cast(dtype).clone() : t);
  return result;
}

// The cotangent fed to backward: random, the same numbers for every type.
Tensor cotangent(const Tensor& y) {
  Tensor dy(y.shape(), DType::float64);
  const Philox random(99, 7);
  for (int64_t i = 0; i < dy.size(); ++i) dy.data<double>()[i] = std::round(random.uniform(uint64_t(i), -1.0, 1.0) * 1024) / 1024;
  return dy.cast(y.dtype());
}

Run run_case(const OpCase& c, const std::vector<Tensor>& inputs, KernelChoice choice, Device device) {
  const KernelChoice before = kernel_choice();
  set_kernel_choice(choice);
  std::vector<Tensor> in;
  for (const Tensor& t : inputs) in.push_back(t.to(device));
  for (size_t i = 0; i < in.size(); ++i)
    if (c.has_gradient && in[i] && is_floating(in[i].dtype()) && c.inputs[i].differentiable) require_grad(in[i]);
  Run result;
  result.outputs = c.run(in);
  if (wants_grad(result.outputs[0])) backward(result.outputs[0], cotangent(result.outputs[0]).to(device));
  for (Tensor& t : result.outputs) t = t.detach().to(Device{});
  for (const Tensor& t : in) result.gradients.push_back(t ? grad_of(t).to(Device{}) : Tensor());
  set_kernel_choice(before);
  return result;
}

// The worst |got - want| over the larger of |want| and the rms of want. NaN counts as infinitely wrong unless both are.
double worst_error(const Tensor& got, const Tensor& want) {
  REQUIRE(got.shape() == want.shape());
  if (!is_floating(want.dtype())) {
    const Tensor a = got.cast(DType::float64), b = want.cast(DType::float64);
    return std::equal(a.data<double>(), a.data<double>() + a.size(), b.data<double>()) ? 0 : INFINITY;
  }
  const Tensor g = got.cast(DType::float64), w = want.cast(DType::float64);
  const double* a = g.data<double>();
  const double* b = w.data<double>();
  double squares = 0;
  int64_t finite = 0;
  for (int64_t i = 0; i < w.size(); ++i)
    if (std::isfinite(b[i])) squares += b[i] * b[i], ++finite;
  const double rms = finite ? std::sqrt(squares / double(finite)) : 0;
  double worst = 0;
  for (int64_t i = 0; i < w.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    const double error = std::abs(a[i] - b[i]) / std::max({std::abs(b[i]), rms, 1e-3});
    worst = std::isnan(error) ? INFINITY : std::max(worst, error);
  }
  return worst;
}

void check_run(const OpCase& c, const Run& got, const Run& want, const char* variant, double slack) {
  for (size_t i = 0; i < want.outputs.size(); ++i) {
    INFO(c.op, " [", c.label, "] ", variant, " output ", i);
    CHECK(worst_error(got.outputs[i], want.outputs[i]) <= slack * c.tolerance);
  }
  for (size_t i = 0; i < want.gradients.size(); ++i) {
    INFO(c.op, " [", c.label, "] ", variant, " gradient of input ", i);
    REQUIRE(bool(got.gradients[i]) == bool(want.gradients[i]));
    if (want.gradients[i]) CHECK(worst_error(got.gradients[i], want.gradients[i]) <= slack * c.tolerance);
  }
}

void check_same_bits(const OpCase& c, const Run& got, const Run& want, const char* variant) {
  INFO(c.op, " [", c.label, "] ", variant);
  for (size_t i = 0; i < want.outputs.size(); ++i) CHECK(same_bits(got.outputs[i], want.outputs[i]));
  for (size_t i = 0; i < want.gradients.size(); ++i) CHECK(same_bits(got.gradients[i], want.gradients[i]));
}

}  // namespace glia::tests
