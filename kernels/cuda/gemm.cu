// c = a b, exact float32, on the ordinary cores. A block computes a tile of c, a thread TM x TN of it in registers; slices of a and b,
// BK long, come into shared memory k-major by asynchronous copies, several slices ahead, so one barrier per slice suffices. Copies
// are 16 bytes along a contiguous row or column where addresses allow and 4 bytes otherwise: the 4-byte ones also transpose operands
// that are contiguous along k, cover every tail (what lies outside arrives as zeros) and any alignment.
//
//   large tile  128x128, 8x8 a thread: bound by the FMA pipes        medium  64x64, 8x4        thin  16x64, 2x4, for few rows
//
// A product with few tiles and a long inner index is cut along it: blocks leave partial products, which a second launch adds in their
// order. Summing over a batch (gradients of broadcast operands) only lengthens the inner index.
#include "kernels/cuda/gemm.cuh"

#include "gpu/mma.h"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/reduce_axes.cuh"

namespace glia::GPU_NS {
namespace {

// What the kernel reads of a problem, and how it is cut.
struct GemmTask {
  Gemm g;
  bool a_quads = false, b_quads = false, c_quads = false;  // 16-byte accesses
  int64_t slices = 0, slices_per_split = 0, products = 0;
  int tiles_m = 0, tiles_n = 0, splits = 1;
  float* partial = nullptr;  // (splits, products, m, n), or null
};

template <int BM_, int BN_, int BK_, int TM_, int TN_, int Stages>
struct Tile {
  static constexpr int BM = BM_, BN = BN_, BK = BK_, TM = TM_, TN = TN_, stages = Stages, pad = 4;
  static constexpr int columns = BN / TN, threads = BM / TM * columns;
  static constexpr int VM = TM < 4 ? TM : 4, VN = TN < 4 ? TN : 4;  // neighbours that one load of shared memory brings
  struct Shared {
    float a[stages][BK][BM + pad];
    float b[stages][BK][BN + pad];
  };
};

// One thread's part in copying slices of an operand: elements (row + j row_step, k + j k_step) of a slice, j counting to `count`.
template <int Rows, int BK, int Threads, int Pitch>
struct SliceCopy {
  static constexpr int singles = Rows * BK / Threads, quads = singles / 4;
  static_assert(quads * 4 * Threads == Rows * BK);
  int row, k, row_step = 0, k_step = 0;
  bool by_quads;
  int64_t row_stride, k_stride;
  int rows;  // of the operand, from this block's first on

  __device__ SliceCopy(const GemmOperand& o, int rows_left, bool as_quads)
      : by_quads(as_quads), row_stride(o.row), k_stride(o.inner), rows(rows_left) {
    const int tid = int(threadIdx.x);
    if (as_quads) {
      row = tid % (Rows / 4) * 4, k = tid / (Rows / 4), k_step = Threads / (Rows / 4);
    } else if (o.inner == 1) {
      k = tid % BK, row = tid / BK, row_step = Threads / BK;
    } else {
      row = tid % Rows, k = tid / Rows, k_step = Threads / Rows;
    }
  }
  // `from` is element (0, 0) of the slice, of which k_left columns exist.
  __device__ void operator()(float (&to)[BK][Pitch], const float* from, int k_left) const {
    from += row * row_stride + k * k_stride;
    const int64_t step = row_step * row_stride + k_step * k_stride;
    if (by_quads) {
      GPU_UNROLL
      for (int j = 0; j < quads; ++j)
        gpu::cp_async16(&to[k + j * k_step][row], from + j * step, row < rows && k + j * k_step < k_left);
    } else {
      GPU_UNROLL
      for (int j = 0; j < singles; ++j)
        gpu::cp_async4(&to[k + j * k_step][row + j * row_step], from + j * step,
                       row + j * row_step < rows && k + j * k_step < k_left);
    }
  }
};

__device__ void batch_offsets(const GemmBatch& batch, int64_t i, int64_t& a, int64_t& b) {
  GPU_UNROLL
  for (int axis = GemmBatch::max_axes - 1; axis >= 0; --axis) {
    if (axis >= batch.count) continue;
    const int64_t rest = i / batch.size[axis], at = i - rest * batch.size[axis];
    a += at * batch.a[axis], b += at * batch.b[axis];
    i = rest;
  }
}

// Walks the slices [first, end) of a block: each is BK of the inner index of one of the summed products.
struct SliceWalk {
  const GemmTask& t;
  int64_t left, q, a_base, b_base, a = 0, b = 0;
  int k0;

  __device__ SliceWalk(const GemmTask& task, int64_t first, int64_t end, int64_t a_start, int64_t b_start, int bk)
      : t(task), left(end - first), a_base(a_start), b_base(b_start) {
    const int64_t per_product = (t.g.k + bk - 1) / bk;
    q = per_product ? first / per_product : 0;
    k0 = int(first - q * per_product) * bk;
    if (left > 0) find();
  }
  __device__ void find() {
    a = a_base, b = b_base;
    batch_offsets(t.g.summed, q, a, b);
  }
  __device__ void advance(int bk) {
    k0 += bk, --left;
    if (k0 < t.g.k) return;
    k0 = 0, ++q;
    find();
  }
};

template <int V>
__device__ void load_neighbours(const float* from, float* to) {
  if constexpr (V == 4) {
    const float4 v = *reinterpret_cast<const float4*>(from);
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
  } else {
    const float2 v = *reinterpret_cast<const float2*>(from);
    to[0] = v.x, to[1] = v.y;
  }
}

// Which tile of which product and which part of the inner index a block has. Tiles go down eight rows of tiles before they go right,
// so that blocks running together share operands in the second-level cache.
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
  GPU_UNROLL
  for (int j = 0; j < V; ++j)
    if (column + j < g.n) to[j * g.c_column] = v[j];
}

template <class T>
__global__ void __launch_bounds__(T::threads, T::BM == 128 ? 2 : 4) gemm_kernel(GemmTask t) {
  constexpr int BM = T::BM, BN = T::BN, BK = T::BK, TM = T::TM, TN = T::TN, stages = T::stages;
  auto& shared = gpu::dynamic_shared<typename T::Shared>();
  const GemmPlace p(t, BM, BN);
  int64_t a_base = p.m0 * t.g.a.row, b_base = p.n0 * t.g.b.row;
  batch_offsets(t.g.batch, p.product, a_base, b_base);
  const int64_t first = p.split * t.slices_per_split;
  SliceWalk walk(t, first, first + t.slices_per_split < t.slices ? first + t.slices_per_split : t.slices, a_base, b_base, BK);
  const int slices = int(walk.left);
  const SliceCopy<BM, BK, T::threads, BM + T::pad> copy_a(t.g.a, int(t.g.m) - p.m0, t.a_quads);
  const SliceCopy<BN, BK, T::threads, BN + T::pad> copy_b(t.g.b, int(t.g.n) - p.n0, t.b_quads);
  const auto fetch = [&](int stage) {  // the next slice, if there is one; a group in any case, so that groups count slices
    if (walk.left > 0) {
      copy_a(shared.a[stage], t.g.a.data + walk.a + walk.k0 * t.g.a.inner, int(t.g.k) - walk.k0);
      copy_b(shared.b[stage], t.g.b.data + walk.b + walk.k0 * t.g.b.inner, int(t.g.k) - walk.k0);
      walk.advance(BK);
    }
    gpu::cp_async_commit();
  };
  GPU_UNROLL
  for (int s = 0; s < stages - 1; ++s) fetch(s);

  const int tx = int(threadIdx.x) % T::columns, ty = int(threadIdx.x) / T::columns;
  // Registers i = 0 .. TM-1 are rows row(i): groups of neighbours, spread over the tile so that a warp's loads hit all banks.
  const auto row = [&](int i) { return i / T::VM * (BM * T::VM / TM) + ty * T::VM + i % T::VM; };
  const auto column = [&](int j) { return j / T::VN * (BN * T::VN / TN) + tx * T::VN + j % T::VN; };
  float sums[TM][TN] = {};
  for (int slice = 0; slice < slices; ++slice) {
    gpu::cp_async_wait<stages - 2>();
    __syncthreads();  // this slice has come for all, and all are done with the one that is overwritten next
    fetch((slice + stages - 1) % stages);
    const auto& sa = shared.a[slice % stages];
    const auto& sb = shared.b[slice % stages];
    GPU_UNROLL
    for (int k = 0; k < BK; ++k) {
      float a[TM], b[TN];
      GPU_UNROLL
      for (int i = 0; i < TM; i += T::VM) load_neighbours<T::VM>(&sa[k][row(i)], a + i);
      GPU_UNROLL
      for (int j = 0; j < TN; j += T::VN) load_neighbours<T::VN>(&sb[k][column(j)], b + j);
      GPU_UNROLL
      for (int i = 0; i < TM; ++i) {
        GPU_UNROLL
        for (int j = 0; j < TN; ++j) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
      }
    }
  }
  GPU_UNROLL
  for (int i = 0; i < TM; ++i) {
    GPU_UNROLL
    for (int j = 0; j < TN; j += T::VN) store_columns<T::VN>(t, p, p.m0 + row(i), p.n0 + column(j), sums[i] + j);
  }
}

using Large = Tile<128, 128, 8, 8, 8, 4>;
using Medium = Tile<64, 64, 16, 8, 4, 4>;
using Thin = Tile<16, 64, 32, 2, 4, 3>;

// Adds the parts of a product.
struct AddParts {
  Gemm g;
  __device__ void operator()(int64_t o, const Total<float>& total) const {
    const int64_t product = o / (g.m * g.n), at = o - product * g.m * g.n, i = at / g.n, j = at - i * g.n;
    g.c[product * g.m * g.n + i * g.c_row + j * g.c_column] =
        total.sum + (g.bias ? g.bias[i * g.bias_row + j * g.bias_column] : 0.0f);
  }
};

template <class T>
void run(const Gemm& g, Device device) {
  constexpr int64_t fill = 132 * 2, slices_at_least = 128 / T::BK;  // blocks that fill a device; the shortest part worth a block
  GemmTask t;
  t.g = g;
  const auto quads = [](const GemmOperand& o, int64_t rows, const GemmBatch& z, const GemmBatch& q, auto step) {
    bool all = o.row == 1 && o.inner % 4 == 0 && rows % 4 == 0 && aligned16(o.data);
    for (int i = 0; i < GemmBatch::max_axes; ++i) all = all && (z.*step)[i] % 4 == 0 && (q.*step)[i] % 4 == 0;
    return all;
  };
  t.a_quads = quads(g.a, g.m, g.batch, g.summed, &GemmBatch::a);
  t.b_quads = quads(g.b, g.n, g.batch, g.summed, &GemmBatch::b);
  t.c_quads = g.c_column == 1 && g.n % 4 == 0 && aligned16(g.c);
  t.tiles_m = int(divide_up(g.m, T::BM)), t.tiles_n = int(divide_up(g.n, T::BN));
  t.products = g.batch.total();
  t.slices = divide_up(g.k, T::BK) * g.summed.total();
  const int64_t tiles = int64_t(t.tiles_m) * t.tiles_n * t.products;
  const int64_t wanted = std::max<int64_t>(1, std::min(fill / tiles, t.slices / slices_at_least));
  t.slices_per_split = std::max<int64_t>(1, divide_up(t.slices, wanted));
  t.splits = int(std::max<int64_t>(1, divide_up(t.slices, t.slices_per_split)));
  GLIA_CHECK(tiles * t.splits < int64_t(1) << 31, "matmul: {} products of ({}, {}) are too many for one launch", t.products, g.m,
             g.n);
  const int64_t outputs = t.products * g.m * g.n;
  const Tensor parts = t.splits > 1 ? Tensor({t.splits, outputs}, DType::float32, device) : Tensor();
  t.partial = parts ? parts.device_data<float>() : nullptr;
  launch({unsigned(tiles * t.splits), T::threads, sizeof(typename T::Shared)}, gemm_kernel<T>, t);
  if (t.splits > 1)
    reduce_lines(PartialSource<Total<float>>{reinterpret_cast<const Total<float>*>(t.partial)}, over_rows(t.splits, outputs),
                 AddParts{g});
}

}  // namespace

void gemm(const Gemm& given, Device device) {
  Gemm g = given;
  constexpr int64_t most = int64_t(1) << 31;
  GLIA_CHECK(g.m < most && g.n < most && g.k < most, "matmul: sizes {} x {} x {}, want less than 2^31 each", g.m, g.n, g.k);
  if (g.m == 0 || g.n == 0 || g.batch.total() == 0) return;
  if (g.n <= 16 && g.n < g.m) {  // few columns: the transposed product has few rows
    std::swap(g.m, g.n), std::swap(g.a, g.b), std::swap(g.c_row, g.c_column), std::swap(g.bias_row, g.bias_column);
    for (GemmBatch* axes : {&g.batch, &g.summed}) std::swap(axes->a, axes->b);
  }
  if (g.m <= 16) return run<Thin>(g, device);
  const int64_t large_tiles = divide_up(g.m, Large::BM) * divide_up(g.n, Large::BN) * g.batch.total();
  return large_tiles >= 64 && g.m > 64 && g.n > 64 ? run<Large>(g, device) : run<Medium>(g, device);
}

}  // namespace glia::GPU_NS
