#include "tensor/device.h"

#include <charconv>

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
  if (text == "auto" || text == "cpu") return device;
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
  if (device.kind != DeviceKind::cpu)
    throw DeviceError("device {}: not built into this program; use --device cpu", to_string(device));
}

}  // namespace glia
