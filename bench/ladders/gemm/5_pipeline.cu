// Step 5: copies that run while the block computes.
//
// In step 4 a block waits for memory, computes, waits again. Here the next tile is on its way while this one is used: cp.async moves 16
// bytes from global to shared memory without passing through registers, and a group of copies is waited for when it is needed.
// Two stages of tiles, one barrier a tile: the wait makes this thread's copies visible, the barrier everybody's, and that
// everyone has left the tile which is overwritten next. A keeps its layout now (16 bytes of a row are 16 bytes of k), its rows padded by 4
// numbers so that the reads of a warp fall into different banks.
#include "bench/ladders/gemm/gemm.h"
#include "bench/ladders/step.cuh"
#include "gpu/mma.h"

namespace glia::GPU_NS {

namespace pipeline_gemm {
constexpr int side = 64, depth = 16, threads = 256, per_thread = 4, stages = 2;
struct Tiles {
  float a[stages][side][depth + 4];
  float b[stages][depth][side];
};
}  // namespace pipeline_gemm

__global__ void __launch_bounds__(pipeline_gemm::threads)
    gemm_pipeline_kernel(int n, int k, const float* a, const float* b, float* c) {
  using namespace pipeline_gemm;
  auto& tiles = gpu::dynamic_shared<Tiles>();
  const int t = static_cast<int>(threadIdx.x), x = t % 16 * per_thread, y = t / 16 * per_thread;
  const int row0 = static_cast<int>(blockIdx.y) * side, column0 = static_cast<int>(blockIdx.x) * side;
  const auto copy = [&](int stage, int k0) {  // one piece of 16 bytes a thread and tile
    const int row = t / 4, inner = t % 4 * 4;
    gpu::cp_async16(&tiles.a[stage][row][inner], a + (row0 + row) * k + k0 + inner);
    const int depth_row = t / 16, column = t % 16 * 4;
    gpu::cp_async16(&tiles.b[stage][depth_row][column], b + (k0 + depth_row) * n + column0 + column);
    gpu::cp_async_commit();
  };
  float sum[per_thread][per_thread] = {};
  copy(0, 0);
  for (int k0 = 0, stage = 0; k0 < k; k0 += depth, stage ^= 1) {
    gpu::cp_async_wait<0>();
    __syncthreads();
    if (k0 + depth < k) copy(stage ^ 1, k0 + depth);
    GPU_UNROLL
    for (int i = 0; i < depth; ++i) {
      float left[per_thread];
      GPU_UNROLL
      for (int j = 0; j < per_thread; ++j) left[j] = tiles.a[stage][y + j][i];
      const float4 right = *reinterpret_cast<const float4*>(&tiles.b[stage][i][x]);
      GPU_UNROLL
      for (int r = 0; r < per_thread; ++r) {
        sum[r][0] += left[r] * right.x;
        sum[r][1] += left[r] * right.y;
        sum[r][2] += left[r] * right.z;
        sum[r][3] += left[r] * right.w;
      }
    }
  }
  for (int r = 0; r < per_thread; ++r)
    *reinterpret_cast<float4*>(&c[(row0 + y + r) * n + column0 + x]) = make_float4(sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
}

void gemm_5_pipeline(const Problem& p) {
  const int m = dim(p, 0), n = dim(p, 1), k = dim(p, 2);
  launch({dim3(blocks(n, pipeline_gemm::side), blocks(m, pipeline_gemm::side)), pipeline_gemm::threads, sizeof(pipeline_gemm::Tiles)},
         gemm_pipeline_kernel, n, k, input(p, 0), input(p, 1), output(p));
}

}  // namespace glia::GPU_NS
