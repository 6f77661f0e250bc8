// Step 2: a product of matrices whose left one is never stored.
//
// Rows are pixels, columns are filters, the inner index runs over (r, s, c): y = A w^T, where A's row of a pixel is its 3 x 3 x c
// neighbourhood. Writing A down (im2col) would be nine times the image; here a block fetches the tile of A that it needs from the image
// itself, zeros where the neighbourhood leaves it. The rest is step 4 of the ladder of gemm. c is a multiple of 16, so the 16 inner
// indices of a tile share their (r, s).
#include "bench/ladders/convolution/convolution.h"
#include "bench/ladders/step.cuh"

namespace glia::GPU_NS {

namespace implicit_conv {
constexpr int side = 64, depth = 16, threads = 256, per_thread = 4;
}

__global__ void __launch_bounds__(implicit_conv::threads)
    conv_implicit_step_kernel(int pixels, int size, int c, int k, const float* x, const float* w, float* y) {
  using namespace implicit_conv;
  GPU_SHARED(float, tile_x, [depth][side]);
  GPU_SHARED(float, tile_w, [depth][side]);
  const int t = static_cast<int>(threadIdx.x), column = t % 16 * per_thread, row = t / 16 * per_thread;
  const int pixel0 = static_cast<int>(blockIdx.x) * side, filter0 = static_cast<int>(blockIdx.y) * side;
  float sum[per_thread][per_thread] = {};
  for (int k0 = 0; k0 < 9 * c; k0 += depth) {
    const int r = k0 / c / 3, s = k0 / c % 3, channel0 = k0 % c;
    for (int e = t; e < side * depth; e += threads) {
      const int pixel = pixel0 + e / depth, i = pixel / size % size + r - 1, j = pixel % size + s - 1;
      const bool inside = pixel < pixels && i >= 0 && i < size && j >= 0 && j < size;
      tile_x[e % depth][e / depth] =
          inside ? x[((pixel / size / size * size + i) * size + j) * c + channel0 + e % depth] : 0.0f;
      tile_w[e % depth][e / depth] = w[(filter0 + e / depth) * 9 * c + k0 + e % depth];
    }
    __syncthreads();
    for (int i = 0; i < depth; ++i) {
      GPU_UNROLL
      for (int a = 0; a < per_thread; ++a)
        GPU_UNROLL
        for (int b = 0; b < per_thread; ++b) sum[a][b] += tile_x[i][row + a] * tile_w[i][column + b];
    }
    __syncthreads();
  }
  for (int a = 0; a < per_thread; ++a)
    if (pixel0 + row + a < pixels)
      for (int b = 0; b < per_thread; ++b) y[(pixel0 + row + a) * k + filter0 + column + b] = sum[a][b];
}

void convolution_2_implicit_gemm(const Problem& p) {
  const int side = dim(p, 1), pixels = dim(p, 0) * side * side, k = dim(p, 3);
  launch({dim3(blocks(pixels, implicit_conv::side), blocks(k, implicit_conv::side)), implicit_conv::threads}, conv_implicit_step_kernel,
         pixels, side, dim(p, 2), k, input(p, 0), input(p, 1), output(p));
}

}  // namespace glia::GPU_NS
