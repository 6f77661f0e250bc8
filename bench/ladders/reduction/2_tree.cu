// Step 2: every block adds its part as a tree in shared memory; a second launch adds the parts.
//
// Half of the threads add the other half's numbers, then a quarter, ... : 8 rounds for 256 numbers, a barrier after each. Parts
// meet in a second launch rather than by atomicAdd: atomics arrive in any order, and a sum of floats in another order is another number.
#include "bench/ladders/reduction/reduction.h"
#include "bench/ladders/step.cuh"

namespace glia::GPU_NS {

__global__ void __launch_bounds__(256) sum_tree_kernel(int n, const float* x, float* y) {
  GPU_SHARED(float, part, [256]);
  const int t = static_cast<int>(threadIdx.x), i = static_cast<int>(blockIdx.x) * 256 + t;
  part[t] = i < n ? x[i] : 0.0f;
  __syncthreads();
  for (int half = 128; half > 0; half /= 2) {
    if (t < half) part[t] += part[t + half];
    __syncthreads();
  }
  if (t == 0) y[blockIdx.x] = part[0];
}

void reduction_2_tree(const Problem& p) {
  int n = dim(p, 0);
  Tensor from = p.in[0];
  while (n > 256) {
    const unsigned parts = blocks(n, 256);
    const Tensor to({int64_t(parts)}, DType::float32, from.device());
    launch({parts, 256}, sum_tree_kernel, n, from.device_data<float>(), to.device_data<float>());
    from = to;
    n = static_cast<int>(parts);
  }
  launch({1, 256}, sum_tree_kernel, n, from.device_data<float>(), output(p));
}

}  // namespace glia::GPU_NS
