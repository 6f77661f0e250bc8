// Step 4: a tile of C in each thread's registers.
//
// In step 3 a thread reads two numbers from shared memory for every multiply-add, and shared memory gives a warp 32 numbers a cycle
// while the cores could do 128 multiply-adds. A thread that keeps 4 x 4 sums reads 4 + 4 numbers for 16 multiply-adds. A block of 256
// threads computes 64 x 64 elements; the tile of A is stored transposed, so that the 4 numbers of a thread lie together.
#include "bench/ladders/gemm/gemm.h"
#include "bench/ladders/step.cuh"

namespace glia::GPU_NS {

namespace register_gemm {
constexpr int side = 64, depth = 16, threads = 256, per_thread = 4;
}

__global__ void __launch_bounds__(register_gemm::threads)
    gemm_registers_kernel(int n, int k, const float* a, const float* b, float* c) {
  using namespace register_gemm;
  GPU_SHARED(float, tile_a, [depth][side]);  // transposed
  GPU_SHARED(float, tile_b, [depth][side]);
  const int t = static_cast<int>(threadIdx.x), x = t % 16 * per_thread, y = t / 16 * per_thread;
  const int row0 = static_cast<int>(blockIdx.y) * side, column0 = static_cast<int>(blockIdx.x) * side;
  float sum[per_thread][per_thread] = {};
  for (int k0 = 0; k0 < k; k0 += depth) {
    for (int i = t; i < side * depth; i += threads) {
      tile_a[i % depth][i / depth] = a[(row0 + i / depth) * k + k0 + i % depth];
      tile_b[i / side][i % side] = b[(k0 + i / side) * n + column0 + i % side];
    }
    __syncthreads();
    for (int i = 0; i < depth; ++i) {
      float left[per_thread], right[per_thread];
      GPU_UNROLL
      for (int j = 0; j < per_thread; ++j) left[j] = tile_a[i][y + j], right[j] = tile_b[i][x + j];
      GPU_UNROLL
      for (int r = 0; r < per_thread; ++r)
        GPU_UNROLL
        for (int s = 0; s < per_thread; ++s) sum[r][s] += left[r] * right[s];
    }
    __syncthreads();
  }
  for (int r = 0; r < per_thread; ++r)
    for (int s = 0; s < per_thread; ++s) c[(row0 + y + r) * n + column0 + x + s] = sum[r][s];
}

void gemm_4_registers(const Problem& p) {
  const int m = dim(p, 0), n = dim(p, 1), k = dim(p, 2);
  launch({dim3(blocks(n, register_gemm::side), blocks(m, register_gemm::side)), register_gemm::threads}, gemm_registers_kernel, n, k,
         input(p, 0), input(p, 1), output(p));
}

}  // namespace glia::GPU_NS
