// Step 3: one number of padding a row. Element (i, j) lies in bank (33 i + j) % 32 = (i + j) % 32: rows and columns both spread over all
// banks. One character of difference.
#include "bench/ladders/step.cuh"
#include "bench/ladders/transpose/transpose.h"

namespace glia::GPU_NS {

__global__ void __launch_bounds__(1024) transpose_padded_kernel(int rows, int columns, const float* x, float* y) {
  GPU_SHARED(float, tile, [32][33]);
  const int tx = static_cast<int>(threadIdx.x), ty = static_cast<int>(threadIdx.y);
  const int row0 = static_cast<int>(blockIdx.y) * 32, column0 = static_cast<int>(blockIdx.x) * 32;
  if (row0 + ty < rows && column0 + tx < columns) tile[ty][tx] = x[(row0 + ty) * columns + column0 + tx];
  __syncthreads();
  if (column0 + ty < columns && row0 + tx < rows) y[(column0 + ty) * rows + row0 + tx] = tile[tx][ty];
}

void transpose_3_padded(const Problem& p) {
  const int rows = dim(p, 0), columns = dim(p, 1);
  launch({dim3(blocks(columns, 32), blocks(rows, 32)), dim3(32, 32)}, transpose_padded_kernel, rows, columns, input(p, 0), output(p));
}

}  // namespace glia::GPU_NS
