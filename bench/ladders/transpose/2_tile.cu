// Step 2: through a tile in shared memory, so that both sides of the copy are whole rows.
//
// A block reads 32 x 32 numbers row by row and writes them column by column. But the column of a tile with 32 numbers a row lies in
// one of the 32 banks of shared memory: the reads of a warp queue up, 32 deep.
#include "bench/ladders/step.cuh"
#include "bench/ladders/transpose/transpose.h"

namespace glia::GPU_NS {

__global__ void __launch_bounds__(1024) transpose_tile_kernel(int rows, int columns, const float* x, float* y) {
  GPU_SHARED(float, tile, [32][32]);
  const int tx = static_cast<int>(threadIdx.x), ty = static_cast<int>(threadIdx.y);
  const int row0 = static_cast<int>(blockIdx.y) * 32, column0 = static_cast<int>(blockIdx.x) * 32;
  if (row0 + ty < rows && column0 + tx < columns) tile[ty][tx] = x[(row0 + ty) * columns + column0 + tx];
  __syncthreads();
  if (column0 + ty < columns && row0 + tx < rows) y[(column0 + ty) * rows + row0 + tx] = tile[tx][ty];
}

void transpose_2_tile(const Problem& p) {
  const int rows = dim(p, 0), columns = dim(p, 1);
  launch({dim3(blocks(columns, 32), blocks(rows, 32)), dim3(32, 32)}, transpose_tile_kernel, rows, columns, input(p, 0), output(p));
}

}  // namespace glia::GPU_NS
