// c = a b. A block computes a tile of c; slices of a and b come into shared memory as gemm_tile.cuh says;
// a product of few columns is computed as the transpose of one of few rows.
//
//   exact float32   a thread computes TM x TN of the tile in registers, bound by the FMA pipes:
//                   large tile 128x128, 8x8 a thread        medium 64x64, 8x4        thin 16x64, 2x4, for few rows
//   tf32, bf16      on tensor cores, sums in float32, bound by reading fragments from shared memory: 128x128 and 64x64
//
// A product with few tiles and a long inner index is cut along it: blocks leave partial products, which a second launch adds in
// their order. Summing over a batch (gradients of broadcast operands) only lengthens the inner index.
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/gemm_tile.cuh"
#include "kernels/cuda/reduce_axes.cuh"
#include "kernels/tuning.h"

namespace glia::GPU_NS {
namespace {

template <int BM_, int BN_, int BK_, int TM_, int TN_, int Stages>
struct Tile {
  static constexpr int BM = BM_, BN = BN_, BK = BK_, TM = TM_, TN = TN_, stages = Stages;
  static constexpr bool transposes = true;
  static constexpr int columns = BN / TN, threads = BM / TM * columns;
  static constexpr int VM = TM < 4 ? TM : 4, VN = TN < 4 ? TN : 4;  // neighbours that one load of shared memory brings
  using LayoutA = SliceLayout<BM, BK, false, 4>;
  using LayoutB = SliceLayout<BN, BK, false, 4>;
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

template <class T>
__global__ void __launch_bounds__(T::threads, T::BM == 128 ? 2 : 4) gemm_kernel(GemmTask t) {
  constexpr int BM = T::BM, BN = T::BN, TM = T::TM, TN = T::TN, VM = T::VM, VN = T::VN;
  const GemmPlace p(t, BM, BN);
  const int tx = int(threadIdx.x) % T::columns, ty = int(threadIdx.x) / T::columns;
  // Registers i = 0 .. TM-1 are rows row(i): groups of neighbours, spread over the tile so that a warp's loads hit all banks.
  const auto row = [&](int i) { return i / VM * (BM * VM / TM) + ty * VM + i % VM; };
  const auto column = [&](int j) { return j / VN * (BN * VN / TN) + tx * VN + j % VN; };
  float sums[TM][TN] = {};
  for_each_slice<T>(t, p, [&](const float* sa, const float* sb) {
    GPU_UNROLL
    for (int k = 0; k < T::BK; ++k) {
      float a[TM], b[TN];
      GPU_UNROLL
      for (int i = 0; i < TM; i += VM) load_neighbours<VM>(sa + T::LayoutA::at(row(i), k), a + i);
      GPU_UNROLL
      for (int j = 0; j < TN; j += VN) load_neighbours<VN>(sb + T::LayoutB::at(column(j), k), b + j);
      GPU_UNROLL
      for (int i = 0; i < TM; ++i) {
        GPU_UNROLL
        for (int j = 0; j < TN; ++j) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
      }
    }
  });
  GPU_UNROLL
  for (int i = 0; i < TM; ++i) {
    GPU_UNROLL
    for (int j = 0; j < TN; j += VN) store_columns<VN>(t, p, p.m0 + row(i), p.n0 + column(j), sums[i] + j);
  }
}

// ---- tensor cores ------------------------------------------------------------------------------------------------------------

// A warp computes 16x8 fragments of its part of the tile: 64x32 of 128x128 (eight warps), 32x32 of 64x64 (four). Slices lie in
// shared memory as the operand does in global memory, along k or along the rows; factors are rounded on their way into registers.
// The padding makes the lanes of a fragment read different banks.
template <int Size, bool Bf16, bool AlongKA, bool AlongKB>
struct MmaTile {
  static constexpr int BM = Size, BN = Size, BK = 16, WM = Size / 2, WN = 32, stages = 3;
  static constexpr bool bf16 = Bf16, transposes = false;
  static constexpr int columns = BN / WN, threads = 32 * BM / WM * columns;
  using LayoutA = SliceLayout<BM, BK, AlongKA, AlongKA == Bf16 ? 8 : 4>;
  using LayoutB = SliceLayout<BN, BK, AlongKB, AlongKB == Bf16 ? 8 : 4>;
};

__device__ inline unsigned bf16_pair(float low, float high) {
  const gpu::bf162 pair = __floats2bfloat162_rn(low, high);
  unsigned bits;
  memcpy(&bits, &pair, sizeof(bits));
  return bits;
}

// A register of a fragment (layouts: gpu/mma.h): this lane's factor or pair of factors of a row, in the half of the columns from
// k on.
template <bool Bf16, class Layout>
__device__ unsigned fragment(const float* slice, int k, int row, int half) {
  const int t = int(threadIdx.x) % 4;
  if constexpr (!Bf16) {
    return gpu::to_tf32(slice[Layout::at(row, k + half * 4 + t)]);
  } else if constexpr (Layout::along_k) {
    const float2 both = *reinterpret_cast<const float2*>(slice + Layout::at(row, k + half * 8 + 2 * t));
    return bf16_pair(both.x, both.y);
  } else {
    return bf16_pair(slice[Layout::at(row, k + half * 8 + 2 * t)], slice[Layout::at(row, k + half * 8 + 2 * t + 1)]);
  }
}

template <class T>
__global__ void __launch_bounds__(T::threads, T::BM == 128 ? 2 : 4) gemm_mma_kernel(GemmTask t) {
  constexpr int MI = T::WM / 16, NI = T::WN / 8, step = T::bf16 ? 16 : 8;
  const GemmPlace p(t, T::BM, T::BN);
  const int warp = int(threadIdx.x) / 32, group = int(threadIdx.x) % 32 / 4, pair = int(threadIdx.x) % 4 * 2;
  const int m0 = warp / T::columns * T::WM + group, n0 = warp % T::columns * T::WN;
  float sums[MI][NI][4] = {};
  for_each_slice<T>(t, p, [&](const float* sa, const float* sb) {
    GPU_UNROLL
    for (int k = 0; k < T::BK; k += step) {
      unsigned a[MI][4], b[NI][2];
      GPU_UNROLL
      for (int i = 0; i < MI; ++i) {
        GPU_UNROLL
        for (int r = 0; r < 4; ++r) a[i][r] = fragment<T::bf16, typename T::LayoutA>(sa, k, m0 + i * 16 + r % 2 * 8, r / 2);
      }
      GPU_UNROLL
      for (int j = 0; j < NI; ++j) {
        GPU_UNROLL
        for (int r = 0; r < 2; ++r) b[j][r] = fragment<T::bf16, typename T::LayoutB>(sb, k, n0 + group + j * 8, r);
      }
      if constexpr (T::bf16) {
        gpu::mma_tile_bf16(sums, a, b);
      } else {
        gpu::mma_tile_tf32(sums, a, b);
      }
    }
  });
  GPU_UNROLL
  for (int i = 0; i < MI; ++i) {
    GPU_UNROLL
    for (int j = 0; j < NI; ++j) {
      GPU_UNROLL
      for (int low = 0; low < 2; ++low)
        store_columns<2>(t, p, p.m0 + m0 + i * 16 + low * 8, p.n0 + n0 + j * 8 + pair, sums[i][j] + low * 2);
    }
  }
}

// ---- launchers ---------------------------------------------------------------------------------------------------------------

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

// c (products, m, n) = the sum of `splits` parts + bias.
void add_parts(const float* parts, int splits, const Gemm& g) {
  const int64_t outputs = g.batch.total() * g.m * g.n;
  reduce_lines(PartialSource<Total<float>>{reinterpret_cast<const Total<float>*>(parts)}, over_rows(splits, outputs),
               AddParts{g});
}

template <class T>
void run(const Gemm& g, Device device) {
  constexpr int64_t fill = 132 * 2, slices_at_least = 128 / T::BK;  // blocks that fill a device; the shortest part worth a block
  GemmTask t;
  t.g = g;
  const auto quads = [&](const GemmOperand& o, int64_t rows, bool along_k, auto step) {
    const int64_t length = along_k ? g.k : rows, line = along_k ? o.row : o.inner;
    bool all = (along_k ? o.inner : o.row) == 1 && length % 4 == 0 && line % 4 == 0 && aligned16(o.data);
    for (int i = 0; i < GemmBatch::max_axes; ++i) all = all && (g.batch.*step)[i] % 4 == 0 && (g.summed.*step)[i] % 4 == 0;
    return all;
  };
  t.a_quads = quads(g.a, g.m, T::LayoutA::along_k, &GemmBatch::a);
  t.b_quads = quads(g.b, g.n, T::LayoutB::along_k, &GemmBatch::b);
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
  const gpu::LaunchShape shape(unsigned(tiles * t.splits), T::threads,
                               sizeof(GemmSlices<typename T::LayoutA, typename T::LayoutB, T::stages>));
  if constexpr (requires { T::bf16; }) {
    launch(shape, gemm_mma_kernel<T>, t);
  } else {
    launch(shape, gemm_kernel<T>, t);
  }
  if (t.splits > 1) add_parts(t.partial, t.splits, g);
}

template <int Size, bool Bf16>
void run_mma(Gemm g, Device device) {
  if (g.a.inner != 1 && g.b.inner == 1) g.transpose();
  if (g.a.inner != 1) return run<MmaTile<Size, Bf16, false, false>>(g, device);
  return g.b.inner != 1 ? run<MmaTile<Size, Bf16, true, false>>(g, device) : run<MmaTile<Size, Bf16, true, true>>(g, device);
}

// By tiles of 128 or of 64 rows and columns.
void run_by_hand(const Gemm& g, bool large, Device device) {
  switch (precision()) {
    case Precision::tf32: return large ? run_mma<128, false>(g, device) : run_mma<64, false>(g, device);
    case Precision::bf16: return large ? run_mma<128, true>(g, device) : run_mma<64, true>(g, device);
    default: return large ? run<Large>(g, device) : run<Medium>(g, device);
  }
}

#if !GPU_EMULATED && defined(GLIA_WITH_CUBLAS)
constexpr bool has_cublas = true;
bool run_cublas(Gemm g, Device device) {
  if (g.c_column != 1) g.transpose();
  if (g.k == 0 || g.summed.total() == 0 || !cublas::gemm(g, device)) return false;
  if (g.bias) add_parts(g.c, 1, g);  // to the one part that is there
  return true;
}
#else
constexpr bool has_cublas = false;
bool run_cublas(const Gemm&, Device) { return false; }
#endif

bool thin(const Gemm& g) { return g.m <= 16; }

// By the way that was fastest for problems of this shape.
void run_tuned(const Gemm& g, Device device) {
  static constexpr const char* names[] = {"thin", "large", "small", "cublas"};
  const auto run_way = [&](size_t way) {
    if (way == 3 && !run_cublas(g, device)) throw DeviceError("matmul: cuBLAS has no product of this layout");
    if (way == 0) run<Thin>(g, device);
    if (way == 1 || way == 2) run_by_hand(g, way == 1, device);
  };
  TuningKey key{1, int64_t(precision()), rounded_count(g.m), g.n, g.k, g.a.row, g.a.inner, g.b.row, g.b.inner, g.c_row, g.bias != nullptr};
  size_t at = 11;
  for (const GemmBatch* axes : {&g.batch, &g.summed}) {
    key[at++] = axes->total();
    for (const int64_t* steps : {axes->a, axes->b}) key[at++] = axes->count ? steps[axes->count - 1] : 0;
  }
  const auto applicable = [&](size_t way) { return way == 3 ? has_cublas : (way == 0) == thin(g); };
  run_fastest(key, {.names = names, .applicable = applicable, .run = run_way}, device);
}

}  // namespace

void gemm(const Gemm& given, Device device) {
  Gemm g = given;
  constexpr int64_t most = (int64_t(1) << 31) - 128;
  GLIA_CHECK(g.m < most && g.n < most && g.k < most, "matmul: sizes {} x {} x {}, want less than {} each", g.m, g.n, g.k, most);
  GLIA_CHECK(divide_up(g.k, 8) * g.summed.total() < most, "matmul: sums over {} products are too long", g.summed.total());
  if (g.m == 0 || g.n == 0 || g.batch.total() == 0) return;
  if (g.n <= 16 && g.n < g.m) g.transpose();
  if (tuning(device)) return run_tuned(g, device);
  if (kernel_choice() != KernelChoice::hand && run_cublas(g, device)) return;
  if (thin(g)) return run<Thin>(g, device);
  const int64_t large_tiles = divide_up(g.m, Large::BM) * divide_up(g.n, Large::BN) * g.batch.total();
  const bool large = large_tiles >= 64 && g.m > 64 && g.n > 64;
  run_by_hand(g, large, device);
}

}  // namespace glia::GPU_NS
