#pragma once
// The order in which the op Watershed (labels.h) floods pixels, as one number: the level in the high half, the steps in the low one.
#include <cstdint>

#include "kernels/op.h"

namespace glia::flood {

constexpr uint64_t unreached = UINT64_MAX;
constexpr uint32_t closed = UINT32_MAX;  // the level of pixels outside the mask

// A pixel's own level, from its value as ordered_bits, which gives NaN what is `closed` here.
GLIA_HOST_DEVICE constexpr uint32_t level_of(uint32_t ordered_bits) { return ordered_bits < closed ? ordered_bits : closed - 1; }

// Of a marker on a pixel of this level. Markers alone have 0 steps.
GLIA_HOST_DEVICE constexpr uint64_t marker_key(uint32_t level) { return uint64_t(level) << 32; }
GLIA_HOST_DEVICE constexpr bool is_marker(uint64_t key) { return static_cast<uint32_t>(key) == 0; }

// Of a pixel of this level that is flooded from a neighbour of this key; larger than that.
GLIA_HOST_DEVICE constexpr uint64_t flooded_key(uint64_t key, uint32_t level) {
  return level > key >> 32 ? uint64_t(level) << 32 | 1 : key + 2;
}

}  // namespace glia::flood
