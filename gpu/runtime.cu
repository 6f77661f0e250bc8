// The device as the host sees it: CUDA's own calls, and the emulator's stand-ins under the same names (gpu/runtime.h).
#include "gpu/runtime.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "gpu/gpu.h"

namespace glia::GPU_NS {
namespace {

using gpu::CopyKind;
using gpu::Event;
using gpu::Properties;
using gpu::Status;
using gpu::Stream;

std::string version_text(int version) { return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10); }

Status status(cudaError_t error) {
  if (error == cudaSuccess) return {};
  return {static_cast<int>(error), std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error)};
}

// An immediate failure stays behind in CUDA's per-thread error as well; taken off, so that the next launch is not blamed.
Status taken(cudaError_t error) {
  if (error != cudaSuccess) (void)cudaGetLastError();
  return status(error);
}

cudaMemcpyKind memcpy_kind(CopyKind kind) {
  switch (kind) {
    case CopyKind::host_to_device: return cudaMemcpyHostToDevice;
    case CopyKind::device_to_host: return cudaMemcpyDeviceToHost;
    case CopyKind::device_to_device: break;
  }
  return cudaMemcpyDeviceToDevice;
}

std::string refused_text(cudaError_t error) {
  const gpu::RefusedLaunch& r = gpu::refused_launch;
  if (error == cudaSuccess || r.error != error) return {};
  char text[256];
  std::snprintf(text, sizeof text, " (the launch at %.100s:%u: grid %ux%ux%u, block %ux%ux%u, %zu bytes of shared memory)",
                r.file, r.line, r.grid.x, r.grid.y, r.grid.z, r.block.x, r.block.y, r.block.z, r.shared_bytes);
  return text;
}

// ---- fill ---------------------------------------------------------------------------------------------------------------------

// Writes `pattern` over and over. Its period divides 16 and the address of the start, so the byte at every address is byte
// (address % 16) of the pattern: in the aligned vectors and in the bytes before and after them.
__global__ void __launch_bounds__(256) fill_kernel(unsigned char* to, uint4 pattern, size_t head, size_t vectors, size_t tail) {
  const size_t first = blockIdx.x * static_cast<size_t>(blockDim.x) + threadIdx.x;
  const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  uint4* aligned = reinterpret_cast<uint4*>(to + head);
  for (size_t i = first; i < vectors; i += step) aligned[i] = pattern;
  if (first < head + tail) {
    const unsigned words[4] = {pattern.x, pattern.y, pattern.z, pattern.w};
    const size_t at = first < head ? first : head + vectors * 16 + (first - head);
    const unsigned phase = static_cast<unsigned>((reinterpret_cast<uintptr_t>(to) + at) % 16);
    to[at] = static_cast<unsigned char>(words[phase / 4] >> (phase % 4 * 8));
  }
}

cudaError_t launch_fill(void* to, const void* pattern, size_t pattern_bytes, size_t count, Stream stream) {
  const auto start = reinterpret_cast<uintptr_t>(to);
  if (pattern_bytes == 0 || pattern_bytes > 8 || (pattern_bytes & (pattern_bytes - 1)) != 0) return cudaErrorInvalidValue;
  if (start % pattern_bytes != 0) return cudaErrorInvalidValue;
  if (count == 0) return cudaSuccess;
  uint4 repeated;
  for (size_t i = 0; i < 16; i += pattern_bytes) std::memcpy(reinterpret_cast<char*>(&repeated) + i, pattern, pattern_bytes);
  const size_t bytes = pattern_bytes * count;
  size_t head = (16 - start % 16) % 16;
  if (head > bytes) head = bytes;
  const size_t vectors = (bytes - head) / 16, tail = (bytes - head) % 16;
  const size_t blocks = (vectors + 255) / 256;
  const unsigned grid = blocks < 1 ? 1 : blocks > 4096 ? 4096 : static_cast<unsigned>(blocks);
  return gpu::launch(gpu::LaunchShape{grid, 256}, stream, fill_kernel, static_cast<unsigned char*>(to), repeated, head, vectors,
                     tail);
}

// ---- which devices ------------------------------------------------------------------------------------------------------------

gpu::DeviceCount count_devices() {
  int count = 0;  // CUDA leaves it alone where there is no driver
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return {count, {}};
  (void)cudaGetLastError();
  int driver = 0, runtime = 0;
  (void)cudaDriverGetVersion(&driver);
  (void)cudaRuntimeGetVersion(&runtime);
  if (error == cudaErrorInsufficientDriver && driver == 0) return {0, "no NVIDIA driver is installed on this machine"};
  if (error == cudaErrorInsufficientDriver)
    return {0, "the NVIDIA driver is too old: it supports CUDA " + version_text(driver) + ", this program was built with " +
                   version_text(runtime)};
  if (error == cudaErrorNoDevice || error == cudaSuccess) {
    const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
    const std::string why = visible ? std::string(" (CUDA_VISIBLE_DEVICES=") + visible + ")" : std::string();
    return {0, "the NVIDIA driver shows no GPU" + why};
  }
  return {0, status(error).text};
}

std::vector<int> architectures() {
#if GPU_EMULATED
  return {90};
#else
  std::vector<int> list{__CUDA_ARCH_LIST__};
  for (int& architecture : list) architecture /= 10;
  return list;
#endif
}

// ---- the table ----------------------------------------------------------------------------------------------------------------

struct Table final : gpu::Runtime {
  constexpr Table() : Runtime(GPU_EMULATED ? "emulated" : "cuda") {}

  const gpu::DeviceCount& devices() const override {
    static const gpu::DeviceCount count = count_devices();
    return count;
  }
  Status set_device(int device) const override { return taken(cudaSetDevice(device)); }
  Status properties(int device, Properties& properties) const override {
    cudaDeviceProp p;
    if (const cudaError_t error = cudaGetDeviceProperties(&p, device); error != cudaSuccess) return taken(error);
    properties.name = p.name;
    properties.major = p.major;
    properties.minor = p.minor;
    properties.total_memory = p.totalGlobalMem;
    properties.multiprocessors = p.multiProcessorCount;
    properties.shared_per_block = p.sharedMemPerBlockOptin;
    properties.shared_per_multiprocessor = p.sharedMemPerMultiprocessor;
    properties.l2_bytes = static_cast<size_t>(p.l2CacheSize);
    cudaError_t error = cudaDriverGetVersion(&properties.driver_version);
    if (error == cudaSuccess) error = cudaRuntimeGetVersion(&properties.runtime_version);
    return taken(error);
  }
  Status free_memory(size_t& free_bytes, size_t& total_bytes) const override {
    return taken(cudaMemGetInfo(&free_bytes, &total_bytes));
  }
  std::vector<int> compiled_architectures() const override { return architectures(); }
  Status check_architecture() const override {
    cudaFuncAttributes attributes;
    const cudaError_t error = cudaFuncGetAttributes(&attributes, fill_kernel);
    if (error != cudaErrorNoKernelImageForDevice && error != cudaErrorInvalidDeviceFunction) return taken(error);
    Status answer = taken(error);
    int device = 0;
    Properties p;
    if (cudaGetDevice(&device) != cudaSuccess || !properties(device, p).ok()) return answer;
    answer.text = "this program holds no code for device " + std::to_string(device) + " (" + p.name + ", compute capability " +
                  std::to_string(p.major) + "." + std::to_string(p.minor) + "); it was built for";
    for (const int a : architectures()) answer.text += " sm_" + std::to_string(a);
    return answer;
  }

  Status allocate(void** pointer, size_t bytes) const override { return taken(cudaMalloc(pointer, bytes)); }
  Status release(void* pointer) const override { return taken(cudaFree(pointer)); }
  Status allocate_host(void** pointer, size_t bytes) const override { return taken(cudaMallocHost(pointer, bytes)); }
  Status release_host(void* pointer) const override { return taken(cudaFreeHost(pointer)); }

  Status copy(void* to, const void* from, size_t bytes, CopyKind kind, Stream stream) const override {
    return taken(cudaMemcpyAsync(to, from, bytes, memcpy_kind(kind), static_cast<cudaStream_t>(stream)));
  }
  Status copy_2d(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t row_bytes, size_t rows, CopyKind kind,
                 Stream stream) const override {
    return taken(
        cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, row_bytes, rows, memcpy_kind(kind), static_cast<cudaStream_t>(stream)));
  }
  Status set_bytes(void* to, int value, size_t bytes, Stream stream) const override {
    return taken(cudaMemsetAsync(to, value, bytes, static_cast<cudaStream_t>(stream)));
  }
  Status fill(void* to, const void* pattern, size_t pattern_bytes, size_t count, Stream stream) const override {
    return taken(launch_fill(to, pattern, pattern_bytes, count, stream));
  }

  Status create_stream(Stream* stream) const override {
    cudaStream_t created = nullptr;
    const cudaError_t error = cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking);
    *stream = created;
    return taken(error);
  }
  Status destroy_stream(Stream stream) const override { return taken(cudaStreamDestroy(static_cast<cudaStream_t>(stream))); }
  Status synchronize(Stream stream) const override { return taken(cudaStreamSynchronize(static_cast<cudaStream_t>(stream))); }
  Status synchronize_device() const override { return taken(cudaDeviceSynchronize()); }

  Status create_event(Event* event, bool timing) const override {
    cudaEvent_t created = nullptr;
    const cudaError_t error = cudaEventCreateWithFlags(&created, timing ? cudaEventDefault : cudaEventDisableTiming);
    *event = created;
    return taken(error);
  }
  Status destroy_event(Event event) const override { return taken(cudaEventDestroy(static_cast<cudaEvent_t>(event))); }
  Status record(Event event, Stream stream) const override {
    return taken(cudaEventRecord(static_cast<cudaEvent_t>(event), static_cast<cudaStream_t>(stream)));
  }
  Status synchronize_event(Event event) const override { return taken(cudaEventSynchronize(static_cast<cudaEvent_t>(event))); }
  Status is_reached(Event event, bool* reached) const override {
    const cudaError_t error = cudaEventQuery(static_cast<cudaEvent_t>(event));
    *reached = error == cudaSuccess;
    return taken(error == cudaErrorNotReady ? cudaSuccess : error);
  }
  Status elapsed(Event start, Event stop, float* milliseconds) const override {
    return taken(cudaEventElapsedTime(milliseconds, static_cast<cudaEvent_t>(start), static_cast<cudaEvent_t>(stop)));
  }
  Status wait(Stream stream, Event event) const override {
    return taken(cudaStreamWaitEvent(static_cast<cudaStream_t>(stream), static_cast<cudaEvent_t>(event), 0));
  }

  Status peek_error() const override { return status(cudaPeekAtLastError()); }
  Status take_error() const override { return status(cudaGetLastError()); }
  Status describe(int code) const override {
    const auto error = static_cast<cudaError_t>(code);
    Status answer = status(error);
    answer.text += refused_text(error);
    return answer;
  }
};

}  // namespace

const gpu::Runtime& runtime() {
  static constexpr Table table;
  return table;
}

}  // namespace glia::GPU_NS
