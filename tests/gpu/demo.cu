// The kernels of demo.h.
#include "tests/gpu/demo.h"

#include "gpu/gpu.h"
#include "gpu/mma.h"

namespace glia::GPU_NS {
namespace {

using gpu::Stream;

constexpr int divide_up(int n, int by) { return (n + by - 1) / by; }

// ---- sums ---------------------------------------------------------------------------------------------------------------------

__device__ __forceinline__ float warp_sum(float v) {
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
  return v;
}

// The block's sum, for thread 0. Blocks of 256.
__device__ __forceinline__ float sum_of_block(float v) {
  GPU_SHARED(float, partial, [8]);
  v = warp_sum(v);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x < 32) v = warp_sum(threadIdx.x < 8 ? partial[threadIdx.x] : 0.0f);
  return v;
}

__device__ __forceinline__ float sum_of_stride(const float* __restrict__ x, int n) {
  float v = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) v += __ldg(x + i);
  return v;
}

__global__ void __launch_bounds__(256) block_sum_kernel(const float* __restrict__ x, float* out, int n) {
  const float v = sum_of_block(sum_of_stride(x, n));
  if (threadIdx.x == 0) atomicAdd(out, v);
}
int block_sum(const float* x, float* out, int n, Stream stream) {
  return gpu::launch({divide_up(n, 4096), 256}, stream, block_sum_kernel, x, out, n);
}

// Every block leaves its part behind; whoever draws the last ticket adds them up.
__global__ void __launch_bounds__(256)
    last_block_sum_kernel(const float* __restrict__ x, float* parts, unsigned* ticket, float* out, int n) {
  GPU_SHARED(bool, is_last);
  const float v = sum_of_block(sum_of_stride(x, n));
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = v;
    __threadfence();
    is_last = atomicAdd(ticket, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (is_last && threadIdx.x < 32) {
    const float sum = warp_sum(threadIdx.x < gridDim.x ? __ldcg(parts + threadIdx.x) : 0.0f);
    if (threadIdx.x == 0) *out = sum;
  }
}
int last_block_sum(const float* x, float* parts, unsigned* ticket, float* out, int n, Stream stream) {
  return gpu::launch({16, 256}, stream, last_block_sum_kernel, x, parts, ticket, out, n);
}

// ---- no barriers, warp barriers, atomics, votes -------------------------------------------------------------------------------

__global__ void axpy_kernel(float a, const float* __restrict__ x, float* __restrict__ y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] += a * x[i];
}
int axpy(float a, const float* x, float* y, int n, Stream stream) {
  return gpu::launch({divide_up(n, 256), 256}, stream, axpy_kernel, a, x, y, n);
}

// A warp for every 32 x 32 tile, and two tiles in a row, so that the second needs the barrier after the first.
__global__ void transpose_kernel(const float* __restrict__ x, float* __restrict__ y, int n) {
  GPU_SHARED(float, tile, [2][32][33]);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int step = 0; step < 2; ++step) {
    const int row = blockIdx.y * 32, column = ((blockIdx.x * 2 + step) * 2 + warp) * 32;
    if (column >= n) break;
    for (int i = 0; i < 32; ++i) tile[warp][i][lane] = x[(row + i) * n + column + lane];
    __syncwarp();
    for (int i = 0; i < 32; ++i) y[(column + i) * n + row + lane] = tile[warp][lane][i];
    __syncwarp();
  }
}
int transpose(const float* x, float* y, int n, Stream stream) {
  return gpu::launch({dim3(unsigned(divide_up(n, 128)), unsigned(n / 32)), 64}, stream, transpose_kernel, x, y, n);
}

__global__ void histogram_kernel(const int* __restrict__ x, unsigned* bins, int n) {
  GPU_SHARED(unsigned, mine, [64]);
  for (int i = threadIdx.x; i < 64; i += blockDim.x) mine[i] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&mine[x[i]], 1u);
  __syncthreads();
  for (int i = threadIdx.x; i < 64; i += blockDim.x) atomicAdd(&bins[i], mine[i]);
}
int histogram(const int* x, unsigned* bins, int n, Stream stream) {
  return gpu::launch({4, 96}, stream, histogram_kernel, x, bins, n);
}

__global__ void __launch_bounds__(256) compact_kernel(const float* __restrict__ x, float* y, int* count, int n) {
  GPU_SHARED(int, before, [8]);  // kept values in earlier warps
  const int i = threadIdx.x, lane = i % 32, warp = i / 32;
  const float v = i < n ? x[i] : 0.0f;
  const unsigned kept = __ballot_sync(0xffffffffu, v > 0);
  if (lane == 0) before[warp] = __popc(kept);
  const int total = __syncthreads_count(v > 0);
  if (i == 0) {
    int sum = 0;
    for (int w = 0; w < 8; ++w) {
      const int own = before[w];
      before[w] = sum;
      sum += own;
    }
    *count = total;
  }
  __syncthreads();
  if (v > 0) y[before[warp] + __popc(kept & ((1u << lane) - 1))] = v;
}
int compact(const float* x, float* y, int* count, int n, Stream stream) {
  return gpu::launch({1, 256}, stream, compact_kernel, x, y, count, n);
}

// ---- c = a b in float: a 64 x 64 tile per block, 4 x 4 per thread, two stages, one barrier per step along k -------------------

constexpr int kTile = 64, kStep = 16;
struct SgemmTiles {
  float a[2][kStep][kTile + 4];  // transposed
  float b[2][kStep][kTile];
};

__global__ void __launch_bounds__(256)
    sgemm_kernel(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int m, int n, int k) {
  SgemmTiles& s = gpu::dynamic_shared<SgemmTiles>();
  const int tid = threadIdx.x, tx = tid % 16, ty = tid / 16, m0 = blockIdx.y * kTile, n0 = blockIdx.x * kTile;
  const int a_row = tid / 4, a_column = tid % 4 * 4, b_row = tid / 16, b_column = tid % 16 * 4;
  float4 next_a, next_b;
  const auto fetch = [&](int k0) {
    next_a = next_b = make_float4(0, 0, 0, 0);
    if (m0 + a_row < m && k0 + a_column < k) next_a = *reinterpret_cast<const float4*>(a + (m0 + a_row) * k + k0 + a_column);
    if (k0 + b_row < k && n0 + b_column < n) next_b = *reinterpret_cast<const float4*>(b + (k0 + b_row) * n + n0 + b_column);
  };
  const auto store = [&](int stage) {
    s.a[stage][a_column][a_row] = next_a.x;
    s.a[stage][a_column + 1][a_row] = next_a.y;
    s.a[stage][a_column + 2][a_row] = next_a.z;
    s.a[stage][a_column + 3][a_row] = next_a.w;
    *reinterpret_cast<float4*>(&s.b[stage][b_row][b_column]) = next_b;
  };
  float sum[4][4] = {};
  fetch(0);
  store(0);
  __syncthreads();
  for (int k0 = 0, stage = 0; k0 < k; k0 += kStep, stage ^= 1) {
    if (k0 + kStep < k) fetch(k0 + kStep);
    for (int kk = 0; kk < kStep; ++kk) {
      GPU_UNROLL
      for (int i = 0; i < 4; ++i) {
        GPU_UNROLL
        for (int j = 0; j < 4; ++j) sum[i][j] += s.a[stage][kk][ty * 4 + i] * s.b[stage][kk][tx * 4 + j];
      }
    }
    if (k0 + kStep < k) store(stage ^ 1);
    __syncthreads();
  }
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j)
      if (m0 + ty * 4 + i < m && n0 + tx * 4 + j < n) c[(m0 + ty * 4 + i) * n + n0 + tx * 4 + j] = sum[i][j];
}
int sgemm(const float* a, const float* b, float* c, int m, int n, int k, Stream stream) {
  const dim3 grid(unsigned(divide_up(n, kTile)), unsigned(divide_up(m, kTile)));
  return gpu::launch({grid, 256, sizeof(SgemmTiles)}, stream, sgemm_kernel, a, b, c, m, n, k);
}

// ---- tensor cores: a 32 x 32 tile per block of two warps (16 x 32 each), three stages of asynchronous copies ------------------

constexpr int kStages = 3;

__global__ void __launch_bounds__(64)
    gemm_tf32_kernel(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int n, int k) {
  GPU_SHARED(float, as, [kStages][32][20]);
  GPU_SHARED(float, bs, [kStages][32][20]);
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32, g = lane / 4, t = lane % 4;
  const int m0 = blockIdx.y * 32, n0 = blockIdx.x * 32, steps = k / 16;
  const auto copy = [&](int step) {
    for (int chunk = tid; chunk < 128; chunk += 64) {
      const int row = chunk / 4, column = chunk % 4 * 4;
      gpu::cp_async16(&as[step % kStages][row][column], a + (m0 + row) * k + step * 16 + column);
      gpu::cp_async16(&bs[step % kStages][row][column], b + (n0 + row) * k + step * 16 + column);
    }
  };
  float sum[1][4][4] = {};
  for (int step = 0; step < kStages - 1; ++step) {
    if (step < steps) copy(step);
    gpu::cp_async_commit();
  }
  for (int step = 0; step < steps; ++step) {
    gpu::cp_async_wait<kStages - 2>();
    __syncthreads();  // this step's tiles are there, and everybody is done with the last one's
    if (step + kStages - 1 < steps) copy(step + kStages - 1);
    gpu::cp_async_commit();
    const int stage = step % kStages;
    for (int kk = 0; kk < 16; kk += 8) {
      unsigned fa[1][4], fb[4][2];
      for (int i = 0; i < 4; ++i) fa[0][i] = gpu::to_tf32(as[stage][warp * 16 + g + i % 2 * 8][kk + t + i / 2 * 4]);
      for (int j = 0; j < 4; ++j)
        for (int i = 0; i < 2; ++i) fb[j][i] = gpu::to_tf32(bs[stage][j * 8 + g][kk + t + i * 4]);
      gpu::mma_tile_tf32(sum, fa, fb);
    }
  }
  for (int j = 0; j < 4; ++j)
    for (int i = 0; i < 4; ++i) c[(m0 + warp * 16 + g + i / 2 * 8) * n + n0 + j * 8 + t * 2 + i % 2] = sum[0][j][i];
}
int gemm_tf32(const float* a, const float* b, float* c, int m, int n, int k, Stream stream) {
  return gpu::launch({dim3(unsigned(n / 32), unsigned(m / 32)), 64}, stream, gemm_tf32_kernel, a, b, c, n, k);
}

__global__ void __launch_bounds__(64)
    gemm_bf16_kernel(const gpu::bf16* __restrict__ a, const gpu::bf16* __restrict__ b, float* __restrict__ c, int n, int k) {
  GPU_SHARED(gpu::bf16, as, [32][24]);
  GPU_SHARED(gpu::bf16, bs, [16][40]);  // k major: needs ldmatrix to transpose
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32, g = lane / 4, t = lane % 4;
  const int m0 = blockIdx.y * 32, n0 = blockIdx.x * 32;
  float sum[1][4][4] = {};
  for (int k0 = 0; k0 < k; k0 += 16) {
    gpu::cp_async16(&as[tid / 2][tid % 2 * 8], a + (m0 + tid / 2) * k + k0 + tid % 2 * 8);
    gpu::cp_async16(&bs[tid / 4][tid % 4 * 8], b + (k0 + tid / 4) * n + n0 + tid % 4 * 8);
    gpu::cp_async_commit();
    gpu::cp_async_wait<0>();
    __syncthreads();
    unsigned fa[1][4], fb[4][2];
    gpu::ldmatrix_x4(fa[0], &as[warp * 16 + lane % 16][lane / 16 * 8]);
    for (int j = 0; j < 4; ++j) gpu::ldmatrix_x2_trans(fb[j], &bs[lane % 16][j * 8]);
    gpu::mma_tile_bf16(sum, fa, fb);
    __syncthreads();
  }
  for (int j = 0; j < 4; ++j)
    for (int i = 0; i < 4; ++i) c[(m0 + warp * 16 + g + i / 2 * 8) * n + n0 + j * 8 + t * 2 + i % 2] = sum[0][j][i];
}
int gemm_bf16(const unsigned short* a, const unsigned short* b, float* c, int m, int n, int k, Stream stream) {
  return gpu::launch({dim3(unsigned(n / 32), unsigned(m / 32)), 64}, stream, gemm_bf16_kernel,
                     reinterpret_cast<const gpu::bf16*>(a), reinterpret_cast<const gpu::bf16*>(b), c, n, k);
}

}  // namespace

extern const tests::Demo demo{block_sum, last_block_sum, axpy, transpose, histogram, compact, sgemm, gemm_tf32, gemm_bf16};

}  // namespace glia::GPU_NS
