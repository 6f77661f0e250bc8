// Step 3: warps add by shuffles, and a fixed number of blocks walks over all numbers.
//
// The threads of a warp read each other's registers directly: five shuffles and no barrier instead of five rounds through shared
// memory. Shared memory only carries one number a warp. And 528 blocks stride over the array, so that a thread adds many numbers
// before anything is combined: the tree is a matter of microseconds at the end, and one second launch is enough.
#include "bench/ladders/reduction/reduction.h"
#include "bench/ladders/step.cuh"

namespace glia::GPU_NS {

__global__ void __launch_bounds__(256) sum_shuffles_kernel(int n, const float* x, float* y) {
  GPU_SHARED(float, of_warp, [8]);
  const int t = static_cast<int>(threadIdx.x);
  float sum = 0;
  for (int i = static_cast<int>(blockIdx.x) * 256 + t; i < n; i += static_cast<int>(gridDim.x) * 256) sum += x[i];
  for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  if (t % 32 == 0) of_warp[t / 32] = sum;
  __syncthreads();
  if (t > 0) return;
  sum = 0;
  for (int w = 0; w < 8; ++w) sum += of_warp[w];
  y[blockIdx.x] = sum;
}

void reduction_3_shuffles(const Problem& p) {
  const int n = dim(p, 0);
  const unsigned parts = std::min(blocks(n, 256), 528u);
  const Tensor partial({int64_t(parts)}, DType::float32, p.out.device());
  launch({parts, 256}, sum_shuffles_kernel, n, input(p, 0), partial.device_data<float>());
  launch({1, 256}, sum_shuffles_kernel, static_cast<int>(parts), partial.device_data<float>(), output(p));
}

}  // namespace glia::GPU_NS
