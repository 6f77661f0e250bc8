// The case table of ops (tests/op_cases.h) on devices: every body of kernels/cuda, by the emulator always and on a GPU where there
// is one, against the double reference.
#include <doctest/doctest.h>

#include <cstdlib>
#include <regex>

#include "gpu/emulator_config.h"
#include "gpu/runtime.h"
#include "tests/op_run.h"

namespace glia::tests {
namespace {

// The cases with a body in kernels/cuda; of those, while one works on some, the ops whose names match the environment's GLIA_CASES.
std::vector<const OpCase*> device_cases() {
  const char* pattern = std::getenv("GLIA_CASES");
  const std::regex wanted(pattern ? pattern : ".*");
  std::vector<const OpCase*> chosen;
  for (const OpCase& c : op_cases())
    if (c.on_device && std::regex_match(c.op, wanted)) chosen.push_back(&c);
  REQUIRE(!chosen.empty());
  return chosen;
}

std::vector<Device> devices() {
  std::vector<Device> all{{DeviceKind::emulated}};
  if (const gpu::Runtime* cuda = gpu::cuda_runtime(); cuda && cuda->devices().count > 0) all.push_back({DeviceKind::cuda});
  return all;
}

// Floating inputs one element behind an aligned address: vector accesses have to give way.
std::vector<Tensor> misaligned(const std::vector<Tensor>& inputs, Device device) {
  std::vector<Tensor> moved;
  for (const Tensor& t : inputs) {
    if (!t || !is_floating(t.dtype()) || t.size() == 0) {
      moved.push_back(t.to(device));
      continue;
    }
    const Tensor arena({t.size() + 1}, t.dtype(), device);
    moved.push_back(Tensor::view(arena, 1, t.shape()));
    moved.back().copy_from(t);
  }
  return moved;
}

// The emulator's settings for a scope.
class Emulation {
 public:
  explicit Emulation(const gpu::EmulatorConfig& config) : before_(gpu::emulator_config()) { gpu::emulator_config() = config; }
  ~Emulation() { gpu::emulator_config() = before_; }

 private:
  gpu::EmulatorConfig before_;
};

}  // namespace

TEST_SUITE_BEGIN("device");

TEST_CASE("every device gives the values and gradients of the double reference, and stays inside its memory") {
  for (const OpCase* one : device_cases()) {
    const OpCase& c = *one;
    const auto inputs = make_inputs(c);
    const Run want = run_case(c, cast_all(inputs, DType::float64), KernelChoice::reference);
    const auto in = cast_all(inputs, DType::float32);
    for (const Device device : devices()) {
      const Guarded guarded;
      check_run(c, run_case(c, in, KernelChoice::hand, device), want, to_string(device).c_str());
      check_run(c, run_case(c, misaligned(in, device), KernelChoice::hand, device), want, "misaligned");
      INFO(c.op, " [", c.label, "]");
      CHECK(memory_guard_violations() == 0);
    }
  }
}

TEST_CASE("every op has a body on devices") {
  for (const OpCase& c : op_cases()) {
    INFO(c.op);
    CHECK(c.on_device);
  }
}

TEST_CASE("the order in which threads and blocks run, and when streams run, does not change a bit") {
  const Device device{DeviceKind::emulated};
  for (const OpCase* one : device_cases()) {
    const OpCase& c = *one;
    const auto in = cast_all(make_inputs(c), DType::float32);
    const Run want = run_case(c, in, KernelChoice::hand, device);
    const auto compare = [&](const gpu::EmulatorConfig& config, const char* name) {
      const Emulation emulation(config);
      check_same_bits(c, run_case(c, in, KernelChoice::hand, device), want, name);
    };
    compare({.order = gpu::Order::reverse}, "reverse");
    for (const uint64_t seed : {1, 2, 3}) compare({.order = gpu::Order::random, .seed = seed, .deferred_streams = seed == 3}, "random");
  }
}

TEST_SUITE_END();

}  // namespace glia::tests
