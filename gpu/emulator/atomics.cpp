#include "gpu/emulator/atomics.h"

#include <type_traits>

#include "gpu/emulator/block.h"

namespace gpu::emulator {

namespace {

template <class T>
T combine(Atomic operation, T old, T value) {
  switch (operation) {
    case Atomic::add:
      if constexpr (std::is_integral_v<T>) {  // wraps around
        using U = std::make_unsigned_t<T>;
        return static_cast<T>(static_cast<U>(old) + static_cast<U>(value));
      } else {
        return old + value;
      }
    case Atomic::min: return value < old ? value : old;
    case Atomic::max: return old < value ? value : old;
    case Atomic::exchange: return value;
    default: break;
  }
  if constexpr (std::is_integral_v<T>) {
    if (operation == Atomic::bit_and) return old & value;
    if (operation == Atomic::bit_or) return old | value;
    return old ^ value;
  } else {
    return value;
  }
}

template <class T>
void check_aligned(const T* pointer, Site site) {
  if (reinterpret_cast<uintptr_t>(pointer) % sizeof(T))
    fail("atomic at %s:%u: %p is not aligned to %zu bytes", site.file, site.line, static_cast<const void*>(pointer), sizeof(T));
}

}  // namespace

template <class T>
T atomic(Atomic operation, T* pointer, T value, Site site) {
  check_aligned(pointer, site);
  note_access(pointer, sizeof(T), true, true, site);
  const T old = *pointer;
  *pointer = combine(operation, old, value);
  return old;
}

template <class T>
T atomic_compare_exchange(T* pointer, T expected, T value, Site site) {
  check_aligned(pointer, site);
  note_access(pointer, sizeof(T), true, true, site);
  const T old = *pointer;
  if (old == expected) *pointer = value;
  return old;
}

template int atomic(Atomic, int*, int, Site);
template unsigned atomic(Atomic, unsigned*, unsigned, Site);
template long long atomic(Atomic, long long*, long long, Site);
template unsigned long long atomic(Atomic, unsigned long long*, unsigned long long, Site);
template float atomic(Atomic, float*, float, Site);
template double atomic(Atomic, double*, double, Site);
template int atomic_compare_exchange(int*, int, int, Site);
template unsigned atomic_compare_exchange(unsigned*, unsigned, unsigned, Site);
template unsigned long long atomic_compare_exchange(unsigned long long*, unsigned long long, unsigned long long, Site);

}  // namespace gpu::emulator
