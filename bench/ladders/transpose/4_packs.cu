// Step 4: a tile of 64 x 64 in 16-byte accesses, four of them under way in every thread.
//
// A thread of step 3 has 4 bytes under way; a multiprocessor full of them has 8 KB, a third of what memory's latency asks for. Here 256
// threads move four packs of 16 bytes each before the barrier. Rows and columns are multiples of 4, or step 3 takes over.
#include "bench/ladders/step.cuh"
#include "bench/ladders/transpose/transpose.h"

namespace glia::GPU_NS {

constexpr int pack_tile = 64;

__global__ void __launch_bounds__(256) transpose_packs_kernel(int rows, int columns, const float* x, float* y) {
  GPU_SHARED(float, tile, [pack_tile][pack_tile + 1]);
  const int t = static_cast<int>(threadIdx.x), pack = t % 16 * 4, line = t / 16;
  const int row0 = static_cast<int>(blockIdx.y) * pack_tile, column0 = static_cast<int>(blockIdx.x) * pack_tile;
  float4 v[4] = {};
  GPU_UNROLL
  for (int j = 0; j < 4; ++j) {
    const int row = row0 + line + j * 16;
    if (row < rows && column0 + pack < columns) v[j] = *reinterpret_cast<const float4*>(&x[row * columns + column0 + pack]);
  }
  GPU_UNROLL
  for (int j = 0; j < 4; ++j) {
    float* to = &tile[line + j * 16][pack];
    to[0] = v[j].x, to[1] = v[j].y, to[2] = v[j].z, to[3] = v[j].w;
  }
  __syncthreads();
  GPU_UNROLL
  for (int j = 0; j < 4; ++j) {
    const int column = line + j * 16;
    if (column0 + column < columns && row0 + pack < rows)
      *reinterpret_cast<float4*>(&y[(column0 + column) * rows + row0 + pack]) =
          make_float4(tile[pack][column], tile[pack + 1][column], tile[pack + 2][column], tile[pack + 3][column]);
  }
}

void transpose_4_packs(const Problem& p) {
  const int rows = dim(p, 0), columns = dim(p, 1);
  if (rows % 4 != 0 || columns % 4 != 0) return transpose_3_padded(p);
  launch({dim3(blocks(columns, pack_tile), blocks(rows, pack_tile)), 256}, transpose_packs_kernel, rows, columns, input(p, 0), output(p));
}

}  // namespace glia::GPU_NS
