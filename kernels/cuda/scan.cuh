#pragma once
// Exclusive prefix sums of unsigned numbers: over the threads of a block, and over an array.
#include "kernels/cuda/launch.cuh"

namespace glia::GPU_NS {

// The sum of `value` over the threads before this one, of a block of Threads; all threads call it. Before a second call in one
// kernel, they meet at a barrier.
template <int Threads>
__device__ unsigned block_exclusive_scan(unsigned value, unsigned* total = nullptr) {
  GPU_SHARED(unsigned, warp_sums, [Threads / 32]);
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  unsigned inclusive = value;
  GPU_UNROLL
  for (unsigned distance = 1; distance < 32; distance *= 2) {
    const unsigned before = __shfl_up_sync(0xffffffffu, inclusive, distance);
    if (lane >= distance) inclusive += before;
  }
  if (lane == 31) warp_sums[warp] = inclusive;
  __syncthreads();
  unsigned before = 0, all = 0;
  GPU_UNROLL
  for (unsigned w = 0; w < Threads / 32; ++w) {
    if (w == warp) before = all;
    all += warp_sums[w];
  }
  if (total) *total = all;
  return before + inclusive - value;
}

// counts[i] becomes the sum of counts[0, i): an int32 tensor whose whole sum is below 2^32.
void exclusive_scan(const Tensor& counts);

}  // namespace glia::GPU_NS
