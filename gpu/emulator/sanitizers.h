#pragma once
// What the address sanitizer wants to know of stacks and memory that we manage ourselves. (To the thread sanitizer all fibers of
// an OS thread are that thread, which is what they are.)
#if defined(__has_feature)
#define GPU_HAS_FEATURE(x) __has_feature(x)
#else
#define GPU_HAS_FEATURE(x) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || GPU_HAS_FEATURE(address_sanitizer)
#define GPU_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define GPU_ASAN 0
#endif

#include <cstddef>

namespace gpu::emulator {

// Nobody may touch these bytes; they may be touched again.
inline void forbid([[maybe_unused]] const void* p, [[maybe_unused]] size_t bytes) {
#if GPU_ASAN
  __asan_poison_memory_region(p, bytes);
#endif
}
inline void allow([[maybe_unused]] const void* p, [[maybe_unused]] size_t bytes) {
#if GPU_ASAN
  __asan_unpoison_memory_region(p, bytes);
#endif
}

}  // namespace gpu::emulator
