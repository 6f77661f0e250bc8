// Step 1: one thread an element. Reads are whole, writes are scattered: each of a warp's 32 writes opens a 32-byte sector of its own.
#include "bench/ladders/step.cuh"
#include "bench/ladders/transpose/transpose.h"

namespace glia::GPU_NS {

__global__ void transpose_scattered_kernel(int rows, int columns, const float* x, float* y) {
  const int column = static_cast<int>(blockIdx.x * 32 + threadIdx.x), row = static_cast<int>(blockIdx.y * 8 + threadIdx.y);
  if (row < rows && column < columns) y[column * rows + row] = x[row * columns + column];
}

void transpose_1_scattered(const Problem& p) {
  const int rows = dim(p, 0), columns = dim(p, 1);
  launch({dim3(blocks(columns, 32), blocks(rows, 8)), dim3(32, 8)}, transpose_scattered_kernel, rows, columns, input(p, 0), output(p));
}

}  // namespace glia::GPU_NS
