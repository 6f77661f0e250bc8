#pragma once
// Atomics and loads with cache hints. One block runs at a time and a thread gives way only where threads meet, so a plain
// read-modify-write is atomic; out of line, so that the race checker sees it as one.
#include "gpu/emulator/types.h"

namespace gpu::emulator {

enum class Atomic { add, min, max, bit_and, bit_or, bit_xor, exchange };

// T: int, unsigned, long long, unsigned long long, float or double (the last two: add and exchange). Gives the old value.
template <class T>
T atomic(Atomic operation, T* pointer, T value, Site site);
template <class T>
T atomic_compare_exchange(T* pointer, T expected, T value, Site site);

}  // namespace gpu::emulator

namespace gpu::cuda_names {

using emulator::Site;

// clang-format off
#define GPU_ATOMIC(name, operation, T)                                                        \
  inline T name(T* pointer, T value, Site site = Site::here()) {                              \
    return emulator::atomic<T>(emulator::Atomic::operation, pointer, value, site);            \
  }
#define GPU_ATOMIC_INTEGERS(name, operation)                                                  \
  GPU_ATOMIC(name, operation, int)                                                            \
  GPU_ATOMIC(name, operation, unsigned)                                                       \
  GPU_ATOMIC(name, operation, unsigned long long)
GPU_ATOMIC_INTEGERS(atomicAdd, add)
GPU_ATOMIC(atomicAdd, add, float)
GPU_ATOMIC(atomicAdd, add, double)
GPU_ATOMIC_INTEGERS(atomicMin, min)
GPU_ATOMIC(atomicMin, min, long long)
GPU_ATOMIC_INTEGERS(atomicMax, max)
GPU_ATOMIC(atomicMax, max, long long)
GPU_ATOMIC_INTEGERS(atomicAnd, bit_and)
GPU_ATOMIC_INTEGERS(atomicOr, bit_or)
GPU_ATOMIC_INTEGERS(atomicXor, bit_xor)
GPU_ATOMIC_INTEGERS(atomicExch, exchange)
GPU_ATOMIC(atomicExch, exchange, float)
#undef GPU_ATOMIC_INTEGERS
#undef GPU_ATOMIC
// clang-format on

inline int atomicSub(int* pointer, int value, Site site = Site::here()) { return atomicAdd(pointer, -value, site); }
inline unsigned atomicSub(unsigned* pointer, unsigned value, Site site = Site::here()) {
  return atomicAdd(pointer, 0u - value, site);
}
inline int atomicCAS(int* pointer, int expected, int value, Site site = Site::here()) {
  return emulator::atomic_compare_exchange(pointer, expected, value, site);
}
inline unsigned atomicCAS(unsigned* pointer, unsigned expected, unsigned value, Site site = Site::here()) {
  return emulator::atomic_compare_exchange(pointer, expected, value, site);
}
inline unsigned long long atomicCAS(unsigned long long* pointer, unsigned long long expected, unsigned long long value,
                                    Site site = Site::here()) {
  return emulator::atomic_compare_exchange(pointer, expected, value, site);
}

// Loads and stores that say how they should be cached.
template <class T>
T __ldg(const T* pointer) {
  return *pointer;
}
template <class T>
T __ldcs(const T* pointer) {
  return *pointer;
}
template <class T>
T __ldcg(const T* pointer) {
  return *pointer;
}
template <class T>
void __stcs(T* pointer, T value) {
  *pointer = value;
}
template <class T>
void __stcg(T* pointer, T value) {
  *pointer = value;
}

}  // namespace gpu::cuda_names
