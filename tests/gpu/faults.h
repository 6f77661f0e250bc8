#pragma once
// Kernels with one mistake each, and what has to be said of them. Emulator only.
#include <vector>

#include "gpu/runtime.h"

namespace glia::tests {

// Who has to notice: the emulator by itself, or the sanitizers with it.
enum class NoticedBy { emulator, address_sanitizer, undefined_sanitizer };

struct Fault {
  const char* name;
  void (*run)(float* device_floats);  // 64 of them
  NoticedBy by;
  const char* message;  // part of what is said
  unsigned line;        // of faults.cu, which is named too
};
const std::vector<Fault>& faults();

// Mistakes whose result is NaN: y[0..31]. Each gives a CUDA error code.
int read_before_write(float* y);
int wait_for_too_few_copies(const float* x, float* y);

}  // namespace glia::tests
