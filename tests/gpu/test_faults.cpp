// Every planted mistake is noticed, and its place named.
#include <doctest/doctest.h>

#include <string>

#include "gpu/emulator/sanitizers.h"
#include "tests/gpu/apart.h"
#include "tests/gpu/device_array.h"
#include "tests/gpu/faults.h"

namespace glia::tests {
namespace {

Ending run_fault(void (*run)(float*)) {
  const DeviceArray<float> floats(gpu::emulated_runtime(), 64);
  return run_apart([&] {
    run(floats.get());
    return 0;
  });
}

// The build for the address sanitizer has the other one, for undefined behaviour, as well.
bool can_be_noticed(const Fault& fault) {
  return GPU_ASAN ? std::string(fault.name) != "shared overrun" || fault.by != NoticedBy::emulator
                  : fault.by == NoticedBy::emulator;
}

}  // namespace

TEST_SUITE_BEGIN("gpu");

TEST_CASE("planted mistakes are reported with file and line") {
  for (const Fault& fault : faults()) {
    if (!can_be_noticed(fault)) continue;
    const Ending ending = run_fault(fault.run);
    INFO(fault.name, ": ", ending.said);
    CHECK(ending.status != 0);
    CHECK(ending.said.find(fault.message) != std::string::npos);
    if (fault.line) CHECK(ending.said.find("faults.cu:" + std::to_string(fault.line)) != std::string::npos);
  }
}

TEST_CASE("what was never written, or not waited for, reads as NaN") {
  const gpu::Runtime& runtime = gpu::emulated_runtime();
  const auto values = random_floats(64, 1);
  const DeviceArray<float> x(runtime, values), y(runtime, std::vector<float>(64));
  check_launch(runtime, read_before_write(y.get()));
  CHECK(y.values()[31] != y.values()[31]);
  check_launch(runtime, wait_for_too_few_copies(x.get(), y.get()));
  const auto got = y.values();
  CHECK(got[31] == values[31]);
  CHECK(got[32] != got[32]);
}

TEST_CASE("a write past the end of device memory is noticed when it is freed") {
  if (GPU_ASAN) return;  // which notices it at once
  const Ending ending = run_fault([](float* floats) {
    floats[64] = 1;
    static_cast<void>(gpu::emulated_runtime().release(floats));
  });
  CHECK(ending.status != 0);
  CHECK(ending.said.find("wrote 0 bytes past the end of 256 allocated bytes") != std::string::npos);
}

TEST_SUITE_END();

}  // namespace glia::tests
