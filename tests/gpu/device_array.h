#pragma once
// Arrays on a device for the tests of gpu/, and the sides these run on.
#include <doctest/doctest.h>

#include <random>
#include <vector>

#include "gpu/emulator_config.h"
#include "gpu/runtime.h"

namespace glia::tests {

inline void check(const gpu::Status& status) {
  if (!status.ok()) FAIL(status.text);
}
inline void check_launch(const gpu::Runtime& runtime, int code) {
  if (code) FAIL(runtime.describe(code).text);
}

template <class T>
class DeviceArray {
 public:
  DeviceArray(const gpu::Runtime& runtime, size_t size) : runtime_(runtime), size_(size) {
    check(runtime_.allocate(reinterpret_cast<void**>(&data_), size * sizeof(T)));
  }
  DeviceArray(const gpu::Runtime& runtime, const std::vector<T>& values) : DeviceArray(runtime, values.size()) {
    check(runtime_.copy(data_, values.data(), size_ * sizeof(T), gpu::CopyKind::host_to_device, nullptr));
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { static_cast<void>(runtime_.release(data_)); }

  T* get() const { return data_; }
  std::vector<T> values() const {
    std::vector<T> host(size_);
    check(runtime_.synchronize_device());
    check(runtime_.copy(host.data(), data_, size_ * sizeof(T), gpu::CopyKind::device_to_host, nullptr));
    check(runtime_.synchronize(nullptr));
    return host;
  }

 private:
  const gpu::Runtime& runtime_;
  T* data_ = nullptr;
  size_t size_;
};

inline std::vector<float> random_floats(size_t n, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& v : values) v = normal(generator);
  return values;
}

// The emulator's settings for a scope.
class Emulation {
 public:
  explicit Emulation(const gpu::EmulatorConfig& config) : before_(gpu::emulator_config()) { gpu::emulator_config() = config; }
  ~Emulation() { gpu::emulator_config() = before_; }
  Emulation(const Emulation&) = delete;
  Emulation& operator=(const Emulation&) = delete;

 private:
  gpu::EmulatorConfig before_;
};

}  // namespace glia::tests
