// Errors of launches.
#include "kernels/cuda/launch.cuh"

namespace glia::GPU_NS {

void check_launch(cudaError_t error, const gpu::LaunchShape& shape) {
  if (error == cudaSuccess && synchronous_launches())
    error = cudaStreamSynchronize(static_cast<cudaStream_t>(compute_stream(device_kind)));
  if (error == cudaSuccess) return;
  const dim3 g = shape.grid, b = shape.block;
  throw DeviceError("{}: kernel at {}:{}, grid {}x{}x{}, block {}x{}x{}, {} bytes of shared memory: {}", memory_scope(), shape.file,
                    shape.line, g.x, g.y, g.z, b.x, b.y, b.z, shape.shared_bytes, cudaGetErrorString(error));
}

}  // namespace glia::GPU_NS
