// One race per kernel. The constants before each say in which lines its two accesses stand.
#include "tests/gpu/races.h"

#include "gpu/gpu.h"
#include "gpu/mma.h"

#if GPU_EMULATED
namespace glia::GPU_NS {
namespace {

using Lines = tests::Race::Lines;

constexpr Lines kNoBarrier{__LINE__ + 3, __LINE__ + 4};
__global__ void no_barrier(float* y) {
  GPU_SHARED(float, s, [64]);
  s[threadIdx.x] = 1;
  y[threadIdx.x] = s[63 - threadIdx.x];
}

constexpr Lines kNoBarrierInLoop{__LINE__ + 6, __LINE__ + 4};
__global__ void no_barrier_in_loop(float* y) {
  GPU_SHARED(float, s, [64]);
  for (int i = 0; i < 2; ++i) {
    s[threadIdx.x] = float(i);
    __syncthreads();
    y[threadIdx.x] += s[63 - threadIdx.x];
  }
}

constexpr Lines kReaderWrites{__LINE__ + 5, __LINE__ + 6};
__global__ void reader_writes(float* y) {
  GPU_SHARED(float, s);
  if (threadIdx.x == 0) s = 1;
  __syncthreads();
  const float v = s;
  if (threadIdx.x == 63) s = v + 1;
  y[threadIdx.x] = v;
}

constexpr Lines kPlainSum{__LINE__ + 1, __LINE__ + 1};
__global__ void plain_sum(float* y) { y[0] += 1; }

constexpr Lines kAtomicAndPlain{__LINE__ + 2, __LINE__ + 3};
__global__ void atomic_and_plain(float* y) {
  atomicAdd(y, 1.0f);
  y[threadIdx.x + 1] = y[0];
}

constexpr Lines kNoWarpBarrier{__LINE__ + 3, __LINE__ + 5};
__global__ void no_warp_barrier(float* y) {
  GPU_SHARED(float, s, [32]);
  s[threadIdx.x] = 1;
  const float v = __shfl_xor_sync(0xffffffffu, 1.0f, 1);  // exchanges values, orders nothing
  y[threadIdx.x] = v + s[31 - threadIdx.x];
}

constexpr Lines kPartialWarpBarrier{__LINE__ + 3, __LINE__ + 5};
__global__ void partial_warp_barrier(float* y) {
  GPU_SHARED(float, s, [32]);
  s[threadIdx.x] = 1;
  __syncwarp(threadIdx.x < 16 ? 0xffffu : 0xffff0000u);  // not with the lanes that are read next
  y[threadIdx.x] = s[31 - threadIdx.x];
}

constexpr Lines kNotTheWholeWarp{__LINE__ + 3, __LINE__ + 5};
__global__ void not_the_whole_warp(float* y) {
  GPU_SHARED(float, s, [32]);
  s[threadIdx.x] = 1;
  if (threadIdx.x < 8) __syncwarp(0xff);
  y[threadIdx.x] = s[(threadIdx.x + 8) % 32];
}

constexpr Lines kBetweenBlocks{__LINE__ + 2, __LINE__ + 3};
__global__ void between_blocks(float* y) {
  if (blockIdx.x == 0) y[threadIdx.x] = 1;
  if (blockIdx.x == 1) y[threadIdx.x + 32] = y[threadIdx.x];
}

constexpr Lines kNoFence{__LINE__ + 3, __LINE__ + 7};
__global__ void no_fence(float* y) {
  GPU_SHARED(bool, last);
  if (threadIdx.x == 0) y[1 + blockIdx.x] = 1;
  if (threadIdx.x == 0) last = atomicAdd(reinterpret_cast<unsigned*>(y), 1u) == gridDim.x - 1;
  __syncthreads();
  if (last && threadIdx.x < gridDim.x)
    y[32 + threadIdx.x] = y[1 + threadIdx.x];
}

constexpr Lines kNoBarrierAfterCopy{__LINE__ + 3, __LINE__ + 6};
__global__ void no_barrier_after_copy(float* y) {
  GPU_SHARED(float, s, [32]);
  gpu::cp_async4(&s[threadIdx.x], y + threadIdx.x);
  gpu::cp_async_commit();
  gpu::cp_async_wait<0>();
  y[32 + threadIdx.x] = s[31 - threadIdx.x];
}

// ---- no races -----------------------------------------------------------------------------------------------------------------

__global__ void halves_of_a_word(float* y) {
  GPU_SHARED(gpu::bf16, s, [64]);
  s[threadIdx.x] = gpu::bf16(1.0f);
  __syncthreads();
  y[threadIdx.x] = float(s[63 - threadIdx.x]);
  reinterpret_cast<unsigned char*>(y + 64)[threadIdx.x] = 1;
}

__global__ void warp_barriers(float* y) {
  GPU_SHARED(float, s, [32]);
  s[threadIdx.x] = 1;
  if (threadIdx.x < 16) __syncwarp(0xffff);
  __syncwarp();
  y[threadIdx.x] = s[31 - threadIdx.x];
  __syncwarp();
  s[31 - threadIdx.x] = 2;
}

__global__ void fenced(float* y) {
  GPU_SHARED(bool, last);
  y[1 + blockIdx.x * 32 + threadIdx.x] = 1;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(reinterpret_cast<unsigned*>(y), 1u) == gridDim.x - 1;
  __syncthreads();
  if (last)
    for (unsigned i = 0; i < gridDim.x; ++i) y[512 + threadIdx.x] += y[1 + i * 32 + threadIdx.x];
}

__constant__ float table[4] = {1, 2, 3, 4};
__global__ void reads_and_atomics(float* y) {
  const float steps[2] = {0.5f, 1.5f};
  atomicAdd(y + 1, steps[threadIdx.x % 2] + table[threadIdx.x % 4] + y[0]);
}

__global__ void write_kernel(float* pointer) { *pointer = 1; }

template <auto kernel, int blocks, int threads>
int run_race(float* y) {
  return gpu::launch({blocks, threads}, nullptr, kernel, y);
}

}  // namespace
}  // namespace glia::GPU_NS

namespace glia::tests {

using namespace glia::GPU_NS;

const std::vector<Race>& races() {
  static const std::vector<Race> all{
      {"no barrier", run_race<no_barrier, 1, 64>, kNoBarrier},
      {"no barrier in a loop", run_race<no_barrier_in_loop, 1, 64>, kNoBarrierInLoop},
      {"one of the readers writes", run_race<reader_writes, 1, 64>, kReaderWrites},
      {"a sum that is not atomic", run_race<plain_sum, 2, 1>, kPlainSum},
      {"atomic and plain", run_race<atomic_and_plain, 1, 2>, kAtomicAndPlain},
      {"no warp barrier", run_race<no_warp_barrier, 1, 32>, kNoWarpBarrier},
      {"a warp barrier without the lanes that matter", run_race<partial_warp_barrier, 1, 32>, kPartialWarpBarrier},
      {"a warp barrier of some", run_race<not_the_whole_warp, 1, 32>, kNotTheWholeWarp},
      {"between blocks", run_race<between_blocks, 2, 32>, kBetweenBlocks},
      {"no fence", run_race<no_fence, 4, 32>, kNoFence},
      {"no barrier after an asynchronous copy", run_race<no_barrier_after_copy, 1, 32>, kNoBarrierAfterCopy},
      {"halves of a word", run_race<halves_of_a_word, 1, 64>},
      {"warp barriers", run_race<warp_barriers, 1, 32>},
      {"fenced", run_race<fenced, 4, 32>},
      {"reads and atomics", run_race<reads_and_atomics, 4, 64>},
  };
  return all;
}

int write_through(float* pointer) { return gpu::launch({1, 1}, nullptr, write_kernel, pointer); }

}  // namespace glia::tests
#endif
