#pragma once
// What every file of kernels/cuda starts with: launches on the device's stream whose failures name the op, and sizes of grids.
// Such a file is compiled twice, by nvcc into namespace cuda and by the host's compiler into namespace emulated (gpu/gpu.h says
// which rules it keeps). It reads: title, kernels, launchers; the launcher owns the geometry.
#include "gpu/gpu.h"
#include "kernels/op.h"
#include "tensor/stream.h"

namespace glia::GPU_NS {

constexpr DeviceKind device_kind = GPU_EMULATED ? DeviceKind::emulated : DeviceKind::cuda;

// Throws DeviceError naming the op (the innermost MemoryScope) and where the launch stands.
void check_launch(cudaError_t error, const gpu::LaunchShape& shape);

// Runs kernel(args...) over the grid, after everything launched before it. An empty grid launches nothing.
//   launch({blocks, 256}, relu_kernel, n, x, y);
template <class... Parameters, class... Args>
void launch(const gpu::LaunchShape& shape, void (*kernel)(Parameters...), Args&&... args) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  check_launch(gpu::launch(shape, compute_stream(device_kind), kernel, std::forward<Args>(args)...), shape);
}

constexpr int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

}  // namespace glia::GPU_NS
