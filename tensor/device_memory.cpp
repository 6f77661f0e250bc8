// A device's memory: segments from the runtime, cut into blocks and kept; given back only when the device refuses a new one. On
// the emulator every block is one of its own, framed by poison, so that overruns are seen.
#include <algorithm>
#include <vector>

#include "tensor/memory_source.h"
#include "tensor/stream.h"

namespace glia {
namespace {

constexpr size_t block_unit = 512;
constexpr size_t segment_unit = size_t(32) << 20;

class DeviceMemory final : public MemorySource {
 public:
  explicit DeviceMemory(Device device) : device_(device), segments_(device.kind == DeviceKind::cuda) {}

  size_t granularity(size_t) const override { return segments_ ? block_unit : 1; }

  std::byte* take(size_t bytes) override {
    if (!segments_) return allocate(bytes);
    if (std::byte* p = free_.take(bytes)) return p;
    const size_t wanted = (bytes + segment_unit - 1) / segment_unit * segment_unit;
    std::byte* segment = allocate(wanted);
    if (!segment) {  // what is kept and unused may be what lacks
      for (std::byte* unused : free_.drop_free_segments()) release(unused);
      segment = allocate(wanted);
    }
    if (!segment) return nullptr;
    free_.add_segment(segment, wanted);
    return free_.take(bytes);
  }

  void give(std::byte* p, size_t bytes) override { segments_ ? free_.give(p, bytes) : release(p); }

  void set_bytes(std::byte* p, std::byte value, size_t n) override {
    check(runtime_of(device_).set_bytes(p, std::to_integer<int>(value), n, compute_stream(device_)), device_);
  }
  bool all_bytes(const std::byte* p, std::byte value, size_t n) override {
    std::vector<std::byte> host(n);
    copy_memory(host.data(), Device{}, p, device_, n);
    return std::all_of(host.begin(), host.end(), [value](std::byte b) { return b == value; });
  }

 private:
  std::byte* allocate(size_t bytes) {
    void* p = nullptr;
    const gpu::Status status = runtime_of(device_).allocate(&p, bytes);
    if (status.out_of_memory()) return nullptr;
    check(status, device_);
    return static_cast<std::byte*>(p);
  }
  void release(std::byte* p) { check(runtime_of(device_).release(p), device_); }

  Device device_;
  bool segments_;
  FreeBlocks free_;
};

}  // namespace

std::unique_ptr<MemorySource> device_memory(Device device) { return std::make_unique<DeviceMemory>(device); }

}  // namespace glia
