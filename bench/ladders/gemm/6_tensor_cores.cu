// Step 6: tensor cores.
//
// One instruction of a warp, mma.m16n8k8, multiplies 16 x 8 by 8 x 8 numbers: what 32 threads did in 32 multiply-adds each. Factors are
// rounded to TF32 (10 bits after the point), sums stay float32. A warp keeps 32 x 32 elements of C as 2 x 4 fragments; lane l holds of
// each: rows l / 4 and l / 4 + 8, columns 2 (l % 4) and the next. The padding of the tiles is chosen for how fragments are read:
// A by rows (stride 32 + 4), B by columns (stride 64 + 8), 32 different banks both. Three stages of copies.
#include "bench/ladders/gemm/gemm.h"
#include "bench/ladders/step.cuh"
#include "gpu/mma.h"

namespace glia::GPU_NS {

namespace mma_gemm {
constexpr int side = 64, depth = 32, threads = 128, stages = 3, warp_side = 32;
struct Tiles {
  float a[stages][side][depth + 4];
  float b[stages][depth][side + 8];
};
}  // namespace mma_gemm

__global__ void __launch_bounds__(mma_gemm::threads) gemm_mma_kernel(int n, int k, const float* a, const float* b, float* c) {
  using namespace mma_gemm;
  auto& tiles = gpu::dynamic_shared<Tiles>();
  const int t = static_cast<int>(threadIdx.x), lane = t % 32, warp = t / 32, group = lane / 4, in_group = lane % 4;
  const int row0 = static_cast<int>(blockIdx.y) * side, column0 = static_cast<int>(blockIdx.x) * side;
  const int warp_row = warp / 2 * warp_side, warp_column = warp % 2 * warp_side;
  const auto copy = [&](int stage, int k0) {
    if (k0 < k) {
      GPU_UNROLL
      for (int i = t; i < side * depth / 4; i += threads) {
        gpu::cp_async16(&tiles.a[stage][i / 8][i % 8 * 4], a + (row0 + i / 8) * k + k0 + i % 8 * 4);
        gpu::cp_async16(&tiles.b[stage][i / 16][i % 16 * 4], b + (k0 + i / 16) * n + column0 + i % 16 * 4);
      }
    }
    gpu::cp_async_commit();  // an empty group keeps the count of groups right
  };
  float sum[2][4][4] = {};
  for (int stage = 0; stage < stages - 1; ++stage) copy(stage, stage * depth);
  for (int k0 = 0, stage = 0; k0 < k; k0 += depth, stage = (stage + 1) % stages) {
    gpu::cp_async_wait<stages - 2>();
    __syncthreads();
    copy((stage + stages - 1) % stages, k0 + (stages - 1) * depth);
    GPU_UNROLL
    for (int i = 0; i < depth; i += 8) {
      unsigned left[2][4], right[4][2];
      GPU_UNROLL
      for (int r = 0; r < 2; ++r) {
        const float* from = &tiles.a[stage][warp_row + r * 16 + group][i + in_group];
        left[r][0] = gpu::to_tf32(from[0]);
        left[r][1] = gpu::to_tf32(from[8 * (depth + 4)]);
        left[r][2] = gpu::to_tf32(from[4]);
        left[r][3] = gpu::to_tf32(from[8 * (depth + 4) + 4]);
      }
      GPU_UNROLL
      for (int s = 0; s < 4; ++s) {
        const float* from = &tiles.b[stage][i + in_group][warp_column + s * 8 + group];
        right[s][0] = gpu::to_tf32(from[0]);
        right[s][1] = gpu::to_tf32(from[4 * (side + 8)]);
      }
      gpu::mma_tile_tf32(sum, left, right);
    }
  }
  GPU_UNROLL
  for (int r = 0; r < 2; ++r)
    GPU_UNROLL
    for (int s = 0; s < 4; ++s)
      GPU_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = row0 + warp_row + r * 16 + group + half * 8, column = column0 + warp_column + s * 8 + in_group * 2;
        *reinterpret_cast<float2*>(&c[row * n + column]) = make_float2(sum[r][s][half * 2], sum[r][s][half * 2 + 1]);
      }
}

void gemm_6_tensor_cores(const Problem& p) {
  const int m = dim(p, 0), n = dim(p, 1), k = dim(p, 2);
  launch({dim3(blocks(n, mma_gemm::side), blocks(m, mma_gemm::side)), mma_gemm::threads, sizeof(mma_gemm::Tiles)}, gemm_mma_kernel, n, k,
         input(p, 0), input(p, 1), output(p));
}

}  // namespace glia::GPU_NS
