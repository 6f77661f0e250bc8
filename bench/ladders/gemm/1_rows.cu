// Step 1: one thread an element of C, neighbouring threads in neighbouring ROWS.
//
// The 32 threads of a warp read 32 different rows of A, k apart, and write 32 different rows of C: each access of the warp touches
// 32 separate 32-byte sectors and uses 4 bytes of each. Every element of A is read n times, every element of B m times.
#include "bench/ladders/gemm/gemm.h"
#include "bench/ladders/step.cuh"

namespace glia::GPU_NS {

__global__ void gemm_rows_kernel(int m, int n, int k, const float* a, const float* b, float* c) {
  const int row = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int column = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
  if (row >= m || column >= n) return;
  float sum = 0;
  for (int i = 0; i < k; ++i) sum += a[row * k + i] * b[i * n + column];
  c[row * n + column] = sum;
}

void gemm_1_rows(const Problem& p) {
  const int m = dim(p, 0), n = dim(p, 1), k = dim(p, 2);
  launch({dim3(blocks(m, 32), blocks(n, 8)), dim3(32, 8)}, gemm_rows_kernel, m, n, k, input(p, 0), input(p, 1), output(p));
}

}  // namespace glia::GPU_NS
