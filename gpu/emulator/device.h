#pragma once
// What the emulator's side of the runtime API shares among its files.
#include <cstddef>

#include "gpu/emulator/runtime_api.h"

namespace gpu::emulator {

cuda_names::cudaError_t note_error(cuda_names::cudaError_t error);  // for cudaGetLastError of this OS thread; gives it back

bool is_device_memory(const void* p, size_t bytes);  // all of it, within one allocation
bool is_pinned(const void* p);

}  // namespace gpu::emulator
