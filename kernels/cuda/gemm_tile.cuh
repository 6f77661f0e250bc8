#pragma once
// What the kernels of gemm.cu have in common: which tile of c a block computes, how slices of the operands come into shared
// memory, and how results leave. Slices are BK long and come by asynchronous copies several slices ahead, so one barrier per
// slice suffices. Copies are 16 bytes where the operand is contiguous in the slice's direction and addresses allow, 4 bytes
// otherwise: these also transpose, and cover every tail (what lies outside arrives as zeros) and any alignment.
#include "gpu/mma.h"
#include "kernels/cuda/gemm.cuh"

namespace glia::GPU_NS {

// What a kernel reads of a problem, and how it is cut.
struct GemmTask {
  Gemm g;
  bool a_quads = false, b_quads = false, c_quads = false;  // 16-byte accesses
  int64_t slices = 0, slices_per_split = 0, products = 0;
  int tiles_m = 0, tiles_n = 0, splits = 1;
  float* partial = nullptr;  // (splits, products, m, n), or null
};

// A slice of an operand in shared memory: Rows by BK, neighbours along k or along the rows, lines padded.
template <int Rows_, int BK_, bool AlongK, int Pad>
struct SliceLayout {
  static constexpr int Rows = Rows_, BK = BK_, line = (AlongK ? BK : Rows) + Pad, size = (AlongK ? Rows : BK) * line;
  static constexpr bool along_k = AlongK;
  static __device__ constexpr int at(int row, int k) { return AlongK ? row * line + k : k * line + row; }
};

// Starts this thread's copies, Width elements each, of a slice of which `rows` and `k_left` exist; `from` is its element (0, 0).
// Neighbouring threads go along k or along the rows.
template <class Layout, int Threads, int Width, bool AlongK>
__device__ void copy_elements(float* to, const GemmOperand& o, const float* from, int rows, int k_left) {
  constexpr int across = (AlongK ? Layout::BK : Layout::Rows) / Width, step = Threads / across;
  constexpr int count = Layout::Rows * Layout::BK / Width / Threads, row_step = AlongK ? step : 0, k_step = AlongK ? 0 : step;
  static_assert(step * across == Threads && count * Width * Threads == Layout::Rows * Layout::BK);
  const int line = int(threadIdx.x) / across, first = int(threadIdx.x) % across * Width;
  const int row = AlongK ? line : first, k = AlongK ? first : line;
  from += row * o.row + k * o.inner;
  GPU_UNROLL
  for (int j = 0; j < count; ++j, from += step * (AlongK ? o.row : o.inner)) {
    float* const at = to + Layout::at(row + j * row_step, k + j * k_step);
    const bool inside = row + j * row_step < rows && k + j * k_step < k_left;
    if constexpr (Width == 4) {
      gpu::cp_async16(at, from, inside);
    } else {
      gpu::cp_async4(at, from, inside);
    }
  }
}

// Transposes: also from operands that run along k into slices along the rows.
template <class Layout, int Threads, bool Transposes>
__device__ void copy_slice(float* to, const GemmOperand& o, bool quads, const float* from, int rows, int k_left) {
  if (quads) {
    copy_elements<Layout, Threads, 4, Layout::along_k>(to, o, from, rows, k_left);
  } else if (Layout::along_k || (Transposes && o.inner == 1)) {
    copy_elements<Layout, Threads, 1, true>(to, o, from, rows, k_left);
  } else {
    copy_elements<Layout, Threads, 1, false>(to, o, from, rows, k_left);
  }
}

__device__ void batch_offsets(const GemmBatch& batch, int64_t i, int64_t& a, int64_t& b) {
  GPU_UNROLL
  for (int axis = GemmBatch::max_axes - 1; axis >= 0; --axis) {
    if (axis >= batch.count) continue;
    const int64_t rest = i / batch.size[axis], at = i - rest * batch.size[axis];
    a += at * batch.a[axis], b += at * batch.b[axis];
    i = rest;
  }
}

// Which tile of which product and which part of the inner index a block has. Tiles go down eight rows of tiles before they go
// right, so that blocks running together share operands in the second-level cache.
struct GemmPlace {
  int m0, n0, split;
  int64_t product;
  __device__ GemmPlace(const GemmTask& t, int bm, int bn) {
    const int64_t tiles = int64_t(t.tiles_m) * t.tiles_n, at = int64_t(blockIdx.x);
    const int64_t outer = at / tiles;
    const int tile = int(at - outer * tiles), group = tile / (8 * t.tiles_n), rest = tile - group * 8 * t.tiles_n;
    const int height = t.tiles_m - group * 8 < 8 ? t.tiles_m - group * 8 : 8;
    m0 = (group * 8 + rest % height) * bm, n0 = rest / height * bn;
    split = int(outer % t.splits), product = outer / t.splits;
  }
};

// Walks over `left` slices of a block from `first` on: each is BK of the inner index of one of the summed products.
struct SliceWalk {
  const GemmTask& t;
  const GemmPlace& p;
  int left, q, k0;
  int64_t a = 0, b = 0;  // where product q's rows of the tile begin

  __device__ SliceWalk(const GemmTask& task, const GemmPlace& place, int bk) : t(task), p(place) {
    const int64_t first = p.split * t.slices_per_split, rest = t.slices - first, per_product = (t.g.k + bk - 1) / bk;
    left = int(rest < t.slices_per_split ? rest : t.slices_per_split);
    q = per_product ? int(first / per_product) : 0;
    k0 = int(first - q * per_product) * bk;
    if (left > 0) find();
  }
  __device__ void find() {
    a = p.m0 * t.g.a.row, b = p.n0 * t.g.b.row;
    batch_offsets(t.g.batch, p.product, a, b);
    batch_offsets(t.g.summed, q, a, b);
  }
  __device__ void advance(int bk) {
    k0 += bk, --left;
    if (k0 < t.g.k) return;
    k0 = 0, ++q;
    find();
  }
};

// Writes V neighbouring columns of a row.
template <int V>
__device__ void store_columns(const GemmTask& t, const GemmPlace& p, int row, int column, const float* sums) {
  const Gemm& g = t.g;
  if (row >= g.m) return;
  if (t.partial) {
    float* to = t.partial + ((p.split * t.products + p.product) * g.m + row) * g.n + column;
    for (int j = 0; j < V; ++j)
      if (column + j < g.n) to[j] = sums[j];
    return;
  }
  float* to = g.c + p.product * g.m * g.n + row * g.c_row + column * g.c_column;
  float v[V];
  GPU_UNROLL
  for (int j = 0; j < V; ++j)
    v[j] = sums[j] + (g.bias && column + j < g.n ? g.bias[row * g.bias_row + (column + j) * g.bias_column] : 0.0f);
  if (V == 4 && t.c_quads && column + 4 <= g.n) {
    *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
    return;
  }
  if (V == 2 && t.c_quads && column + 2 <= g.n) {
    *reinterpret_cast<float2*>(to) = make_float2(v[0], v[1]);
    return;
  }
  GPU_UNROLL
  for (int j = 0; j < V; ++j)
    if (column + j < g.n) to[j * g.c_column] = v[j];
}

// A block's slices of both operands.
template <class LayoutA, class LayoutB, int Stages>
struct alignas(16) GemmSlices {
  float a[Stages][LayoutA::size];
  float b[Stages][LayoutB::size];
};

// Brings the slices of a block, stages - 1 ahead, and calls multiply(slice of a, slice of b) for each in order.
template <class T, class Multiply>
__device__ void for_each_slice(const GemmTask& t, const GemmPlace& p, const Multiply& multiply) {
  constexpr int BK = T::BK, stages = T::stages;
  auto& shared = gpu::dynamic_shared<GemmSlices<typename T::LayoutA, typename T::LayoutB, stages>>();
  SliceWalk walk(t, p, BK);
  const int slices = walk.left;
  const auto fetch = [&](int stage) {  // the next slice, if there is one; a group in any case, so that groups count slices
    if (walk.left > 0) {
      const int k_left = int(t.g.k) - walk.k0;
      copy_slice<typename T::LayoutA, T::threads, T::transposes>(
          shared.a[stage], t.g.a, t.a_quads, t.g.a.data + walk.a + walk.k0 * t.g.a.inner, int(t.g.m) - p.m0, k_left);
      copy_slice<typename T::LayoutB, T::threads, T::transposes>(
          shared.b[stage], t.g.b, t.b_quads, t.g.b.data + walk.b + walk.k0 * t.g.b.inner, int(t.g.n) - p.n0, k_left);
      walk.advance(BK);
    }
    gpu::cp_async_commit();
  };
  GPU_UNROLL
  for (int s = 0; s < stages - 1; ++s) fetch(s);
  for (int slice = 0; slice < slices; ++slice) {
    gpu::cp_async_wait<stages - 2>();
    __syncthreads();  // this slice has come for all, and all are done with the one that is overwritten next
    fetch((slice + stages - 1) % stages);
    multiply(shared.a[slice % stages], shared.b[slice % stages]);
  }
}

}  // namespace glia::GPU_NS
