// Streams, events, copies and launches. One lock serialises everything the device does, so that host threads may share it.
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "gpu/emulator/block.h"
#include "gpu/emulator/device.h"

namespace gpu::emulator {

using namespace cuda_names;

struct Stream {
  std::deque<std::function<void()>> queue;
};

// One recording of an event.
struct Mark {
  Stream* stream = nullptr;
  bool reached = false;
  std::chrono::steady_clock::time_point at;
};
struct Event {
  std::shared_ptr<Mark> mark;  // null until recorded
};

cudaError_t note_error(cudaError_t error);

namespace {

thread_local cudaError_t last_error = cudaSuccess;

// Of a kernel that failed: what every call that waits returns from then on. The device's context is lost.
cudaError_t lost = cudaSuccess;
uint64_t kernels_run = 0;

void run_kernel(dim3 grid, dim3 block, size_t shared_bytes, const KernelCall& call) {
  if (++kernels_run == emulator_config().failing_kernel) lost = cudaErrorLaunchFailure;
  if (lost == cudaSuccess) Block::of_this_os_thread().run_grid(grid, block, shared_bytes, call);
}
cudaError_t after_wait() { return lost == cudaSuccess ? lost : note_error(lost); }

std::recursive_mutex& device_mutex() {
  static auto* mutex = new std::recursive_mutex;  // static destructors may still use the device
  return *mutex;
}
using Lock = std::lock_guard<std::recursive_mutex>;

Stream& default_stream() {
  static auto* stream = new Stream;
  return *stream;
}
std::vector<Stream*>& streams() {
  static auto* all = new std::vector<Stream*>{&default_stream()};
  return *all;
}
Stream& stream_of(void* handle) { return handle ? *static_cast<Stream*>(handle) : default_stream(); }

void run_one(Stream& stream) {
  const std::function<void()> work = std::move(stream.queue.front());
  stream.queue.pop_front();
  work();
}
void drain(Stream& stream) {
  while (!stream.queue.empty()) run_one(stream);
}
void reach(const Mark& mark) {
  while (!mark.reached) run_one(*mark.stream);
}

template <class Work>
void submit(Stream& stream, Work work) {
  if (emulator_config().deferred_streams) {
    stream.queue.push_back(std::move(work));
  } else {
    drain(stream);
    work();
  }
}

// A queued kernel keeps its own copy of the arguments.
std::shared_ptr<void> copy_arguments(const KernelCall& call) {
  constexpr std::align_val_t alignment{64};
  std::shared_ptr<void> data(::operator new(call.bytes, alignment), [](void* p) { ::operator delete(p, std::align_val_t{64}); });
  std::memcpy(data.get(), call.data, call.bytes);
  return data;
}

bool directions_hold(const void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  return (!to_device || is_device_memory(to, bytes)) && (!from_device || is_device_memory(from, bytes));
}

struct Rows {
  void* to;
  size_t to_pitch;
  const void* from;
  size_t from_pitch, row_bytes, rows;
};
void copy_rows(const Rows& r) {
  for (size_t i = 0; i < r.rows; ++i)
    std::memmove(static_cast<char*>(r.to) + i * r.to_pitch, static_cast<const char*>(r.from) + i * r.from_pitch, r.row_bytes);
}

// Host memory that is not pinned is read before the call returns, or written before it returns, as on a device.
cudaError_t copy(const Rows& rows, cudaMemcpyKind kind, Stream& stream) {
  if (rows.row_bytes == 0 || rows.rows == 0) return cudaSuccess;
  const size_t to_bytes = (rows.rows - 1) * rows.to_pitch + rows.row_bytes;
  const size_t from_bytes = (rows.rows - 1) * rows.from_pitch + rows.row_bytes;
  if (rows.to_pitch < rows.row_bytes || rows.from_pitch < rows.row_bytes) return note_error(cudaErrorInvalidValue);
  if (!directions_hold(rows.to, rows.from, kind == cudaMemcpyDeviceToHost ? from_bytes : to_bytes, kind) ||
      (kind == cudaMemcpyDeviceToDevice && !is_device_memory(rows.from, from_bytes)))
    return note_error(cudaErrorInvalidValue);
  const Lock lock(device_mutex());
  if (kind == cudaMemcpyHostToDevice && emulator_config().deferred_streams && !is_pinned(rows.from)) {
    const auto staged = std::make_shared<std::vector<char>>(static_cast<const char*>(rows.from),
                                                            static_cast<const char*>(rows.from) + from_bytes);
    submit(stream, [=] { copy_rows({rows.to, rows.to_pitch, staged->data(), rows.from_pitch, rows.row_bytes, rows.rows}); });
  } else {
    submit(stream, [rows] { copy_rows(rows); });
  }
  if (kind != cudaMemcpyDeviceToHost || is_pinned(rows.to)) return cudaSuccess;
  drain(stream);
  return after_wait();
}

cudaError_t check_shape(dim3 grid, dim3 block, size_t shared_bytes) {
  const uint64_t threads = static_cast<uint64_t>(block.x) * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.x > 1024 || block.y > 1024 || block.z > 64) return cudaErrorInvalidConfiguration;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    return cudaErrorInvalidConfiguration;
  return shared_bytes > kBlockShared ? cudaErrorInvalidValue : cudaSuccess;
}

}  // namespace

cudaError_t note_error(cudaError_t error) {
  last_error = error;
  return error;
}

cudaError_t launch(dim3 grid, dim3 block, size_t shared_bytes, void* stream, const KernelCall& call) {
  if (current.thread) fail("a kernel cannot launch another here");
  if (const cudaError_t error = check_shape(grid, block, shared_bytes); error != cudaSuccess) return error;
  const Lock lock(device_mutex());
  Stream& queue = stream_of(stream);
  if (emulator_config().deferred_streams) {
    queue.queue.push_back([=, run = call.run, bytes = call.bytes, data = copy_arguments(call)] {
      run_kernel(grid, block, shared_bytes, {run, data.get(), bytes});
    });
  } else {
    drain(queue);
    run_kernel(grid, block, shared_bytes, call);
  }
  return cudaSuccess;
}

}  // namespace gpu::emulator

namespace gpu::cuda_names {

using emulator::device_mutex;
using emulator::Lock;
using emulator::note_error;
using emulator::stream_of;
using emulator::submit;

// ---- copies -------------------------------------------------------------------------------------------------------------------

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return emulator::copy({to, bytes, from, bytes, bytes, 1}, kind, stream_of(stream));
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  return error == cudaSuccess ? cudaStreamSynchronize(nullptr) : error;
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t row_bytes, size_t rows,
                              cudaMemcpyKind kind, cudaStream_t stream) {
  return emulator::copy({to, to_pitch, from, from_pitch, row_bytes, rows}, kind, stream_of(stream));
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  if (!emulator::is_device_memory(to, bytes)) return note_error(cudaErrorInvalidValue);
  const Lock lock(device_mutex());
  submit(stream_of(stream), [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) { return cudaMemsetAsync(to, value, bytes, nullptr); }
cudaError_t copy_to_symbol(void* symbol, size_t symbol_bytes, const void* from, size_t bytes, size_t offset,
                           cudaStream_t stream) {
  if (offset > symbol_bytes || bytes > symbol_bytes - offset) return note_error(cudaErrorInvalidValue);
  const Lock lock(device_mutex());
  const auto staged = std::make_shared<std::vector<char>>(static_cast<const char*>(from), static_cast<const char*>(from) + bytes);
  submit(stream_of(stream), [=] { std::memcpy(static_cast<char*>(symbol) + offset, staged->data(), staged->size()); });
  return cudaSuccess;
}

// ---- streams ------------------------------------------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const Lock lock(device_mutex());
  emulator::streams().push_back(*stream = new emulator::Stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (!stream) return note_error(cudaErrorInvalidValue);
  const Lock lock(device_mutex());
  emulator::drain(*stream);
  std::erase(emulator::streams(), stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Lock lock(device_mutex());
  emulator::drain(stream_of(stream));
  return emulator::after_wait();
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const Lock lock(device_mutex());
  emulator::Stream& s = stream_of(stream);
  if (s.queue.empty()) return cudaSuccess;
  emulator::run_one(s);  // whoever asks again and again gets there
  return note_error(cudaErrorNotReady);
}
cudaError_t cudaDeviceSynchronize() {
  const Lock lock(device_mutex());
  for (emulator::Stream* s : emulator::streams()) emulator::drain(*s);
  return emulator::after_wait();
}

// ---- events -------------------------------------------------------------------------------------------------------------------

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new emulator::Event;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (!event) return note_error(cudaErrorInvalidValue);
  const Lock lock(device_mutex());
  delete event;  // what waits for its last recording still does
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Lock lock(device_mutex());
  emulator::Stream& s = stream_of(stream);
  event->mark = std::make_shared<emulator::Mark>();
  event->mark->stream = &s;
  submit(s, [mark = event->mark] {
    mark->reached = true;
    mark->at = std::chrono::steady_clock::now();
  });
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Lock lock(device_mutex());
  if (event->mark) emulator::reach(*event->mark);
  return emulator::after_wait();
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Lock lock(device_mutex());
  if (!event->mark || event->mark->reached) return cudaSuccess;
  emulator::run_one(*event->mark->stream);
  return note_error(cudaErrorNotReady);
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t stop) {
  const Lock lock(device_mutex());
  if (!start->mark || !stop->mark) return note_error(cudaErrorInvalidValue);
  if (!start->mark->reached || !stop->mark->reached) return note_error(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(stop->mark->at - start->mark->at).count();
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Lock lock(device_mutex());
  if (event->mark && !event->mark->reached) submit(stream_of(stream), [mark = event->mark] { emulator::reach(*mark); });
  return cudaSuccess;
}

// ---- errors and the device ----------------------------------------------------------------------------------------------------

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidMemcpyDirection: return "cudaErrorInvalidMemcpyDirection";
    case cudaErrorInsufficientDriver: return "cudaErrorInsufficientDriver";
    case cudaErrorInvalidDeviceFunction: return "cudaErrorInvalidDeviceFunction";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorNoKernelImageForDevice: return "cudaErrorNoKernelImageForDevice";
    case cudaErrorNotReady: return "cudaErrorNotReady";
  }
  return "unrecognized error code";
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInvalidMemcpyDirection: return "invalid copy direction for memcpy";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorInvalidDeviceFunction: return "invalid device function";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorLaunchFailure: return "unspecified launch failure";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorNoKernelImageForDevice: return "no kernel image is available for execution on the device";
    case cudaErrorNotReady: return "device not ready";
  }
  return "unrecognized error code";
}
cudaError_t cudaGetLastError() { return std::exchange(emulator::last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return emulator::last_error; }

cudaError_t cudaGetDeviceCount(int* count) {
  switch (emulator_config().fault) {
    case MachineFault::no_driver:
    case MachineFault::old_driver: return note_error(cudaErrorInsufficientDriver);
    case MachineFault::no_gpu: return note_error(cudaErrorNoDevice);
    default: break;
  }
  *count = 1;
  return cudaSuccess;
}
cudaError_t find_code() {
  return emulator_config().fault == MachineFault::no_code ? note_error(cudaErrorNoKernelImageForDevice) : cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : note_error(cudaErrorInvalidDevice); }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return note_error(cudaErrorInvalidDevice);
  size_t free_bytes = 0;
  *properties = {"CUDA emulated on the CPU", 9, 0, 0, emulator_config().multiprocessors, emulator::kBlockShared,
                 emulator::kBlockShared + 1024, 50 << 20};
  return cudaMemGetInfo(&free_bytes, &properties->totalGlobalMem);
}
cudaError_t cudaDriverGetVersion(int* version) {
  const MachineFault fault = emulator_config().fault;
  *version = fault == MachineFault::no_driver ? 0 : fault == MachineFault::old_driver ? 11040 : 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

}  // namespace gpu::cuda_names
