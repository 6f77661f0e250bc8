// The calls that -fsanitize=thread puts into code, so that the race checker hears of every access. Linked only into programs
// whose kernels are compiled with that flag while nothing is linked with it; never together with the sanitizer's own library.
#include <atomic>
#include <cstdint>
#include <cstring>

#include "gpu/emulator/race_checker.h"

using gpu::emulator::compiled_access;

#define HERE __builtin_return_address(0)

// clang-format off
#define HOOKS_OF_SIZE(n)                                                                 \
  void __tsan_read##n(void* p) { compiled_access(p, n, false, false, HERE); }            \
  void __tsan_write##n(void* p) { compiled_access(p, n, true, false, HERE); }            \
  void __tsan_unaligned_read##n(void* p) { compiled_access(p, n, false, false, HERE); }  \
  void __tsan_unaligned_write##n(void* p) { compiled_access(p, n, true, false, HERE); }

// Atomics come from host code in the same files, reference counts for example; they have to work.
#define ATOMIC_FETCH(bits, T, name, builtin)                                             \
  T __tsan_atomic##bits##_##name(volatile T* p, T v, int) { return builtin(p, v, __ATOMIC_SEQ_CST); }
#define ATOMICS_OF_SIZE(bits, T)                                                         \
  T __tsan_atomic##bits##_load(const volatile T* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }          \
  void __tsan_atomic##bits##_store(volatile T* p, T v, int) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }          \
  ATOMIC_FETCH(bits, T, exchange, __atomic_exchange_n)                                   \
  ATOMIC_FETCH(bits, T, fetch_add, __atomic_fetch_add)                                   \
  ATOMIC_FETCH(bits, T, fetch_sub, __atomic_fetch_sub)                                   \
  ATOMIC_FETCH(bits, T, fetch_and, __atomic_fetch_and)                                   \
  ATOMIC_FETCH(bits, T, fetch_or, __atomic_fetch_or)                                     \
  ATOMIC_FETCH(bits, T, fetch_xor, __atomic_fetch_xor)                                   \
  ATOMIC_FETCH(bits, T, fetch_nand, __atomic_fetch_nand)                                 \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* e, T v, int, int) {                          \
    return __atomic_compare_exchange_n(p, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); }                      \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile T* p, T* e, T v, int, int) {                            \
    return __atomic_compare_exchange_n(p, e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); }                      \
  T __tsan_atomic##bits##_compare_exchange_val(volatile T* p, T e, T v, int, int) {                                \
    __atomic_compare_exchange_n(p, &e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); return e; }

extern "C" {
void __tsan_init() { gpu::emulator::start_race_checking(); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
HOOKS_OF_SIZE(1)
HOOKS_OF_SIZE(2)
HOOKS_OF_SIZE(4)
HOOKS_OF_SIZE(8)
HOOKS_OF_SIZE(16)
void __tsan_read_range(void* p, unsigned long n) { compiled_access(p, n, false, false, HERE); }
void __tsan_write_range(void* p, unsigned long n) { compiled_access(p, n, true, false, HERE); }
void* __tsan_memset(void* p, int value, unsigned long n) {
  compiled_access(p, n, true, false, HERE);
  return std::memset(p, value, n);
}
void* __tsan_memcpy(void* to, const void* from, unsigned long n) {
  compiled_access(from, n, false, false, HERE);
  compiled_access(to, n, true, false, HERE);
  return std::memcpy(to, from, n);
}
void* __tsan_memmove(void* to, const void* from, unsigned long n) {
  compiled_access(from, n, false, false, HERE);
  compiled_access(to, n, true, false, HERE);
  return std::memmove(to, from, n);
}
ATOMICS_OF_SIZE(8, uint8_t)
ATOMICS_OF_SIZE(16, uint16_t)
ATOMICS_OF_SIZE(32, uint32_t)
ATOMICS_OF_SIZE(64, uint64_t)
void __tsan_atomic_thread_fence(int) { std::atomic_thread_fence(std::memory_order_seq_cst); }
void __tsan_atomic_signal_fence(int) { std::atomic_signal_fence(std::memory_order_seq_cst); }
}
// clang-format on
