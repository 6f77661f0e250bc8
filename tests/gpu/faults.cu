// One mistake per kernel. The constant before each says in which line it is noticed.
#include "tests/gpu/faults.h"

#include "gpu/gpu.h"
#include "gpu/mma.h"

#if GPU_EMULATED
namespace glia::GPU_NS {
namespace {

constexpr unsigned kSharedArray = __LINE__ + 2, kSharedOverrun = __LINE__ + 4;
__global__ void shared_overrun(float* y) {
  GPU_SHARED(float, s, [32]);
  float* p = s;
  p[threadIdx.x + 1] = 1;
  __syncthreads();
  y[threadIdx.x] = p[threadIdx.x];
}

constexpr unsigned kDeviceOverrun = __LINE__ + 1;
__global__ void device_overrun(float* y) { y[threadIdx.x + 1] = 1; }

constexpr unsigned kDynamicOverrun = __LINE__ + 3;
__global__ void dynamic_overrun(float* y) {
  auto& s = gpu::dynamic_shared<float[]>();
  s[threadIdx.x] = 1;
  y[threadIdx.x] = s[threadIdx.x];
}

constexpr unsigned kRowOverrun = __LINE__ + 3;
__global__ void row_overrun(float* y, int k) {
  GPU_SHARED(float, s, [8][8]);
  s[0][k] = 1;
  y[0] = s[0][k];
}

constexpr unsigned kMisalignedVector = __LINE__ + 2;
__global__ void misaligned_vector(float* y) {
  const float4 v = *reinterpret_cast<const float4*>(y + 1);
  y[0] = v.x;
}

constexpr unsigned kMisalignedCopy = __LINE__ + 3;
__global__ void misaligned_copy(float* y) {
  GPU_SHARED(float, s, [64]);
  gpu::cp_async16(&s[1], y);
  gpu::cp_async_commit();
  gpu::cp_async_wait<0>();
}

constexpr unsigned kMisalignedAtomic = __LINE__ + 2;
__global__ void misaligned_atomic(float* y) {
  atomicAdd(reinterpret_cast<double*>(y + 1), 1.0);
}

constexpr unsigned kDivergentBarrier = __LINE__ + 6;
__global__ void divergent_barrier(float* y) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    y[0] = 1;
    __syncthreads();
  }
}

constexpr unsigned kEarlyReturn = __LINE__ + 3;
__global__ void early_return(float* y) {
  if (threadIdx.x == 7) return;
  __syncthreads();
  y[threadIdx.x] = 1;
}

constexpr unsigned kShuffleInBranch = __LINE__ + 2;
__global__ void shuffle_in_branch(float* y) {
  if (threadIdx.x % 32 < 16) y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}

constexpr unsigned kNotInMask = __LINE__ + 1;
__global__ void not_in_mask(float* y) { y[threadIdx.x] = __shfl_sync(0xffffu, 1.0f, 0); }

constexpr unsigned kMasksMeet = __LINE__ + 5;
__global__ void masks_meet(float* y) {
  if (threadIdx.x < 16)
    __syncwarp(0x1ffff);
  else
    __syncwarp(0xffff8000u);
  y[threadIdx.x] = 1;
}

constexpr unsigned kHalfAWarpsMma = __LINE__ + 5;
__global__ void half_a_warps_mma(float* y) {
  float c[4] = {};
  const unsigned a[4] = {}, b[2] = {};
  if (threadIdx.x < 16)
    gpu::mma_tf32_16x8x8(c, a, b);
  y[threadIdx.x] = c[0];
}

constexpr unsigned kTooMuchShared = __LINE__ + 2;
__global__ void too_much_shared(float* y) {
  GPU_SHARED(float, s, [12289]);
  y[threadIdx.x] = s[threadIdx.x];
}

struct Big {
  float values[64];
};
__global__ void too_little_asked(float* y) { y[threadIdx.x] = gpu::dynamic_shared<Big>().values[threadIdx.x]; }

__global__ void read_before_write_kernel(float* y) {
  GPU_SHARED(float, s, [32]);
  y[threadIdx.x] = s[threadIdx.x];
}

// The last of two groups of copies may be under way when it is read.
__global__ void too_few_copies_kernel(const float* x, float* y) {
  GPU_SHARED(float, s, [2][32]);
  for (int i = 0; i < 2; ++i) {
    gpu::cp_async4(&s[i][threadIdx.x], x + i * 32 + threadIdx.x);
    gpu::cp_async_commit();
  }
  gpu::cp_async_wait<1>();
  __syncthreads();
  y[threadIdx.x] = s[0][threadIdx.x];
  y[threadIdx.x + 32] = s[1][threadIdx.x];
  gpu::cp_async_wait<0>();
}

template <auto kernel, int threads, int shared_bytes = 0>
void run_fault(float* y) {
  static_cast<void>(gpu::launch({1, threads, shared_bytes}, nullptr, kernel, y));
}
void run_row_overrun(float* y) { static_cast<void>(gpu::launch({1, 1}, nullptr, row_overrun, y, 8)); }

}  // namespace
}  // namespace glia::GPU_NS

namespace glia::tests {

using namespace glia::GPU_NS;

const std::vector<Fault>& faults() {
  constexpr auto emulator = NoticedBy::emulator, address = NoticedBy::address_sanitizer;
  constexpr auto undefined = NoticedBy::undefined_sanitizer;
  static const std::vector<Fault> all{
      {"shared overrun", run_fault<shared_overrun, 32>, emulator, "wrote 0 bytes past the end of s, declared at", kSharedArray},
      {"shared overrun", run_fault<shared_overrun, 32>, address, "use-after-poison", kSharedOverrun},
      {"device overrun", run_fault<device_overrun, 64>, address, "use-after-poison", kDeviceOverrun},
      {"dynamic shared overrun", run_fault<dynamic_overrun, 33, 128>, address, "use-after-poison", kDynamicOverrun},
      {"row overrun", run_row_overrun, undefined, "index 8 out of bounds", kRowOverrun},
      {"misaligned vector", run_fault<misaligned_vector, 1>, undefined, "misaligned address", kMisalignedVector},
      {"misaligned copy", run_fault<misaligned_copy, 1>, emulator, "is not aligned to 16 bytes", kMisalignedCopy},
      {"misaligned atomic", run_fault<misaligned_atomic, 1>, emulator, "is not aligned to 8 bytes", kMisalignedAtomic},
      {"divergent barrier", run_fault<divergent_barrier, 64>, emulator, "while others wait at", kDivergentBarrier},
      {"return before a barrier", run_fault<early_return, 64>, emulator, "has returned", kEarlyReturn},
      {"shuffle in a branch", run_fault<shuffle_in_branch, 32>, emulator, "threads wait for each other", kShuffleInBranch},
      {"lane not in its mask", run_fault<not_in_mask, 32>, emulator, "its own lane is not in the mask", kNotInMask},
      {"masks that overlap", run_fault<masks_meet, 32>, emulator, "threads wait for each other", kMasksMeet},
      {"half a warp's mma", run_fault<half_a_warps_mma, 32>, emulator, "threads wait for each other", kHalfAWarpsMma},
      {"too much shared memory", run_fault<too_much_shared, 32>, emulator, "limit 49152", kTooMuchShared},
      {"too little asked for", run_fault<too_little_asked, 32, 128>, emulator, "uses 256 bytes of dynamic shared memory", 0},
  };
  return all;
}

int read_before_write(float* y) { return gpu::launch({1, 32}, nullptr, read_before_write_kernel, y); }
int wait_for_too_few_copies(const float* x, float* y) { return gpu::launch({1, 32}, nullptr, too_few_copies_kernel, x, y); }

}  // namespace glia::tests
#endif
