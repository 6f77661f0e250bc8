// Step 4: tensor cores. The copies of step 3, three stages of them and 32 deep; the products of step 6 of gemm.
//
// Both operands lie with the inner index running fastest, which is how fragments of A and of B are wanted: rows padded by 4 numbers
// bring the 32 reads of a warp into 32 banks for both. Factors are rounded to TF32, sums stay float32.
#include "bench/ladders/convolution/convolution.h"
#include "bench/ladders/step.cuh"
#include "gpu/mma.h"

namespace glia::GPU_NS {

namespace mma_conv {
constexpr int side = 64, depth = 32, threads = 128, stages = 3, warp_side = 32, lines = side / (threads / 8);
struct Tiles {
  float x[stages][side][depth + 4];
  float w[stages][side][depth + 4];
};

__device__ inline unsigned taps_inside(int pixel, int pixels, int size) {
  const int row = pixel / size % size, column = pixel % size;
  unsigned bits = 0;
  for (int tap = 0; tap < 9; ++tap) {
    const int i = row + tap / 3 - 1, j = column + tap % 3 - 1;
    if (pixel < pixels && i >= 0 && i < size && j >= 0 && j < size) bits |= 1u << tap;
  }
  return bits;
}
}  // namespace mma_conv

__global__ void __launch_bounds__(mma_conv::threads)
    conv_mma_step_kernel(int pixels, int size, int c, int k, const float* x, const float* w, float* y) {
  using namespace mma_conv;
  auto& tiles = gpu::dynamic_shared<Tiles>();
  const int t = static_cast<int>(threadIdx.x), lane = t % 32, warp = t / 32, group = lane / 4, in_group = lane % 4;
  const int pixel0 = static_cast<int>(blockIdx.x) * side, filter0 = static_cast<int>(blockIdx.y) * side;
  const int warp_row = warp / 2 * warp_side, warp_column = warp % 2 * warp_side;
  const int line0 = t / 8, piece = t % 8 * 4;
  unsigned inside[lines];
  GPU_UNROLL
  for (int i = 0; i < lines; ++i) inside[i] = mma_conv::taps_inside(pixel0 + line0 + i * 16, pixels, size);
  const auto copy = [&](int stage, int k0) {
    if (k0 < 9 * c) {
      const int tap = k0 / c, offset = ((tap / 3 - 1) * size + tap % 3 - 1) * c + k0 % c + piece;
      GPU_UNROLL
      for (int i = 0; i < lines; ++i) {
        const int line = line0 + i * 16;
        const bool valid = inside[i] >> tap & 1;
        gpu::cp_async16(&tiles.x[stage][line][piece], valid ? x + (pixel0 + line) * c + offset : x, valid);
        gpu::cp_async16(&tiles.w[stage][line][piece], w + (filter0 + line) * 9 * c + k0 + piece);
      }
    }
    gpu::cp_async_commit();
  };
  float sum[2][4][4] = {};
  for (int stage = 0; stage < stages - 1; ++stage) copy(stage, stage * depth);
  for (int k0 = 0, stage = 0; k0 < 9 * c; k0 += depth, stage = (stage + 1) % stages) {
    gpu::cp_async_wait<stages - 2>();
    __syncthreads();
    copy((stage + stages - 1) % stages, k0 + (stages - 1) * depth);
    GPU_UNROLL
    for (int i = 0; i < depth; i += 8) {
      unsigned left[2][4], right[4][2];
      GPU_UNROLL
      for (int r = 0; r < 2; ++r) {
        const float* from = &tiles.x[stage][warp_row + r * 16 + group][i + in_group];
        left[r][0] = gpu::to_tf32(from[0]);
        left[r][1] = gpu::to_tf32(from[8 * (depth + 4)]);
        left[r][2] = gpu::to_tf32(from[4]);
        left[r][3] = gpu::to_tf32(from[8 * (depth + 4) + 4]);
      }
      GPU_UNROLL
      for (int s = 0; s < 4; ++s) {
        const float* from = &tiles.w[stage][warp_column + s * 8 + group][i + in_group];
        right[s][0] = gpu::to_tf32(from[0]);
        right[s][1] = gpu::to_tf32(from[4]);
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
        const int pixel = pixel0 + warp_row + r * 16 + group + half * 8, filter = filter0 + warp_column + s * 8 + in_group * 2;
        if (pixel < pixels)
          *reinterpret_cast<float2*>(&y[pixel * k + filter]) = make_float2(sum[r][s][half * 2], sum[r][s][half * 2 + 1]);
      }
}

void convolution_4_tensor_cores(const Problem& p) {
  const int side = dim(p, 1), pixels = dim(p, 0) * side * side, k = dim(p, 3);
  launch({dim3(blocks(pixels, mma_conv::side), blocks(k, mma_conv::side)), mma_conv::threads, sizeof(mma_conv::Tiles)}, conv_mma_step_kernel,
         pixels, side, dim(p, 2), k, input(p, 0), input(p, 1), output(p));
}

}  // namespace glia::GPU_NS
