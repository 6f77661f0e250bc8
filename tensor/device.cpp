#include "tensor/device.h"

#include <charconv>
#include <cstdlib>

#include "gpu/runtime.h"
#include "tensor/error.h"

namespace glia {

std::string to_string(Device device) {
  switch (device.kind) {
    case DeviceKind::cpu: return "cpu";
    case DeviceKind::cuda: return "cuda:" + std::to_string(device.index);
    case DeviceKind::emulated: return "emulated";
  }
  return "unknown";
}

Device parse_device(std::string_view text) {
  Device device;
  if (text == "cpu") return device;
  if (text == "auto") {
    if (const char* emulate = std::getenv("GLIA_EMULATE"); emulate && std::string_view(emulate) == "1") {
      device.kind = DeviceKind::emulated;
      return device;
    }
    if (const gpu::Runtime* runtime = gpu::cuda_runtime(); runtime && runtime->devices().count > 0) device.kind = DeviceKind::cuda;
    return device;
  }
  if (text == "emulated") {
    device.kind = DeviceKind::emulated;
  } else if (text.starts_with("cuda")) {
    device.kind = DeviceKind::cuda;
    const std::string_view rest = text.substr(4);
    if (!rest.empty()) {
      const char* end = rest.data() + rest.size();
      const auto [stop, error] = std::from_chars(rest.data() + 1, end, device.index);
      if (rest[0] != ':' || error != std::errc{} || stop != end || device.index < 0)
        throw UsageError("device '{}': want auto, cpu, cuda, cuda:N or emulated", text);
    }
  } else {
    throw UsageError("device '{}': want auto, cpu, cuda, cuda:N or emulated", text);
  }
  require_available(device);
  return device;
}

void require_available(Device device) {
  if (device.kind == DeviceKind::cpu) return;
  const gpu::Runtime* runtime = device.kind == DeviceKind::cuda ? gpu::cuda_runtime() : &gpu::emulated_runtime();
  if (!runtime) throw DeviceError("device {}: this program was built without CUDA; use --device cpu", to_string(device));
  const gpu::DeviceCount& found = runtime->devices();
  if (found.count == 0)
    throw DeviceError("device {}: {}; use --device cpu, or --device emulated to run the CUDA kernels on the CPU", to_string(device),
                      found.reason);
  if (device.index >= found.count)
    throw DeviceError("device {}: this machine has {} CUDA device{}, numbered from 0", to_string(device), found.count,
                      found.count == 1 ? "" : "s");
}

}  // namespace glia
