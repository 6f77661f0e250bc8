// Step 3: one warp a row, the row in registers: one read, one write, no barrier.
//
// A row of up to 1024 numbers is 32 in each lane's registers. Maximum and sum are five shuffles each, exponentials are computed once
// and kept. The array of registers is indexed by unrolled loops only: an index known at compile time, or it would live in memory.
#include "bench/ladders/softmax/softmax.h"
#include "bench/ladders/step.cuh"

namespace glia::GPU_NS {

constexpr int row_registers = 32;

__global__ void __launch_bounds__(128) softmax_warp_kernel(int rows, int columns, const float* x, float* y) {
  const int lane = static_cast<int>(threadIdx.x) % 32, row = static_cast<int>(blockIdx.x * 4 + threadIdx.x / 32);
  if (row >= rows) return;  // a whole warp: nobody waits for it
  x += row * columns, y += row * columns;
  float v[row_registers], largest = -INFINITY, sum = 0;
  GPU_UNROLL
  for (int j = 0; j < row_registers; ++j) {
    const int i = j * 32 + lane;
    v[j] = i < columns ? x[i] : -INFINITY;
    largest = fmaxf(largest, v[j]);
  }
  for (int distance = 16; distance > 0; distance /= 2) largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
  GPU_UNROLL
  for (int j = 0; j < row_registers; ++j) {
    v[j] = expf(v[j] - largest);
    sum += v[j];
  }
  for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  const float scale = 1 / sum;
  GPU_UNROLL
  for (int j = 0; j < row_registers; ++j)
    if (j * 32 + lane < columns) y[j * 32 + lane] = v[j] * scale;
}

void softmax_3_warp_a_row(const Problem& p) {
  const int rows = dim(p, 0), columns = dim(p, 1);
  GLIA_CHECK(columns <= 32 * row_registers, "softmax step 3: {} columns, at most {} fit its registers", columns, 32 * row_registers);
  launch({blocks(rows, 4), 128}, softmax_warp_kernel, rows, columns, input(p, 0), output(p));
}

}  // namespace glia::GPU_NS
