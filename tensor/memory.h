#pragma once
// Memory of tensors: one pool a device, with counters, a cap and an error that lists the largest live tensors. A pool takes its
// bytes from a source: the host's arena (tensor/host_memory.cpp) or the device's segments (tensor/device_memory.cpp). Both keep what
// was freed, so a training step after the first asks the system for nothing.
#include <cstddef>
#include <memory>

#include "tensor/device.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace glia {

struct MemoryStats {
  size_t live_bytes = 0;  // held by tensors now
  size_t peak_bytes = 0;  // largest live_bytes since the last reset
  size_t allocations = 0; // number of live blocks
};

MemoryStats memory_stats(Device device = {});
void reset_peak_memory(Device device = {});

// Largest number of live bytes allowed on the device; 0 (default): no limit. Beyond it, allocation throws OutOfMemoryError that
// lists the largest live tensors.
void set_memory_limit(size_t bytes, Device device = {});

// What errors call the work and the blocks of this thread while the scope lives, such as an op's name.
class MemoryScope {
 public:
  explicit MemoryScope(const char* name);
  ~MemoryScope();
  MemoryScope(const MemoryScope&) = delete;
  MemoryScope& operator=(const MemoryScope&) = delete;

 private:
  const char* previous_;
};
const char* memory_scope();  // the innermost one's name

// For tests. While on, new blocks are filled with 0xFF bytes (NaN as floats) and framed by guard bytes, which are checked when the
// block is freed and when the violations are counted. On every device.
void set_memory_guards(bool on);
int memory_guard_violations();  // since the guards were switched on

// A block of at least `bytes` bytes, aligned to 64 (256 on devices), uninitialised; freed when the last handle goes. Null for 0
// bytes. On a device, a block that was freed may be handed out while kernels that use it are still queued: all work of a device is
// ordered by its one compute stream (tensor/stream.h).
std::shared_ptr<std::byte> allocate(size_t bytes, Device device, const Shape& shape, DType dtype);

}  // namespace glia
