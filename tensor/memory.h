#pragma once
// Host memory for tensors: one reserved range of addresses, best fit with coalescing, huge pages, counters and a cap.
// Pages once touched stay with the process, so a training step after the first asks the system for nothing.
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

MemoryStats memory_stats();
void reset_peak_memory();

// Largest number of live bytes allowed; 0 (default): no limit. Beyond it, allocation throws OutOfMemoryError that lists
// the largest live tensors.
void set_memory_limit(size_t bytes);

// What the error above calls the blocks that are allocated on this thread while the scope lives, such as an op's name.
class MemoryScope {
 public:
  explicit MemoryScope(const char* name);
  ~MemoryScope();
  MemoryScope(const MemoryScope&) = delete;
  MemoryScope& operator=(const MemoryScope&) = delete;

 private:
  const char* previous_;
};

// For tests. While on, new blocks are filled with 0xFF bytes (NaN as floats) and framed by guard bytes, which are checked when the
// block is freed and when the violations are counted.
void set_memory_guards(bool on);
int memory_guard_violations();  // since the guards were switched on

// A block of at least `bytes` bytes, aligned to 64, uninitialised; freed when the last handle goes. Null for 0 bytes.
std::shared_ptr<std::byte> allocate(size_t bytes, Device device, const Shape& shape, DType dtype);

}  // namespace glia
