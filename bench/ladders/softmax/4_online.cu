// Step 4: rows of any length: maximum and sum in one pass ("online softmax", Milakov and Gimelshein 2018).
//
// A running maximum m and sum s = sum exp(x - m): a larger x makes s = s exp(m - x) + 1. Two such pairs merge the same way, in any
// grouping, so lanes gather their own and shuffles merge them. Two reads and one write of a row that no registers could hold; the
// second read comes from the cache as long as the row fits there.
#include "bench/ladders/softmax/softmax.h"
#include "bench/ladders/step.cuh"

namespace glia::GPU_NS {

struct RunningSum {
  float largest, sum;
  __device__ void merge(float other_largest, float other_sum) {
    const float joint = fmaxf(largest, other_largest);
    if (joint == -INFINITY) return;
    sum = sum * expf(largest - joint) + other_sum * expf(other_largest - joint);
    largest = joint;
  }
};

__global__ void __launch_bounds__(128) softmax_online_kernel(int rows, int columns, const float* x, float* y) {
  const int lane = static_cast<int>(threadIdx.x) % 32, row = static_cast<int>(blockIdx.x * 4 + threadIdx.x / 32);
  if (row >= rows) return;
  x += row * columns, y += row * columns;
  RunningSum running{-INFINITY, 0};
  for (int i = lane; i < columns; i += 32) running.merge(x[i], 1);
  for (int distance = 16; distance > 0; distance /= 2) {
    const float largest = __shfl_xor_sync(0xffffffffu, running.largest, distance);
    const float sum = __shfl_xor_sync(0xffffffffu, running.sum, distance);
    running.merge(largest, sum);
  }
  const float scale = 1 / running.sum;
  for (int i = lane; i < columns; i += 32) y[i] = expf(x[i] - running.largest) * scale;
}

void softmax_4_online(const Problem& p) {
  const int rows = dim(p, 0), columns = dim(p, 1);
  launch({blocks(rows, 4), 128}, softmax_online_kernel, rows, columns, input(p, 0), output(p));
}

}  // namespace glia::GPU_NS
