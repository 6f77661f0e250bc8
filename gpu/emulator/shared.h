#pragma once
// Shared memory. Arrays are placed in the block's arena when first reached, 64 bytes apart.
#include <cstddef>
#include <type_traits>

#include "gpu/emulator/types.h"

namespace gpu::emulator {

inline constexpr size_t kStaticShared = 48 * 1024, kBlockShared = 227 * 1024;  // bytes: of declared arrays, and of everything

// Where one declaration's array lies in the running block, one per OS thread.
struct SharedSlot {
  unsigned block_serial = 0;
  void* place = nullptr;
};
extern constinit thread_local unsigned current_block_serial;  // differs for every block that runs

void* place_shared(SharedSlot& slot, size_t bytes, size_t alignment, const char* name, Site site);
void* dynamic_shared_bytes(size_t at_least);

template <class T>
T& shared_array(SharedSlot& slot, const char* name, Site site) {
  static_assert(std::is_trivially_destructible_v<T>);
  if (slot.block_serial != current_block_serial) place_shared(slot, sizeof(T), alignof(T), name, site);
  return *static_cast<T*>(slot.place);
}

}  // namespace gpu::emulator

#define GPU_SHARED(type, name, ...)                                        \
  using name##_shared_type = type __VA_ARGS__;                             \
  static constinit thread_local ::gpu::emulator::SharedSlot name##_slot{}; \
  name##_shared_type& name =                                               \
      ::gpu::emulator::shared_array<name##_shared_type>(name##_slot, #name, ::gpu::emulator::Site{__FILE__, __LINE__})
