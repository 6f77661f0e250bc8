// The inner loop of the implicit GEMM (gemm.cpp): one tile of pixels by one panel of columns, with the epilogue. Included by
// that file once per SIMD target.
HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr int64_t lanes = HWY_LANES(float);
// Rows x vectors of sums: 24 of 32 registers, 12 of 16. Wide and low, so that a row of few channels is written at once and the
// processor sees few streams of memory. A single vector needs more rows to hide the latency of its additions.
constexpr int max_vectors = HWY_TARGET <= HWY_AVX3 ? 4 : 2;
constexpr int max_height = 12;
constexpr int height_of(int64_t vectors) { return vectors == 1 ? 12 : 6; }
constexpr int64_t panel_width = max_vectors * lanes;

// Rows of a for one tile over one stretch of the contraction: row i at a + i * row_bytes.
struct Piece {
  const float* a;
  int64_t row_bytes;
  int64_t first, length;  // in the packed block of b
};

// Where the sums of one tile and one panel go.
struct Target {
  float* d;  // of column 0 of the panel
  const float* residual;
  const int64_t* offsets;  // of the tile's pixels, in elements
  const float* affine;     // scales of the panel then biases, or null
  int64_t affine_bias;     // from a scale to its bias
  int64_t valid;           // columns
  bool accumulate, relu;
  bool stream;  // stores go around the caches
};

// The addresses of up to 12 rows from three bases and strides that x86 can encode.
struct RowBases {
  const char *a0, *a5, *a10;
  int64_t stride, stride3;
  template <int I>
  HWY_INLINE const char* row() const {
    const char* base = I < 5 ? a0 : I < 10 ? a5 : a10;
    constexpr int j = I % 5;
    return base + (j == 0 ? 0 : j == 1 ? stride : j == 2 ? 2 * stride : j == 3 ? stride3 : 4 * stride);
  }
  template <int I>
  HWY_INLINE float at(int64_t byte) const {
    float x;
    std::memcpy(&x, row<I>() + byte, sizeof x);
    return x;
  }
};

// Asks for 64 bytes of each of the MR rows that follow, which the next tile will read.
template <int MR, int I = 0>
HWY_INLINE void prefetch_next(const RowBases& a, int64_t tile_bytes) {
  __builtin_prefetch(a.row<I>() + tile_bytes);
  if constexpr (I + 1 < MR) prefetch_next<MR, I + 1>(a, tile_bytes);
}

template <int I, int MR, int NV>
HWY_INLINE void multiply_rows(V (&sum)[MR][NV], const V (&b)[NV], const RowBases& a, int64_t byte) {
  const V x = hn::Set(D(), a.at<I>(byte));
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v) sum[I][v] = hn::MulAdd(x, b[v], sum[I][v]);
  if constexpr (I + 1 < MR) multiply_rows<I + 1>(sum, b, a, byte);
}

template <int MR, int NV>
HWY_INLINE void multiply_step(V (&sum)[MR][NV], const float* b, const RowBases& a, int64_t step) {
  V row[NV];
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v) row[v] = hn::Load(D(), b + (step * NV + v) * lanes);
  multiply_rows<0>(sum, row, a, step * 4);
}

template <int MR, int NV>
HWY_INLINE void store_sums(V (&sum)[MR][NV], const Target& t) {
  const D d;
  const auto for_each = [&](auto&& f) HWY_ATTR {
#pragma GCC unroll 14
    for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) f(sum[i][v], t.offsets[i] + v * lanes, v);
  };
  const bool full = t.valid == NV * lanes;
  hn::Mask<D> mask[NV];
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v) mask[v] = hn::FirstN(d, static_cast<size_t>(std::clamp<int64_t>(t.valid - v * lanes, 0, lanes)));
  const auto add = [&](const float* from) HWY_ATTR {
    if (full) {
      for_each([&](V& x, int64_t at, int) HWY_ATTR { x = hn::Add(x, hn::LoadU(d, from + at)); });
    } else {
      for_each([&](V& x, int64_t at, int v) HWY_ATTR { x = hn::Add(x, hn::MaskedLoad(mask[v], d, from + at)); });
    }
  };
  if (t.accumulate) add(t.d);
  if (t.affine) {
    V scale[NV], bias[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      scale[v] = hn::LoadU(d, t.affine + v * lanes);
      bias[v] = hn::LoadU(d, t.affine + t.affine_bias + v * lanes);
    }
    for_each([&](V& x, int64_t, int v) HWY_ATTR { x = hn::MulAdd(x, scale[v], bias[v]); });
  }
  if (t.residual) add(t.residual);
  // A NaN is not below zero and stays.
  if (t.relu) for_each([&](V& x, int64_t, int) HWY_ATTR { x = hn::IfThenZeroElse(hn::Lt(x, hn::Zero(d)), x); });
  if (full && t.stream) {
    for_each([&](V& x, int64_t at, int) HWY_ATTR { hn::Stream(x, d, t.d + at); });
  } else if (full) {
    for_each([&](V& x, int64_t at, int) HWY_ATTR { hn::StoreU(x, d, t.d + at); });
  } else {
    for_each([&](V& x, int64_t at, int v) HWY_ATTR { hn::BlendedStore(x, mask[v], d, t.d + at); });
  }
}

template <int MR, int NV>
HWY_NOINLINE void kernel(const Piece* pieces, int64_t count, const float* b, const Target& target) {
  V sum[MR][NV];
#pragma GCC unroll 14
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      sum[i][v] = hn::Zero(D());
      if (!target.stream) __builtin_prefetch(target.d + target.offsets[i] + v * lanes, 1);
    }
  for (const Piece* piece = pieces; piece != pieces + count; ++piece) {
    const int64_t stride = piece->row_bytes;
    const char* base = reinterpret_cast<const char*>(piece->a);
    RowBases a{base, base + 5 * stride, base + 10 * stride, stride, 3 * stride};
    const float* row = b + piece->first * NV * lanes;
    const auto multiply_pairs = [&](int64_t count) HWY_ATTR {  // by two: g++ runs out of registers at four
      for (const char* end = a.a0 + count * 8; a.a0 != end;) {
        multiply_step(sum, row, a, 0);
        multiply_step(sum, row, a, 1);
        a.a0 += 8, a.a5 += 8, a.a10 += 8;
        row += 2 * NV * lanes;
      }
    };
    int64_t left = piece->length;
    if (left >= 64) {  // not for short pieces, to which another loop costs more than it brings
      for (; left >= 16; left -= 16) {
        prefetch_next<MR>(a, MR * stride);
        multiply_pairs(8);
      }
    }
    multiply_pairs(left >> 1);
    if ((left & 1) != 0) multiply_step(sum, row, a, 0);
  }
  store_sums(sum, target);
}

using Kernel = void (*)(const Piece*, int64_t, const float*, const Target&);

template <int NV, size_t... I>
constexpr std::array<Kernel, max_height + 1> kernels_of(std::index_sequence<I...>) {
  return {nullptr, kernel<static_cast<int>(I) + 1, NV>...};
}
template <size_t... V>
constexpr std::array<std::array<Kernel, max_height + 1>, max_vectors> all_kernels(std::index_sequence<V...>) {
  return {kernels_of<static_cast<int>(V) + 1>(std::make_index_sequence<height_of(static_cast<int>(V) + 1)>())...};
}
constexpr auto kernels = all_kernels(std::make_index_sequence<max_vectors>());

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
