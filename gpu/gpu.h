#pragma once
// The one header that a kernel file includes. The same .cu source is compiled twice: by nvcc, as CUDA; and by g++ or clang++, as
// C++ on the CPU (gpu/emulator.h), for tests, sanitizers and debuggers. The rules that make this work:
//
//   - everything in a kernel file stands in `namespace glia::GPU_NS` (glia::cuda, glia::emulated), so that both objects link
//     into one program;
//   - gpu::launch(gpu::LaunchShape{grid, block, shared_bytes}, stream, kernel, args...) instead of <<<>>>; the arguments are
//     trivially copyable. It returns a cudaError_t;
//   - GPU_SHARED(float, tile, [2][16][64]); instead of __shared__, and auto& s = gpu::dynamic_shared<Tiles>(); for what the
//     launch asked for. Both start as NaN in the emulator, with a gap around them that nobody may touch;
//   - GPU_UNROLL for #pragma unroll. PTX only inside gpu/mma.h; gpu::half and gpu::bf16 as types;
//   - a barrier is reached by every thread of the block, a warp function by every lane of its mask, at the same line;
//   - no block waits for another (no grid barrier, no spinning on a flag): the emulator runs them one after another. "The last
//     block to finish", counted with an atomic, is fine;
//   - no exceptions, allocation or std::atomic in kernels, no `__device__` or `__managed__` variables; __constant__ is fine.
//
// Look into a kernel with gdb: `break tile.cu:44 if threadIdx.x == 37 && blockIdx.x == 1` in the emulated build.

#if defined(__CUDACC__)
#define GPU_EMULATED 0
#define GPU_NS cuda
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#define GPU_SHARED(type, name, ...) __shared__ __align__(16) type name __VA_ARGS__
#define GPU_UNROLL _Pragma("unroll")

// Kernels' view of `gpu` differs between the two compilers, so each has its own inline namespace: one program may hold both.
namespace gpu::inline device_side {

using half = __half;
using half2 = __half2;
using bf16 = __nv_bfloat16;
using bf162 = __nv_bfloat162;

// The block's dynamic shared memory as the kernel's own struct or array.
template <class T>
__device__ __forceinline__ T& dynamic_shared() {
  extern __shared__ __align__(128) unsigned char gpu_dynamic_shared_bytes[];
  return *reinterpret_cast<T*>(gpu_dynamic_shared_bytes);
}

}  // namespace gpu::inline device_side

#else
#define GPU_EMULATED 1
#define GPU_NS emulated
#define GPU_UNROLL
#include "gpu/emulator.h"
#endif

#include "gpu/launch.h"
