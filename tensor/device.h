#pragma once
// Where a tensor lives and where its ops run. `emulated` runs the CUDA kernels on the CPU.
#include <cstdint>
#include <string>
#include <string_view>

namespace glia {

enum class DeviceKind : uint8_t { cpu, cuda, emulated };

struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int index = 0;
  bool operator==(const Device&) const = default;
};

std::string to_string(Device device);  // "cpu", "cuda:0", "emulated"

// "auto", "cpu", "cuda", "cuda:N" or "emulated". Throws UsageError for other text, DeviceError for a device that this build or
// this machine does not have.
Device parse_device(std::string_view text);

// Throws DeviceError that says why when `device` cannot be used here.
void require_available(Device device);

}  // namespace glia
