// Step 3: tiles in shared memory.
//
// A block computes 32 x 32 elements of C. For each 32 of k it copies a tile of A and a tile of B into shared memory, once, and all
// its threads read them from there: every element of A and B now comes from global memory n / 32 and m / 32 times instead of n and m.
// Two barriers a tile: nobody may read before all have written, nobody may write the next tile before all have read. (Leave one out
// and run the step in the emulator: GLIA_EMULATE_SKIP=LINE:3_shared.cu.)
#include "bench/ladders/gemm/gemm.h"
#include "bench/ladders/step.cuh"

namespace glia::GPU_NS {

constexpr int shared_side = 32;

__global__ void __launch_bounds__(shared_side* shared_side)
    gemm_shared_kernel(int n, int k, const float* a, const float* b, float* c) {
  GPU_SHARED(float, tile_a, [shared_side][shared_side]);
  GPU_SHARED(float, tile_b, [shared_side][shared_side]);
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const int row = static_cast<int>(blockIdx.y) * shared_side + y, column = static_cast<int>(blockIdx.x) * shared_side + x;
  float sum = 0;
  for (int k0 = 0; k0 < k; k0 += shared_side) {
    tile_a[y][x] = a[row * k + k0 + x];
    tile_b[y][x] = b[(k0 + y) * n + column];
    __syncthreads();
    for (int i = 0; i < shared_side; ++i) sum += tile_a[y][i] * tile_b[i][x];
    __syncthreads();
  }
  c[row * n + column] = sum;
}

void gemm_3_shared(const Problem& p) {
  const int m = dim(p, 0), n = dim(p, 1), k = dim(p, 2);
  launch({dim3(blocks(n, shared_side), blocks(m, shared_side)), dim3(shared_side, shared_side)}, gemm_shared_kernel, n, k, input(p, 0),
         input(p, 1), output(p));
}

}  // namespace glia::GPU_NS
