// The emulated device's memory, which is the host's: what is allocated, and what a copy may touch.
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "gpu/emulator/block.h"
#include "gpu/emulator/device.h"
#include "gpu/emulator/sanitizers.h"

namespace gpu::emulator {

using namespace cuda_names;

namespace {

// Invariants: keys are the blocks' addresses; device_bytes is the sum of the device blocks' sizes. All behind the lock.
struct Memory {
  std::mutex mutex;
  std::map<uintptr_t, Allocation> blocks;
  size_t device_bytes = 0;
};
Memory& memory() {
  static Memory* instance = new Memory;  // static destructors may still free
  return *instance;
}

constexpr size_t kAlignment = 256, kGap = 64;
constexpr int kFresh = 0xff;  // reads as NaN

size_t mapped_bytes(size_t bytes) { return (bytes + kGap + kAlignment - 1) / kAlignment * kAlignment; }

size_t device_memory() {
  if (const size_t limit = emulator_config().device_memory) return limit;
  return static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

cudaError_t allocate(void** pointer, size_t bytes, bool host) {
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  if (!host && (bytes > device_memory() || m.device_bytes > device_memory() - bytes))
    return note_error(cudaErrorMemoryAllocation);
  char* block = static_cast<char*>(std::aligned_alloc(kAlignment, mapped_bytes(bytes)));
  if (!block) return note_error(cudaErrorMemoryAllocation);
  std::memset(block, kFresh, mapped_bytes(bytes));
  forbid(block + bytes, mapped_bytes(bytes) - bytes);
  const auto begin = reinterpret_cast<uintptr_t>(block);
  m.blocks[begin] = {begin, begin + bytes, host};
  if (!host) m.device_bytes += bytes;
  *pointer = block;
  return cudaSuccess;
}

cudaError_t release(void* pointer, bool host) {
  if (!pointer) return cudaSuccess;
  cudaDeviceSynchronize();
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  const auto found = m.blocks.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == m.blocks.end() || found->second.host != host) return note_error(cudaErrorInvalidValue);
  const size_t bytes = found->second.end - found->second.begin;
  allow(pointer, mapped_bytes(bytes));
  const auto* gap = static_cast<const unsigned char*>(pointer) + bytes;
  for (size_t i = 0; i < mapped_bytes(bytes) - bytes; ++i)
    if (gap[i] != kFresh) fail("something wrote %zu bytes past the end of %zu allocated bytes at %p", i, bytes, pointer);
  if (!host) m.device_bytes -= bytes;
  m.blocks.erase(found);
  std::free(pointer);
  return cudaSuccess;
}

}  // namespace

Allocation find_allocation(const void* p) {
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  const auto at = reinterpret_cast<uintptr_t>(p);
  auto found = m.blocks.upper_bound(at);
  if (found == m.blocks.begin()) return {};
  --found;
  return at < found->second.end ? found->second : Allocation{};
}

bool is_device_memory(const void* p, size_t bytes) {
  const Allocation found = find_allocation(p);
  return found.begin != found.end && !found.host && bytes <= found.end - reinterpret_cast<uintptr_t>(p);
}

bool is_pinned(const void* p) { return find_allocation(p).host; }

}  // namespace gpu::emulator

namespace gpu::cuda_names {

cudaError_t cudaMalloc(void** pointer, size_t bytes) { return emulator::allocate(pointer, bytes, false); }
cudaError_t cudaMallocHost(void** pointer, size_t bytes) { return emulator::allocate(pointer, bytes, true); }
cudaError_t cudaFree(void* pointer) { return emulator::release(pointer, false); }
cudaError_t cudaFreeHost(void* pointer) { return emulator::release(pointer, true); }

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  emulator::Memory& m = emulator::memory();
  const std::lock_guard lock(m.mutex);
  *total_bytes = emulator::device_memory();
  *free_bytes = *total_bytes > m.device_bytes ? *total_bytes - m.device_bytes : 0;
  return cudaSuccess;
}

}  // namespace gpu::cuda_names
