// Step 1: the definition. One thread an element of the result, neighbours in k.
//
// The 32 threads of a warp want the same pixel (a broadcast) and 32 filters that lie 9 c numbers apart. Every pixel is read 9 k times.
#include "bench/ladders/convolution/convolution.h"
#include "bench/ladders/step.cuh"

namespace glia::GPU_NS {

__global__ void conv_direct_step_kernel(int side, int c, int k, const float* x, const float* w, float* y) {
  const int filter = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x), pixel = static_cast<int>(blockIdx.x);
  if (filter >= k) return;
  const int column = pixel % side, row = pixel / side % side, image = pixel / side / side;
  float sum = 0;
  for (int r = 0; r < 3; ++r) {
    for (int s = 0; s < 3; ++s) {
      const int i = row + r - 1, j = column + s - 1;
      if (i < 0 || i >= side || j < 0 || j >= side) continue;
      const float* from = x + ((image * side + i) * side + j) * c;
      const float* taps = w + ((filter * 3 + r) * 3 + s) * c;
      for (int channel = 0; channel < c; ++channel) sum += from[channel] * taps[channel];
    }
  }
  y[pixel * k + filter] = sum;
}

void convolution_1_direct(const Problem& p) {
  const int side = dim(p, 1), k = dim(p, 3);
  launch({dim3(static_cast<unsigned>(dim(p, 0) * side * side), blocks(k, 64)), 64}, conv_direct_step_kernel, side, dim(p, 2), k, input(p, 0),
         input(p, 1), output(p));
}

}  // namespace glia::GPU_NS
