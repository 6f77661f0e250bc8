// Step 1: one thread a row, three passes: the largest number, the sum, the quotients.
//
// Neighbouring threads read addresses a row apart, so a warp's access touches 32 sectors and uses 4 bytes of each, three times over.
#include "bench/ladders/softmax/softmax.h"
#include "bench/ladders/step.cuh"

namespace glia::GPU_NS {

__global__ void softmax_thread_kernel(int rows, int columns, const float* x, float* y) {
  const int row = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (row >= rows) return;
  x += row * columns, y += row * columns;
  float largest = -INFINITY, sum = 0;
  for (int i = 0; i < columns; ++i) largest = fmaxf(largest, x[i]);
  for (int i = 0; i < columns; ++i) sum += expf(x[i] - largest);
  for (int i = 0; i < columns; ++i) y[i] = expf(x[i] - largest) / sum;
}

void softmax_1_thread_a_row(const Problem& p) {
  const int rows = dim(p, 0), columns = dim(p, 1);
  launch({blocks(rows, 128), 128}, softmax_thread_kernel, rows, columns, input(p, 0), output(p));
}

}  // namespace glia::GPU_NS
