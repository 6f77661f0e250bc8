#pragma once
// Floats with their places as 64-bit keys, so that a stable sort by value is a sort of integers: the high half orders the value,
// the low half is the place.
#include <bit>
#include <cstdint>
#include <span>

namespace glia {

// Increases with x; -0 and 0 are equal, NaN is above everything.
inline uint32_t ordered_bits(float x) {
  if (x != x) return UINT32_MAX;
  const uint32_t bits = std::bit_cast<uint32_t>(x == 0 ? 0.0f : x);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// Larger values first if `descending`; equal ones by place in both directions.
inline uint64_t sort_key(float x, uint32_t place, bool descending) {
  const uint32_t order = ordered_bits(x);
  return uint64_t(descending ? ~order : order) << 32 | place;
}
inline uint32_t place_of(uint64_t key) { return static_cast<uint32_t>(key); }

// Sorts keys whose places ascend. `scratch` is as long as `keys`.
void sort_keys(std::span<uint64_t> keys, std::span<uint64_t> scratch);

// Moves the k smallest keys to the front, sorted.
void sort_smallest_keys(std::span<uint64_t> keys, size_t k);

}  // namespace glia
