#pragma once
// Rows held in registers: what reduces along the rows of a matrix and then uses their elements again reads them once. A row has a
// team of 1 to 1024 threads (a power of two), a thread eight of its values: rows of up to 8192. Teams of up to 32 merge by
// shuffles alone, wider ones through shared memory (merge_team of reduce.cuh).
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/reduce.cuh"

namespace glia::GPU_NS {

constexpr int row_values = 8, max_row_team = 1024, max_row_width = row_values * max_row_team;

struct RowShape {
  int64_t rows = 0;
  int width = 0, team = 1;

  RowShape(int64_t row_count, int64_t row_width) : rows(row_count), width(int(row_width)) {
    while (team * row_values < width) team *= 2;
  }
  int threads() const { return std::max(team, 256); }
  int rows_per_block() const { return threads() / team; }
  unsigned blocks() const { return unsigned(divide_up(rows, rows_per_block())); }
};

// The running thread's part of a row: values j at column(j), in fours where rows are multiples of 16 bytes (Quads).
template <bool Quads>
struct RowPart {
  int lane, team, width;
  __device__ RowPart(const RowShape& s) : lane(int(threadIdx.x) % s.team), team(s.team), width(s.width) {}
  __device__ int column(int j) const { return Quads ? (lane + j / 4 * team) * 4 + j % 4 : lane + j * team; }

  // Values beyond the row's end become `beyond`.
  __device__ void load(const float* row, bool active, float beyond, float (&v)[row_values]) const {
    GPU_UNROLL
    for (int j = 0; j < row_values; j += Quads ? 4 : 1) {
      const bool inside = active && column(j) < width;
      if constexpr (Quads) {
        const float4 q = inside ? *reinterpret_cast<const float4*>(row + column(j)) : make_float4(beyond, beyond, beyond, beyond);
        v[j] = q.x, v[j + 1] = q.y, v[j + 2] = q.z, v[j + 3] = q.w;
      } else {
        v[j] = inside ? row[column(j)] : beyond;
      }
    }
  }
  __device__ void store(float* row, bool active, const float (&v)[row_values]) const {
    GPU_UNROLL
    for (int j = 0; j < row_values; j += Quads ? 4 : 1) {
      if (!active || column(j) >= width) continue;
      if constexpr (Quads) {
        *reinterpret_cast<float4*>(row + column(j)) = make_float4(v[j], v[j + 1], v[j + 2], v[j + 3]);
      } else {
        row[column(j)] = v[j];
      }
    }
  }
};

__device__ inline int64_t row_of_thread(const RowShape& s) {
  return int64_t(blockIdx.x) * (int(blockDim.x) / s.team) + int(threadIdx.x) / s.team;
}

// Whether rows of this width, in all these tensors, can be read in fours.
template <class... Pointers>
bool rows_in_quads(int64_t width, const Pointers*... p) {
  return width % 4 == 0 && (aligned16(p) && ...);
}

}  // namespace glia::GPU_NS
