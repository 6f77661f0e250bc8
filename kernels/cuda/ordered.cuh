#pragma once
// Floats as integers of the same order.
#include "kernels/cuda/launch.cuh"

namespace glia::GPU_NS {

// Increases with x; -0 and 0 are equal, NaN is above everything (sort_keys.h's).
__device__ inline unsigned ordered_bits(float x) {
  if (x != x) return 0xffffffffu;
  const unsigned bits = __float_as_uint(x == 0.0f ? 0.0f : x);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

}  // namespace glia::GPU_NS
