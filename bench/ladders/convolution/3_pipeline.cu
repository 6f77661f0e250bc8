// Step 3: index arithmetic once, copies that run while the block computes.
//
// Step 2 divides and compares for every number it fetches. A thread always fetches the same pixels, so it can decode them once: their
// address, and nine bits that say which taps lie inside the image. Per tile there is then one shift and one addition. Copies are
// cp.async of 16 bytes, which also writes the zeros of the border; two stages, one barrier a tile, as in step 5 of gemm.
#include "bench/ladders/convolution/convolution.h"
#include "bench/ladders/step.cuh"
#include "gpu/mma.h"

namespace glia::GPU_NS {

namespace pipeline_conv {
constexpr int side = 64, depth = 16, threads = 256, per_thread = 4, stages = 2;
struct Tiles {
  float x[stages][side][depth + 4];
  float w[stages][side][depth + 4];
};
}  // namespace pipeline_conv

// Bit 3 r + s: tap (r, s) of the pixel lies inside the image.
__device__ inline unsigned taps_inside(int pixel, int pixels, int size) {
  const int row = pixel / size % size, column = pixel % size;
  unsigned bits = 0;
  for (int tap = 0; tap < 9; ++tap) {
    const int i = row + tap / 3 - 1, j = column + tap % 3 - 1;
    if (pixel < pixels && i >= 0 && i < size && j >= 0 && j < size) bits |= 1u << tap;
  }
  return bits;
}

__global__ void __launch_bounds__(pipeline_conv::threads)
    conv_pipeline_step_kernel(int pixels, int size, int c, int k, const float* x, const float* w, float* y) {
  using namespace pipeline_conv;
  auto& tiles = gpu::dynamic_shared<Tiles>();
  const int t = static_cast<int>(threadIdx.x), column = t % 16 * per_thread, row = t / 16 * per_thread;
  const int pixel0 = static_cast<int>(blockIdx.x) * side, filter0 = static_cast<int>(blockIdx.y) * side;
  const int line = t / 4, piece = t % 4 * 4;  // what this thread copies: 16 bytes of one pixel and of one filter
  const unsigned inside = taps_inside(pixel0 + line, pixels, size);
  const float* from_x = x + (pixel0 + line) * c + piece;
  const float* from_w = w + (filter0 + line) * 9 * c + piece;
  const auto copy = [&](int stage, int k0) {
    const int tap = k0 / c, offset = (tap / 3 - 1) * size + tap % 3 - 1;
    const bool valid = inside >> tap & 1;
    gpu::cp_async16(&tiles.x[stage][line][piece], valid ? from_x + offset * c + k0 % c : x, valid);
    gpu::cp_async16(&tiles.w[stage][line][piece], from_w + k0);
    gpu::cp_async_commit();
  };
  float sum[per_thread][per_thread] = {};
  copy(0, 0);
  for (int k0 = 0, stage = 0; k0 < 9 * c; k0 += depth, stage ^= 1) {
    gpu::cp_async_wait<0>();
    __syncthreads();
    if (k0 + depth < 9 * c) copy(stage ^ 1, k0 + depth);
    GPU_UNROLL
    for (int i = 0; i < depth; ++i) {
      GPU_UNROLL
      for (int a = 0; a < per_thread; ++a)
        GPU_UNROLL
        for (int b = 0; b < per_thread; ++b) sum[a][b] += tiles.x[stage][row + a][i] * tiles.w[stage][column + b][i];
    }
  }
  for (int a = 0; a < per_thread; ++a)
    if (pixel0 + row + a < pixels)
      *reinterpret_cast<float4*>(&y[(pixel0 + row + a) * k + filter0 + column]) =
          make_float4(sum[a][0], sum[a][1], sum[a][2], sum[a][3]);
}

void convolution_3_pipeline(const Problem& p) {
  const int side = dim(p, 1), pixels = dim(p, 0) * side * side, k = dim(p, 3);
  launch({dim3(blocks(pixels, pipeline_conv::side), blocks(k, pipeline_conv::side)), pipeline_conv::threads, sizeof(pipeline_conv::Tiles)},
         conv_pipeline_step_kernel, pixels, side, dim(p, 2), k, input(p, 0), input(p, 1), output(p));
}

}  // namespace glia::GPU_NS
