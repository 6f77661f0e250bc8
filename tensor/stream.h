#pragma once
// The order of work on a device. A process computes on one CUDA device; everything it launches goes to that device's one compute
// stream, so a kernel sees what was launched before it, and memory can be reused as soon as its last user was launched.
#include <cstddef>
#include <cstdint>

#include "gpu/runtime.h"
#include "tensor/device.h"

namespace glia {

// The runtime of a device that is not the CPU, its device made current. Throws DeviceError that says why it cannot be used.
const gpu::Runtime& runtime_of(Device device);

gpu::Stream compute_stream(Device device);
gpu::Stream compute_stream(DeviceKind kind);  // of the process's device of that kind, in use already

// Waits until the device has done all that was launched. Throws DeviceError when something failed meanwhile; returns at once for the
// CPU.
void synchronize(Device device);

// How often the host has waited for a device so far, or made a copy that may wait: a training step is to add nothing.
int64_t device_waits();

// While on, every launch waits for its kernel, so that a failure names the op that caused it (--sync).
void set_synchronous_launches(bool on);
bool synchronous_launches();

// Throws what a status that is not ok means: OutOfMemoryError or DeviceError naming the innermost MemoryScope.
void check(const gpu::Status& status, Device device);

// Copies between any two devices, in the order of the compute stream. Returns when the source may be overwritten and, if the
// destination is the host, the bytes are there.
void copy_memory(void* to, Device to_device, const void* from, Device from_device, size_t bytes);

}  // namespace glia
