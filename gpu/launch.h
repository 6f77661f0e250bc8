#pragma once
// Starting a kernel. Included by gpu/gpu.h.
#include <cstddef>
#include <type_traits>
#include <utility>

#if defined(__CUDACC__)
#include <map>
#include <mutex>
#endif

#if GPU_EMULATED
namespace gpu::inline emulated_side {
using namespace cuda_names;  // dim3, cudaError_t
#else
namespace gpu::inline device_side {
#endif

// A dim3, or a count of any integer type. A negative count, or one that does not fit, becomes one that every launch refuses.
struct Extent {
  Extent(dim3 size_) : size(size_) {}
  template <class Integer>
    requires std::is_integral_v<Integer>
  Extent(Integer n) : size(std::in_range<unsigned>(n) ? static_cast<unsigned>(n) : ~0u) {}

  dim3 size;
};

// Blocks, threads of a block, bytes of dynamic shared memory, and where the launch stands in the source.
struct LaunchShape {
  LaunchShape(Extent grid_, Extent block_, size_t shared_bytes_ = 0, const char* file_ = __builtin_FILE(),
              unsigned line_ = __builtin_LINE())
      : grid(grid_.size), block(block_.size), shared_bytes(shared_bytes_), file(file_), line(line_) {}

  dim3 grid;
  dim3 block;
  size_t shared_bytes;
  const char* file;
  unsigned line;
};

// The last launch of this OS thread that was refused; Runtime::describe adds it to the error's text.
struct RefusedLaunch {
  cudaError_t error = cudaSuccess;
  const char* file = nullptr;
  unsigned line = 0;
  dim3 grid, block;
  size_t shared_bytes = 0;
};
inline thread_local RefusedLaunch refused_launch;

inline cudaError_t note_refused(const LaunchShape& shape, cudaError_t error) {
  refused_launch = {error, shape.file, shape.line, shape.grid, shape.block, shape.shared_bytes};
  return error;
}

#if GPU_EMULATED

// `stream` is a cudaStream_t or Runtime's opaque handle of one; null is the default stream.
template <class... Parameters, class... Arguments>
cudaError_t launch(const LaunchShape& shape, void* stream, void (*kernel)(Parameters...), Arguments&&... arguments) {
  static_assert((std::is_trivially_copyable_v<Parameters> && ...), "kernel arguments are copied byte by byte");
  auto call = [kernel, ... values = static_cast<Parameters>(arguments)] { kernel(values...); };
  using Call = decltype(call);
  const emulator::KernelCall erased{[](const void* p) { (*static_cast<const Call*>(p))(); }, &call, sizeof(Call)};
  static_assert(alignof(Call) <= 64 && std::is_trivially_copyable_v<Call>);
  const cudaError_t error = emulator::launch(shape.grid, shape.block, shape.shared_bytes, stream, erased);
  return error == cudaSuccess ? error : note_refused(shape, error);
}

#else

// A kernel may use more than 48 KB of dynamic shared memory after asking once, per kernel and device.
inline cudaError_t allow_shared_bytes(const void* kernel, size_t bytes) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, size_t> allowed;
  int device = 0;
  if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) return error;
  const std::lock_guard lock(mutex);
  size_t& most = allowed[{kernel, device}];
  if (bytes <= most) return cudaSuccess;
  const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error == cudaSuccess) most = bytes;
  return error;
}

template <class... Parameters, class... Arguments>
cudaError_t launch(const LaunchShape& shape, void* stream, void (*kernel)(Parameters...), Arguments&&... arguments) {
  static_assert((std::is_trivially_copyable_v<Parameters> && ...), "kernel arguments are copied byte by byte");
  if (shape.shared_bytes > 48 * 1024) {
    const cudaError_t error = allow_shared_bytes(reinterpret_cast<const void*>(kernel), shape.shared_bytes);
    if (error != cudaSuccess) return note_refused(shape, error);
  }
  kernel<<<shape.grid, shape.block, shape.shared_bytes, static_cast<cudaStream_t>(stream)>>>(
      static_cast<Parameters>(arguments)...);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? error : note_refused(shape, error);
}

#endif

}  // namespace
