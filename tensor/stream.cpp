#include "tensor/stream.h"

#include <atomic>
#include <cstring>
#include <utility>

#include "tensor/error.h"
#include "tensor/memory.h"

namespace glia {
namespace {

std::atomic<bool> synchronous{false};
std::atomic<int64_t> waits{0};

// What is made at a device's first use.
struct Context {
  const gpu::Runtime* runtime = nullptr;
  Device device;
  gpu::Stream stream = nullptr;

  explicit Context(Device d) : device(d) {
    require_available(d);
    runtime = d.kind == DeviceKind::cuda ? gpu::cuda_runtime() : &gpu::emulated_runtime();
    const auto need = [&](const gpu::Status& status) {
      if (!status.ok()) throw DeviceError("device {}: {}; use --device cpu", to_string(d), status.text);
    };
    need(runtime->set_device(d.index));
    need(runtime->check_architecture());
    need(runtime->create_stream(&stream));
  }
};

// Never destroyed: tensors in statics may outlive main.
Context& emulated_context() {
  static auto* context = new Context({DeviceKind::emulated});
  return *context;
}

// The first call decides on the device.
Context& cuda_context(Device device) {
  static auto* context = new Context(device);
  thread_local bool current = false;
  if (!std::exchange(current, true)) check(context->runtime->set_device(context->device.index), context->device);
  return *context;
}

Context& context(Device device) {
  GLIA_CHECK(device.kind != DeviceKind::cpu, "the CPU has no stream");
  if (device.kind == DeviceKind::emulated) return emulated_context();
  Context& c = cuda_context(device);
  GLIA_CHECK(c.device == device, "this process computes on {}, a tensor wants {}", to_string(c.device), to_string(device));
  return c;
}

}  // namespace

const gpu::Runtime& runtime_of(Device device) { return *context(device).runtime; }
gpu::Stream compute_stream(Device device) { return context(device).stream; }
gpu::Stream compute_stream(DeviceKind kind) {
  return kind == DeviceKind::emulated ? emulated_context().stream : cuda_context({kind}).stream;
}

void synchronize(Device device) {
  if (device.kind == DeviceKind::cpu) return;
  const Context& c = context(device);
  ++waits;
  check(c.runtime->synchronize(c.stream), device);
}

int64_t device_waits() { return waits; }

void set_synchronous_launches(bool on) { synchronous.store(on, std::memory_order_relaxed); }
bool synchronous_launches() { return synchronous.load(std::memory_order_relaxed); }

void check(const gpu::Status& status, Device device) {
  if (status.ok()) return;
  if (status.out_of_memory())
    throw OutOfMemoryError(fmt::format("{}: out of memory on {}: {}", memory_scope(), to_string(device), status.text));
  throw DeviceError("{} on {}: {}{}", memory_scope(), to_string(device), status.text,
                    synchronous_launches() ? "" : " (the failing kernel may be an earlier one: run with --sync to have it named)");
}

void copy_memory(void* to, Device to_device, const void* from, Device from_device, size_t bytes) {
  if (bytes == 0) return;
  const bool from_host = from_device.kind == DeviceKind::cpu, to_host = to_device.kind == DeviceKind::cpu;
  if (from_host && to_host) {
    std::memcpy(to, from, bytes);
    return;
  }
  if (!from_host && !to_host) {
    GLIA_CHECK(from_device == to_device, "copy from {} to {}: go through the host", to_string(from_device), to_string(to_device));
    check(runtime_of(to_device).copy(to, from, bytes, gpu::CopyKind::device_to_device, compute_stream(to_device)), to_device);
    return;
  }
  const Device device = from_host ? to_device : from_device;
  const auto kind = from_host ? gpu::CopyKind::host_to_device : gpu::CopyKind::device_to_host;
  if (from_host) ++waits;  // CUDA reads memory that is not pinned before it returns, at its own pace
  check(runtime_of(device).copy(to, from, bytes, kind, compute_stream(device)), device);
  if (to_host) synchronize(device);
}

}  // namespace glia
