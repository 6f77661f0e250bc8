#pragma once
// Tiles of the convolutions' matrix products: how a block multiplies rows of A by columns of B, 32 inner places a step, with
// asynchronous copies into a ring of stages. The same for plain float32 arithmetic, TF32 and BF16: all keep float32 in shared
// memory and differ in WarpTile alone.
//
// Shared memory is read 16 bytes at a time in both layouts, without padding: chunks of 4 floats are swizzled so that the 8 lanes
// that read together find 8 different groups of 4 banks. As a sum's order is free, the 4 inner places that a lane's 16 bytes hold
// need not be the ones that the instruction calls its own: any bijection does that is the same for A and B. Likewise rows and
// columns.
#include <array>
#include <utility>

#include "gpu/mma.h"
#include "kernels/cuda/conv_parts.cuh"

namespace glia::GPU_NS {

enum class Arithmetic { fma, tf32, bf16 };

// What is contiguous in shared memory (and where it comes from): the inner dimension, or the rows of A and columns of B.
enum class Layout { inner_fastest, inner_slowest };

constexpr int inner_step = 32;

// A block computes rows x columns of the result by warps of warp_rows x warp_columns; `resident` blocks fit on a multiprocessor.
template <int Rows, int Columns, int WarpRows, int WarpColumns, int Stages, int Resident>
struct Tile {
  static constexpr int rows = Rows, columns = Columns, warp_rows = WarpRows, warp_columns = WarpColumns;
  static constexpr int stages = Stages, resident = Resident;
  static constexpr int warps_down = Rows / WarpRows, threads = 32 * warps_down * (Columns / WarpColumns);
  struct Shared {
    float4 a[Stages][Rows * inner_step / 4];
    float4 b[Stages][Columns * inner_step / 4];
  };
};

// Place of 4 floats in a stage of `size` rows (or columns): of row i, chunk c of 8 along the inner dimension ...
__device__ __forceinline__ int inner_fastest_at(int i, int c) { return i * 8 + (c ^ ((i & 1) << 2 | (i >> 1 & 3))); }
// ... or of inner place k, chunk c along the rows.
template <int size>
__device__ __forceinline__ int inner_slowest_at(int k, int c) {
  return k * (size / 4) + (c ^ (k & 3) << 1);
}

__device__ __forceinline__ unsigned bf16_pair(float low, float high) {
  const gpu::bf162 pair = __floats2bfloat162_rn(low, high);
  unsigned bits;
  memcpy(&bits, &pair, sizeof bits);
  return bits;
}

// The part of a tile that a warp computes, on the tensor cores: fragments of 16 x 8 results, 16 inner places at a time. B's
// fragments stay in registers while A's come in pairs.
template <Arithmetic arithmetic, Layout layout, class T>
struct WarpTile {
  static constexpr int pairs = T::warp_rows / 32, N = T::warp_columns / 8;
  static constexpr bool fastest = layout == Layout::inner_fastest;
  static constexpr int halves = arithmetic == Arithmetic::tf32 ? 2 : 1;  // instructions for 16 inner places
  float sums[pairs][2][N][4] = {};

  int row0, column0, g, t;
  __device__ explicit WarpTile(int thread)
      : row0(thread / 32 % T::warps_down * T::warp_rows),
        column0(thread / 32 / T::warps_down * T::warp_columns),
        g(thread % 32 / 4),
        t(thread % 4) {}

  // Row h * 8 + g of fragment i of a pair; or, where 4 neighbours come at once, rows 4 g to 4 g + 3 of the pair's 32.
  __device__ int row(int pair, int i, int h) const {
    return row0 + pair * 32 + (fastest ? i * 16 + h * 8 + g : 4 * g + i * 2 + h);
  }

  __device__ void multiply(const float4* a, const float4* b) {
    // 16 places are up to 128 instructions; both halves at once would spill.
    GLIA_NO_UNROLL
    for (int k = 0; k < inner_step; k += 16) {
      unsigned ub[halves][N][2];
      load_b(b, k, ub);
      GPU_UNROLL
      for (int pair = 0; pair < pairs; ++pair) {
        unsigned ua[halves][2][4];
        load_a(a, k, pair, ua);
        GPU_UNROLL
        for (int half = 0; half < halves; ++half) {
          if constexpr (arithmetic == Arithmetic::bf16) {
            gpu::mma_tile_bf16(sums[pair], ua[half], ub[half]);
          } else {
            gpu::mma_tile_tf32(sums[pair], ua[half], ub[half]);
          }
        }
      }
    }
  }

  // f(row, column, values of neighbouring columns).
  template <class F>
  __device__ void for_each(const F& f) const {
    GPU_UNROLL
    for (int i = 0; i < pairs * 4; ++i) {
      const auto& of_row = sums[i / 4][i / 2 % 2];
      const int h = i % 2 * 2, m = row(i / 4, i / 2 % 2, i % 2);
      GPU_UNROLL
      for (int j = 0; j < N; j += fastest ? 1 : 4) {
        if constexpr (fastest) {
          const float values[2] = {of_row[j][h], of_row[j][h + 1]};
          f(m, column0 + j * 8 + t * 2, values);
        } else {
          GPU_UNROLL
          for (int q = 0; q < 2; ++q) {
            const float values[4] = {of_row[j][h + q], of_row[j + 1][h + q], of_row[j + 2][h + q], of_row[j + 3][h + q]};
            f(m, column0 + j * 8 + (t * 2 + q) * 4, values);
          }
        }
      }
    }
  }

 private:
  // The 4 inner places that a lane has read of a row or column, as the registers of the instructions.
  __device__ static void to_registers(const float (&v)[4], unsigned (&r)[4]) {
    if constexpr (arithmetic == Arithmetic::bf16) {
      r[0] = bf16_pair(v[0], v[1]), r[1] = bf16_pair(v[2], v[3]);
    } else {
      for (int i = 0; i < 4; ++i) r[i] = gpu::to_tf32(v[i]);
    }
  }
  __device__ void load_a(const float4* a, int k, int pair, unsigned (&r)[halves][2][4]) const {
    float v[2][2][4];
    GPU_UNROLL
    for (int q = 0; q < 4; ++q) {
      if constexpr (fastest) {
        copy4(a[inner_fastest_at(row(pair, q / 2, q % 2), k / 4 + t)], v[q / 2][q % 2]);
      } else {
        const float4 rows = a[inner_slowest_at<T::rows>(k + t + 4 * q, row0 / 4 + pair * 8 + g)];
        v[0][0][q] = rows.x, v[0][1][q] = rows.y, v[1][0][q] = rows.z, v[1][1][q] = rows.w;
      }
    }
    GPU_UNROLL
    for (int i = 0; i < 2; ++i) {
      GPU_UNROLL
      for (int h = 0; h < 2; ++h) {
        unsigned u[4];
        to_registers(v[i][h], u);
        GPU_UNROLL
        for (int half = 0; half < halves; ++half) r[half][i][h] = u[2 * half], r[half][i][2 + h] = u[2 * half + 1];
      }
    }
  }
  __device__ void load_b(const float4* b, int k, unsigned (&r)[halves][N][2]) const {
    GPU_UNROLL
    for (int j = 0; j < N; j += fastest ? 1 : 4) {
      float v[4][4];
      if constexpr (fastest) {
        copy4(b[inner_fastest_at(column0 + j * 8 + g, k / 4 + t)], v[0]);
      } else {
        GPU_UNROLL
        for (int q = 0; q < 4; ++q) {
          const float4 columns = b[inner_slowest_at<T::columns>(k + t + 4 * q, column0 / 4 + j * 2 + g)];
          v[0][q] = columns.x, v[1][q] = columns.y, v[2][q] = columns.z, v[3][q] = columns.w;
        }
      }
      GPU_UNROLL
      for (int i = 0; i < (fastest ? 1 : 4); ++i) {
        unsigned u[4];
        to_registers(v[i], u);
        GPU_UNROLL
        for (int half = 0; half < halves; ++half) r[half][j + i][0] = u[2 * half], r[half][j + i][1] = u[2 * half + 1];
      }
    }
  }
  __device__ static void copy4(const float4& from, float (&to)[4]) {
    to[0] = from.x, to[1] = from.y, to[2] = from.z, to[3] = from.w;
  }
};

// The same by fused multiply-adds in float32: lanes 4 x 8, each with M x N results in registers.
template <Layout layout, class T>
struct WarpTile<Arithmetic::fma, layout, T> {
  static constexpr int M = T::warp_rows / 4, N = T::warp_columns / 8;
  float sums[M][N] = {};

  int row0, column0, g, t;
  __device__ explicit WarpTile(int thread)
      : row0(thread / 32 % T::warps_down * T::warp_rows),
        column0(thread / 32 / T::warps_down * T::warp_columns),
        g(thread % 32 / 8),
        t(thread % 8) {}

  __device__ void multiply(const float4* a, const float4* b) {
    if constexpr (layout == Layout::inner_fastest) {
      // More at once would only cost registers.
      GLIA_NO_UNROLL
      for (int k = 0; k < inner_step; k += 4) {
        float4 fa[M];
        GPU_UNROLL
        for (int i = 0; i < M; ++i) fa[i] = a[inner_fastest_at(row0 + i * 4 + g, k / 4)];
        GPU_UNROLL
        for (int j = 0; j < N; ++j) {
          const float4 fb = b[inner_fastest_at(column0 + j * 8 + t, k / 4)];
          GPU_UNROLL
          for (int i = 0; i < M; ++i)
            sums[i][j] = fmaf(fa[i].w, fb.w, fmaf(fa[i].z, fb.z, fmaf(fa[i].y, fb.y, fmaf(fa[i].x, fb.x, sums[i][j]))));
        }
      }
    } else {
      GPU_UNROLL
      for (int k = 0; k < inner_step; ++k) {
        float fa[M], fb[N];
        GPU_UNROLL
        for (int i = 0; i < M; i += 4) {
          const float4 v = a[inner_slowest_at<T::rows>(k, row0 / 4 + i + g)];
          fa[i] = v.x, fa[i + 1] = v.y, fa[i + 2] = v.z, fa[i + 3] = v.w;
        }
        GPU_UNROLL
        for (int j = 0; j < N; j += 4) {
          const float4 v = b[inner_slowest_at<T::columns>(k, column0 / 4 + j * 2 + t)];
          fb[j] = v.x, fb[j + 1] = v.y, fb[j + 2] = v.z, fb[j + 3] = v.w;
        }
        GPU_UNROLL
        for (int i = 0; i < M; ++i) {
          GPU_UNROLL
          for (int j = 0; j < N; ++j) sums[i][j] = fmaf(fa[i], fb[j], sums[i][j]);
        }
      }
    }
  }

  template <class F>
  __device__ void for_each(const F& f) const {
    GPU_UNROLL
    for (int i = 0; i < M; ++i) {
      if constexpr (layout == Layout::inner_fastest) {
        GPU_UNROLL
        for (int j = 0; j < N; ++j) {
          const float values[1] = {sums[i][j]};
          f(row0 + i * 4 + g, column0 + j * 8 + t, values);
        }
      } else {
        GPU_UNROLL
        for (int j = 0; j < N; j += 4) {
          const float values[4] = {sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]};
          f(row0 + i / 4 * 16 + g * 4 + i % 4, column0 + j * 8 + t * 4, values);
        }
      }
    }
  }
};

// Runs `steps` steps: copy(a, b) starts this thread's copies of the next step into a stage; while the tensor cores (or the FMA
// units) work on one stage, the others fill.
template <class T, class Warp, class Copy>
__device__ __forceinline__ void run_stages(typename T::Shared& shared, Warp& warp, int steps, Copy&& copy) {
  GPU_UNROLL
  for (int i = 0; i < T::stages - 1; ++i) {
    if (i < steps) copy(shared.a[i], shared.b[i]);
    gpu::cp_async_commit();
  }
  int reading = 0, writing = T::stages - 1;
  for (int i = 0; i < steps; ++i) {
    gpu::cp_async_wait<T::stages - 2>();
    __syncthreads();  // everybody's copies of this stage are there, and nobody reads the stage that is written next
    if (i + T::stages - 1 < steps) copy(shared.a[writing], shared.b[writing]);
    gpu::cp_async_commit();
    warp.multiply(shared.a[reading], shared.b[reading]);
    reading = reading + 1 == T::stages ? 0 : reading + 1;
    writing = writing + 1 == T::stages ? 0 : writing + 1;
  }
}

}  // namespace glia::GPU_NS
