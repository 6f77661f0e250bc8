// Step 2: one block a row. Threads stride over the row together, so accesses are whole; maximum and sum meet in shared memory.
//
// Memory is now read in full pieces, but still twice from far away and once more for the quotients, and each of the 2 x 8 rounds of the
// trees costs a barrier of the whole block.
#include "bench/ladders/softmax/softmax.h"
#include "bench/ladders/step.cuh"

namespace glia::GPU_NS {

__global__ void __launch_bounds__(256) softmax_block_kernel(int columns, const float* x, float* y) {
  GPU_SHARED(float, part, [256]);
  const int t = static_cast<int>(threadIdx.x), row = static_cast<int>(blockIdx.x);
  x += row * columns, y += row * columns;
  float largest = -INFINITY;
  for (int i = t; i < columns; i += 256) largest = fmaxf(largest, x[i]);
  part[t] = largest;
  __syncthreads();
  for (int half = 128; half > 0; half /= 2) {
    if (t < half) part[t] = fmaxf(part[t], part[t + half]);
    __syncthreads();
  }
  largest = part[0];
  __syncthreads();  // all have read it before it is overwritten
  float sum = 0;
  for (int i = t; i < columns; i += 256) sum += expf(x[i] - largest);
  part[t] = sum;
  __syncthreads();
  for (int half = 128; half > 0; half /= 2) {
    if (t < half) part[t] += part[t + half];
    __syncthreads();
  }
  sum = part[0];
  for (int i = t; i < columns; i += 256) y[i] = expf(x[i] - largest) / sum;
}

void softmax_2_block_a_row(const Problem& p) {
  launch({static_cast<unsigned>(p.size[0]), 256}, softmax_block_kernel, dim(p, 1), input(p, 0), output(p));
}

}  // namespace glia::GPU_NS
