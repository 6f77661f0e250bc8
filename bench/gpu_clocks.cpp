// NVML, opened at its first use; the few functions that are used are declared here, since its header comes with CUDA alone.
#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>

#include "bench/device_table.h"

namespace glia::bench {
namespace {

using Handle = void*;

// Index of the process's device among the machine's: CUDA_VISIBLE_DEVICES may have renumbered them.
unsigned machine_index(int device) {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  std::string list = visible ? visible : "";
  for (int i = 0; i < device && !list.empty(); ++i) list.erase(0, std::min(list.find(','), list.size() - 1) + 1);
  char* end = nullptr;
  const unsigned long index = std::strtoul(list.c_str(), &end, 10);
  return end != list.c_str() ? static_cast<unsigned>(index) : static_cast<unsigned>(device);
}

}  // namespace

std::string gpu_clocks(int device) {
  static void* const library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) return "clocks not known: NVML is not there";
  const auto call = [&]<class... Parameters>(const char* name, Parameters... parameters) {
    const auto function = reinterpret_cast<int (*)(Parameters...)>(dlsym(library, name));
    return function ? function(parameters...) : -1;
  };
  static const int started = call("nvmlInit_v2");
  Handle handle = nullptr;
  if (started != 0 || call("nvmlDeviceGetHandleByIndex_v2", machine_index(device), &handle) != 0)
    return "clocks not known: NVML refuses";
  unsigned sm = 0, memory = 0, milliwatts = 0, celsius = 0;
  constexpr int sm_clock = 1, memory_clock = 2, gpu_sensor = 0;
  call("nvmlDeviceGetClockInfo", handle, sm_clock, &sm);
  call("nvmlDeviceGetClockInfo", handle, memory_clock, &memory);
  call("nvmlDeviceGetPowerUsage", handle, &milliwatts);
  call("nvmlDeviceGetTemperature", handle, gpu_sensor, &celsius);
  return fmt::format("SM {} MHz, memory {} MHz, {} W, {} C", sm, memory, milliwatts / 1000, celsius);
}

}  // namespace glia::bench
