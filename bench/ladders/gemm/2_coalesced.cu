// Step 2: the same, neighbouring threads in neighbouring COLUMNS.
//
// A warp now reads 128 bytes of one row of B in one piece, writes 128 bytes of C, and all its threads want the same element of A,
// which is one broadcast. Two indices are swapped, nothing else, and the kernel is several times faster: memory is read in pieces of
// 32 bytes, whoever uses a piece whole pays a fraction.
#include "bench/ladders/gemm/gemm.h"
#include "bench/ladders/step.cuh"

namespace glia::GPU_NS {

__global__ void gemm_coalesced_kernel(int m, int n, int k, const float* a, const float* b, float* c) {
  const int column = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int row = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
  if (row >= m || column >= n) return;
  float sum = 0;
  for (int i = 0; i < k; ++i) sum += a[row * k + i] * b[i * n + column];
  c[row * n + column] = sum;
}

void gemm_2_coalesced(const Problem& p) {
  const int m = dim(p, 0), n = dim(p, 1), k = dim(p, 2);
  launch({dim3(blocks(n, 32), blocks(m, 8)), dim3(32, 8)}, gemm_coalesced_kernel, m, n, k, input(p, 0), input(p, 1), output(p));
}

}  // namespace glia::GPU_NS
