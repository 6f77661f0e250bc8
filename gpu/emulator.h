#pragma once
// CUDA C++ on the CPU: CUDA's names for the host compiler. Included by gpu/gpu.h, and through it by kernel files alone.
//
// A block runs on one OS thread. Its CUDA threads are fibers that switch only where they meet: at barriers and warp functions.
// A kernel without any runs as plain calls, one after the other. Where to start reading: emulator/block.h (what runs
// when), emulator/warp.h (meetings of a warp), emulator/runtime_api.h (memory, streams).
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/emulator/arithmetic.h"
#include "gpu/emulator/atomics.h"
#include "gpu/emulator/half.h"
#include "gpu/emulator/runtime_api.h"
#include "gpu/emulator/shared.h"
#include "gpu/emulator/types.h"
#include "gpu/emulator/warp.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __grid_constant__
#define __shared__ kernels_declare_shared_memory_with_GPU_SHARED

namespace gpu::inline emulated_side {

using half = cuda_names::__half;
using half2 = cuda_names::__half2;
using bf16 = cuda_names::__nv_bfloat16;
using bf162 = cuda_names::__nv_bfloat162;

// The block's dynamic shared memory as the kernel's own struct or array.
template <class T>
T& dynamic_shared() {
  if constexpr (std::is_unbounded_array_v<T>)
    return *static_cast<T*>(emulator::dynamic_shared_bytes(0));
  else
    return *static_cast<T*>(emulator::dynamic_shared_bytes(sizeof(T)));
}

}  // namespace gpu::inline emulated_side

// Kernels name CUDA's types and functions unqualified; nobody else sees them.
namespace glia::emulated {
using namespace ::gpu::cuda_names;
// glibc declares functions of these names, too, and not as CUDA means them.
using ::gpu::cuda_names::__cosf;
using ::gpu::cuda_names::__exp10f;
using ::gpu::cuda_names::__expf;
using ::gpu::cuda_names::__log10f;
using ::gpu::cuda_names::__log2f;
using ::gpu::cuda_names::__logf;
using ::gpu::cuda_names::__powf;
using ::gpu::cuda_names::__sincosf;
using ::gpu::cuda_names::__sinf;
using ::gpu::cuda_names::__tanf;
using ::gpu::cuda_names::__tanhf;
}  // namespace glia::emulated
