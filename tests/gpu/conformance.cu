// The kernels of conformance.h. A probe is a functor that one warp runs; `lane` is the thread's, `in` and `out` are words in
// device memory.
#include "tests/gpu/conformance.h"

#include "gpu/gpu.h"
#include "gpu/mma.h"

namespace glia::GPU_NS {
namespace {

constexpr unsigned kAll = 0xffffffffu;

__device__ __forceinline__ float as_float(unsigned word) { return __uint_as_float(word); }
__device__ __forceinline__ unsigned as_word(float x) { return __float_as_uint(x); }

// ---- tensor cores ----------------------------------------------------------------------------------------------------------

// in: a[4], b[2], c[4] of each lane; out: c of each lane.
template <auto multiply>
struct Mma {
  __device__ void operator()(int lane, const unsigned* in, unsigned* out) const {
    unsigned a[4], b[2];
    float c[4];
    for (int i = 0; i < 4; ++i) a[i] = in[lane * 10 + i];
    for (int i = 0; i < 2; ++i) b[i] = in[lane * 10 + 4 + i];
    for (int i = 0; i < 4; ++i) c[i] = as_float(in[lane * 10 + 6 + i]);
    multiply(c, a, b);
    for (int i = 0; i < 4; ++i) out[lane * 4 + i] = as_word(c[i]);
  }
};
struct MmaTf32 {
  __device__ void operator()(float (&c)[4], unsigned (&a)[4], unsigned (&b)[2]) const { gpu::mma_tf32_16x8x8(c, a, b); }
};
struct MmaBf16 {
  __device__ void operator()(float (&c)[4], unsigned (&a)[4], unsigned (&b)[2]) const { gpu::mma_bf16_16x8x16(c, a, b); }
};
struct MmaFp16 {
  __device__ void operator()(float (&c)[4], unsigned (&a)[4], unsigned (&b)[2]) const { gpu::mma_fp16_16x8x16(c, a, b); }
};

// in: a[2][4], b[3][2], c[2][3][4] of each lane, the tile form; out: c.
template <auto multiply>
struct MmaTile {
  __device__ void operator()(int lane, const unsigned* in, unsigned* out) const {
    unsigned a[2][4], b[3][2];
    float c[2][3][4];
    const unsigned* mine = in + lane * 38;
    for (int i = 0; i < 8; ++i) a[i / 4][i % 4] = *mine++;
    for (int i = 0; i < 6; ++i) b[i / 2][i % 2] = *mine++;
    for (int i = 0; i < 24; ++i) c[i / 12][i / 4 % 3][i % 4] = as_float(*mine++);
    multiply(c, a, b);
    for (int i = 0; i < 24; ++i) out[lane * 24 + i] = as_word(c[i / 12][i / 4 % 3][i % 4]);
  }
};
struct TileTf32 {
  __device__ void operator()(float (&c)[2][3][4], unsigned (&a)[2][4], unsigned (&b)[3][2]) const { gpu::mma_tile_tf32(c, a, b); }
};
struct TileBf16 {
  __device__ void operator()(float (&c)[2][3][4], unsigned (&a)[2][4], unsigned (&b)[3][2]) const { gpu::mma_tile_bf16(c, a, b); }
};
struct TileFp16 {
  __device__ void operator()(float (&c)[2][3][4], unsigned (&a)[2][4], unsigned (&b)[3][2]) const { gpu::mma_tile_fp16(c, a, b); }
};

// in: 32 rows of 16 bytes. Lane i gives the address of row 5 i % 32, so that addresses matter.
template <int kCount, bool kTransposed>
struct LdMatrix {
  __device__ void operator()(int lane, const unsigned* in, unsigned* out) const {
    GPU_SHARED(unsigned, rows, [32][4]);
    for (int i = 0; i < 4; ++i) rows[lane][i] = in[lane * 4 + i];
    __syncwarp();
    const void* row = rows[lane * 5 % 32];
    unsigned r[kCount];
    if constexpr (kCount == 4 && kTransposed) gpu::ldmatrix_x4_trans(r, row);
    if constexpr (kCount == 4 && !kTransposed) gpu::ldmatrix_x4(r, row);
    if constexpr (kCount == 2 && kTransposed) gpu::ldmatrix_x2_trans(r, row);
    if constexpr (kCount == 2 && !kTransposed) gpu::ldmatrix_x2(r, row);
    for (int i = 0; i < kCount; ++i) out[lane * kCount + i] = r[i];
  }
};

// in: 7 words a lane. 16, 8 and 4 bytes; where lane % 3 == 0 nothing is read and zeros come.
struct CpAsync {
  __device__ void operator()(int lane, const unsigned* in, unsigned* out) const {
    GPU_SHARED(unsigned, wide, [32][4]);
    GPU_SHARED(unsigned, middle, [32][2]);
    GPU_SHARED(unsigned, narrow, [32]);
    const bool valid = lane % 3 != 0;
    gpu::cp_async16(wide[lane], in + lane * 4, valid);
    gpu::cp_async_commit();
    gpu::cp_async8(middle[lane], in + 128 + lane * 2, valid);
    gpu::cp_async4(&narrow[lane], in + 192 + lane, valid);
    gpu::cp_async_commit();
    gpu::cp_async_wait<1>();
    for (int i = 0; i < 4; ++i) out[lane * 7 + i] = wide[lane][i];
    gpu::cp_async_wait<0>();
    for (int i = 0; i < 2; ++i) out[lane * 7 + 4 + i] = middle[lane][i];
    out[lane * 7 + 6] = narrow[lane];
  }
};

// ---- the warp ----------------------------------------------------------------------------------------------------------------

// in: a value and a source of each lane; out: idx, xor, down, up.
template <int kWidth>
struct Shuffle {
  __device__ void operator()(int lane, const unsigned* in, unsigned* out) const {
    const unsigned value = in[lane * 2], by = in[1];
    out[lane * 4] = __shfl_sync(kAll, value, static_cast<int>(in[lane * 2 + 1] % 32), kWidth);
    out[lane * 4 + 1] = __shfl_xor_sync(kAll, value, static_cast<int>(by % 32), kWidth);
    out[lane * 4 + 2] = __shfl_down_sync(kAll, value, by % 32, kWidth);
    out[lane * 4 + 3] = __shfl_up_sync(kAll, value, by % 32, kWidth);
  }
};

// in: two words a lane, as one value of 8 bytes.
struct ShuffleWide {
  __device__ void operator()(int lane, const unsigned* in, unsigned* out) const {
    const double value = __longlong_as_double(static_cast<long long>(static_cast<unsigned long long>(in[lane * 2 + 1]) << 32 | in[lane * 2]));
    const auto got = static_cast<unsigned long long>(__double_as_longlong(__shfl_sync(kAll, value, 31 - lane)));
    out[lane * 2] = static_cast<unsigned>(got);
    out[lane * 2 + 1] = static_cast<unsigned>(got >> 32);
  }
};

// in: a word a lane. Half the warp at a time, so that masks matter.
struct Votes {
  __device__ void operator()(int lane, const unsigned* in, unsigned* out) const {
    const int predicate = in[lane] % 4 == 0;
    const unsigned half = lane < 16 ? 0x0000ffffu : 0xffff0000u;
    out[lane * 7] = __ballot_sync(kAll, predicate);
    out[lane * 7 + 1] = static_cast<unsigned>(__any_sync(kAll, predicate) != 0);
    out[lane * 7 + 2] = static_cast<unsigned>(__all_sync(kAll, predicate) != 0);
    if (lane < 16) {
      out[lane * 7 + 3] = __ballot_sync(half, predicate);
      out[lane * 7 + 4] = static_cast<unsigned>(__any_sync(half, lane == 3) != 0);
      out[lane * 7 + 5] = static_cast<unsigned>(__all_sync(half, lane < 16) != 0);
      out[lane * 7 + 6] = __match_any_sync(half, in[lane] % 4);
    } else {
      out[lane * 7 + 3] = __ballot_sync(half, predicate);
      out[lane * 7 + 4] = static_cast<unsigned>(__any_sync(half, lane == 3) != 0);
      out[lane * 7 + 5] = static_cast<unsigned>(__all_sync(half, lane < 16) != 0);
      out[lane * 7 + 6] = __match_any_sync(half, in[lane] % 4);
    }
  }
};

struct Reduce {
  __device__ void operator()(int lane, const unsigned* in, unsigned* out) const {
    const unsigned v = in[lane];
    const int s = static_cast<int>(v);
    out[lane * 9] = __reduce_add_sync(kAll, v);
    out[lane * 9 + 1] = __reduce_min_sync(kAll, v);
    out[lane * 9 + 2] = __reduce_max_sync(kAll, v);
    out[lane * 9 + 3] = static_cast<unsigned>(__reduce_add_sync(kAll, s));
    out[lane * 9 + 4] = static_cast<unsigned>(__reduce_min_sync(kAll, s));
    out[lane * 9 + 5] = static_cast<unsigned>(__reduce_max_sync(kAll, s));
    out[lane * 9 + 6] = __reduce_and_sync(kAll, v | 0xffff0000u);
    out[lane * 9 + 7] = __reduce_or_sync(kAll, v & 0x11111111u);
    out[lane * 9 + 8] = __reduce_xor_sync(kAll, v);
  }
};

struct BlockVotes {
  __device__ void operator()(int lane, const unsigned* in, unsigned* out) const {
    out[lane * 4] = static_cast<unsigned>(__syncthreads_count(static_cast<int>(in[lane] & 1)));
    out[lane * 4 + 1] = static_cast<unsigned>(__syncthreads_or(lane == 17) != 0);
    out[lane * 4 + 2] = static_cast<unsigned>(__syncthreads_or(lane == 32) != 0);
    out[lane * 4 + 3] = static_cast<unsigned>(__syncthreads_and(lane != 5) != 0);
  }
};

// ---- bits, conversions, atomics ------------------------------------------------------------------------------------------------

struct Bits {
  __device__ void operator()(int lane, const unsigned* in, unsigned* out) const {
    const unsigned a = in[lane * 3], b = in[lane * 3 + 1], c = in[lane * 3 + 2];
    const unsigned long long wide = static_cast<unsigned long long>(a) << 32 | b;
    unsigned* mine = out + lane * 14;
    *mine++ = static_cast<unsigned>(__popc(a));
    *mine++ = static_cast<unsigned>(__popcll(wide));
    *mine++ = static_cast<unsigned>(__ffs(static_cast<int>(a)));
    *mine++ = static_cast<unsigned>(__ffsll(static_cast<long long>(wide)));
    *mine++ = static_cast<unsigned>(__clz(static_cast<int>(a)));
    *mine++ = static_cast<unsigned>(__clzll(static_cast<long long>(wide)));
    *mine++ = __brev(a);
    *mine++ = static_cast<unsigned>(__brevll(wide) >> 13);
    *mine++ = __funnelshift_l(a, b, c);
    *mine++ = __funnelshift_r(a, b, c);
    *mine++ = __byte_perm(a, b, c);
    *mine++ = __umulhi(a, b);
    *mine++ = static_cast<unsigned>(__mulhi(static_cast<int>(a), static_cast<int>(b)));
    *mine++ = static_cast<unsigned>(__umul64hi(wide, wide) >> 7);
  }
};

struct Conversions {
  __device__ void operator()(int lane, const unsigned* in, unsigned* out) const {
    const float x = as_float(in[lane]);
    unsigned* mine = out + lane * 13;
    *mine++ = static_cast<unsigned>(__float2int_rn(x));
    *mine++ = static_cast<unsigned>(__float2int_rz(x));
    *mine++ = static_cast<unsigned>(__float2int_rd(x));
    *mine++ = static_cast<unsigned>(__float2int_ru(x));
    *mine++ = __float2uint_rn(x);
    *mine++ = __float2uint_rz(x);
    *mine++ = __half_as_ushort(__float2half_rn(x));
    *mine++ = __bfloat16_as_ushort(__float2bfloat16_rn(x));
    *mine++ = as_word(__half2float(__ushort_as_half(static_cast<unsigned short>(in[lane]))));
    *mine++ = as_word(__bfloat162float(__ushort_as_bfloat16(static_cast<unsigned short>(in[lane]))));
    *mine++ = gpu::to_tf32(x);
    *mine++ = as_word(__saturatef(x));
    *mine++ = as_word(min(max(x, -1.5f), 2.5f));
  }
};

// in: three words a lane, each with two halves.
template <class T, T (*from_bits)(unsigned short), unsigned short (*to_bits)(T)>
__device__ __forceinline__ void half_arithmetic(const unsigned* in, unsigned* out) {
  const T a = from_bits(static_cast<unsigned short>(in[0])), b = from_bits(static_cast<unsigned short>(in[1]));
  const T c = from_bits(static_cast<unsigned short>(in[2]));
  out[0] = to_bits(a + b);
  out[1] = to_bits(a - b);
  out[2] = to_bits(a * b);
  out[3] = to_bits(__hfma(a, b, c));
  out[4] = (a < b ? 1u : 0u) | (a >= b ? 2u : 0u) | (a == b ? 4u : 0u);
}
__device__ inline gpu::half half_from(unsigned short bits) { return __ushort_as_half(bits); }
__device__ inline unsigned short half_to(gpu::half x) { return __half_as_ushort(x); }
__device__ inline gpu::bf16 bf16_from(unsigned short bits) { return __ushort_as_bfloat16(bits); }
__device__ inline unsigned short bf16_to(gpu::bf16 x) { return __bfloat16_as_ushort(x); }

struct Fp16Arithmetic {
  __device__ void operator()(int lane, const unsigned* in, unsigned* out) const {
    half_arithmetic<gpu::half, half_from, half_to>(in + lane * 3, out + lane * 5);
  }
};
struct Bf16Arithmetic {
  __device__ void operator()(int lane, const unsigned* in, unsigned* out) const {
    half_arithmetic<gpu::bf16, bf16_from, bf16_to>(in + lane * 3, out + lane * 5);
  }
};

// in: a positive float a lane.
struct Functions {
  __device__ void operator()(int lane, const unsigned* in, unsigned* out) const {
    const float x = as_float(in[lane]);
    float sine = 0, cosine = 0;
    __sincosf(x, &sine, &cosine);
    unsigned* mine = out + lane * 8;
    *mine++ = as_word(__expf(x));
    *mine++ = as_word(__logf(x));
    *mine++ = as_word(__powf(x, 1.7f));
    *mine++ = as_word(rsqrtf(x));
    *mine++ = as_word(sine + 2);
    *mine++ = as_word(cosine + 2);
    *mine++ = as_word(__fdividef(1.0f, x));
    *mine++ = as_word(__fmaf_rn(x, x, 1.0f));
  }
};

// in: a word a lane. One address for all lanes, then one of its own for each.
struct Atomics {
  __device__ void operator()(int lane, const unsigned* in, unsigned* out) const {
    const unsigned v = in[lane];
    GPU_SHARED(unsigned, common, [8]);
    if (lane < 8) common[lane] = lane == 1 || lane == 4 ? 0xffffffffu : 0u;
    __syncwarp();
    atomicAdd(&common[0], v);
    atomicMin(&common[1], v);
    atomicMax(&common[2], v);
    atomicOr(&common[3], v & 0x10101010u);
    atomicAnd(&common[4], v | 0xf0f0f0f0u);
    atomicXor(&common[5], v);
    atomicMax(reinterpret_cast<int*>(&common[6]), static_cast<int>(v));
    atomicMin(reinterpret_cast<int*>(&common[7]), static_cast<int>(v));
    __syncwarp();
    if (lane < 8) out[lane] = common[lane];
    unsigned* mine = out + 8 + lane * 5;
    GPU_SHARED(unsigned, own, [32]);
    own[lane] = v;
    mine[0] = atomicExch(&own[lane], 7u);
    mine[1] = atomicCAS(&own[lane], lane % 2 ? 7u : 8u, 9u);
    mine[2] = own[lane];
    mine[3] = atomicSub(&own[lane], 3u);
    mine[4] = own[lane];
  }
};

// ---- the table ------------------------------------------------------------------------------------------------------------------

template <class Work>
__global__ void probe_kernel(const unsigned* in, unsigned* out) {
  Work{}(static_cast<int>(threadIdx.x), in, out);
}
template <class Work>
int run_probe(const unsigned* in, unsigned* out, gpu::Stream stream) {
  return gpu::launch({1, 32}, stream, probe_kernel<Work>, in, out);
}

}  // namespace

const std::vector<tests::Probe>& conformance_probes() {
  static const std::vector<tests::Probe> all{
      {"mma_tf32", 320, 128, run_probe<Mma<MmaTf32{}>>},
      {"mma_bf16", 320, 128, run_probe<Mma<MmaBf16{}>>},
      {"mma_fp16", 320, 128, run_probe<Mma<MmaFp16{}>>},
      {"mma_tile_tf32", 1216, 768, run_probe<MmaTile<TileTf32{}>>},
      {"mma_tile_bf16", 1216, 768, run_probe<MmaTile<TileBf16{}>>},
      {"mma_tile_fp16", 1216, 768, run_probe<MmaTile<TileFp16{}>>},
      {"ldmatrix_x4", 128, 128, run_probe<LdMatrix<4, false>>},
      {"ldmatrix_x4_trans", 128, 128, run_probe<LdMatrix<4, true>>},
      {"ldmatrix_x2", 128, 64, run_probe<LdMatrix<2, false>>},
      {"ldmatrix_x2_trans", 128, 64, run_probe<LdMatrix<2, true>>},
      {"cp_async", 224, 224, run_probe<CpAsync>},
      {"shuffle 32", 64, 128, run_probe<Shuffle<32>>},
      {"shuffle 16", 64, 128, run_probe<Shuffle<16>>},
      {"shuffle 4", 64, 128, run_probe<Shuffle<4>>},
      {"shuffle of 8 bytes", 64, 64, run_probe<ShuffleWide>},
      {"votes", 32, 224, run_probe<Votes>},
      {"reduce", 32, 288, run_probe<Reduce>},
      {"block votes", 32, 128, run_probe<BlockVotes>},
      {"bits", 96, 448, run_probe<Bits>},
      {"conversions", 32, 416, run_probe<Conversions>},
      {"fp16 arithmetic", 96, 160, run_probe<Fp16Arithmetic>},
      {"bf16 arithmetic", 96, 160, run_probe<Bf16Arithmetic>},
      {"functions", 32, 256, run_probe<Functions>},
      {"atomics", 32, 168, run_probe<Atomics>},
  };
  return all;
}

}  // namespace glia::GPU_NS
