#pragma once
// What the host needs of a device: memory, copies, streams, events. Plain C++, no CUDA headers. One source, gpu/runtime.cu, is
// compiled twice and gives two of these: CUDA's, and the emulator's. No call throws; every call says how it went, and whoever
// asked decides what that means. CUDA itself is first touched by the first call, so a program on a machine without a
// driver may hold, but not use, the CUDA runtime.
#include <cstddef>
#include <string>
#include <vector>

namespace gpu {

// How a call went: code 0, or CUDA's error number with its name and meaning in words.
struct [[nodiscard]] Status {
  int code = 0;
  std::string text;
  bool ok() const { return code == 0; }
  bool out_of_memory() const { return code == 2; }  // cudaErrorMemoryAllocation; nothing else is wrong, the next call may work
};

using Stream = void*;  // null: the default stream. Others do not wait for it, nor it for them
using Event = void*;

enum class CopyKind { host_to_device, device_to_host, device_to_device };

struct DeviceCount {
  int count = 0;
  std::string reason;  // why there is none: no driver, driver too old, none visible. Empty otherwise
};

struct Properties {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  size_t total_memory = 0;   // bytes
  int multiprocessors = 0;
  size_t shared_per_block = 0;           // bytes a kernel may ask for
  size_t shared_per_multiprocessor = 0;  // bytes
  size_t l2_bytes = 0;
  int driver_version = 0;   // 13000 is 13.0: what the installed driver supports
  int runtime_version = 0;  // what this program was built with
};

struct Runtime {
  const char* const name;  // "cuda" or "emulated"

  // Asked once, then remembered. Any failure is "no device" with its reason.
  virtual const DeviceCount& devices() const = 0;
  // For the calling OS thread; every other call below works on its current device.
  virtual Status set_device(int device) const = 0;
  virtual Status properties(int device, Properties& properties) const = 0;
  virtual Status free_memory(size_t& free_bytes, size_t& total_bytes) const = 0;
  // Compute capabilities this program holds code for: 80, 90.
  virtual std::vector<int> compiled_architectures() const = 0;
  // An error that names both sides where the program holds no code that the current device can run.
  virtual Status check_architecture() const = 0;

  virtual Status allocate(void** pointer, size_t bytes) const = 0;
  virtual Status release(void* pointer) const = 0;  // waits for the device
  // Pinned host memory: only with it is a copy asynchronous.
  virtual Status allocate_host(void** pointer, size_t bytes) const = 0;
  virtual Status release_host(void* pointer) const = 0;

  // In stream order. Host memory that is not pinned may be reused on return; pinned memory only when the stream got there.
  virtual Status copy(void* to, const void* from, size_t bytes, CopyKind kind, Stream stream) const = 0;
  // `rows` rows of `row_bytes`, which start to_pitch and from_pitch bytes apart.
  virtual Status copy_2d(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t row_bytes, size_t rows,
                         CopyKind kind, Stream stream) const = 0;
  virtual Status set_bytes(void* to, int value, size_t bytes, Stream stream) const = 0;
  // `count` times the `pattern_bytes` (1, 2, 4 or 8) at `pattern`, which is host memory and read before the call returns.
  virtual Status fill(void* to, const void* pattern, size_t pattern_bytes, size_t count, Stream stream) const = 0;

  virtual Status create_stream(Stream* stream) const = 0;
  virtual Status destroy_stream(Stream stream) const = 0;
  virtual Status synchronize(Stream stream) const = 0;
  virtual Status synchronize_device() const = 0;

  virtual Status create_event(Event* event, bool timing) const = 0;
  virtual Status destroy_event(Event event) const = 0;
  virtual Status record(Event event, Stream stream) const = 0;
  virtual Status synchronize_event(Event event) const = 0;
  virtual Status is_reached(Event event, bool* reached) const = 0;  // never waits
  virtual Status elapsed(Event start, Event stop, float* milliseconds) const = 0;
  virtual Status wait(Stream stream, Event event) const = 0;  // the stream's later work waits for the event

  // The last error that no call of this OS thread has returned yet; take_error forgets it. A kernel's own failure comes
  // with the next call that waits, and then with every call: the device's context is lost.
  virtual Status peek_error() const = 0;
  virtual Status take_error() const = 0;
  // What a launcher got from gpu::launch, in words: with file, line and shape of the launch that was refused.
  virtual Status describe(int code) const = 0;

 protected:
  explicit constexpr Runtime(const char* name_) : name(name_) {}
  ~Runtime() = default;
};

const Runtime& emulated_runtime();
const Runtime* cuda_runtime();  // null in a program built without nvcc

}  // namespace gpu
