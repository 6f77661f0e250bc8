#pragma once
// Kernels with one race each, and kernels that only look as if they had one.
#include <vector>

#include "gpu/runtime.h"

namespace glia::tests {

struct Race {
  const char* name;
  int (*run)(float* device_floats);  // 1024 of them; a CUDA error code
  struct Lines {
    unsigned first, second;
  };
  Lines lines{};  // of races.cu, both named; zeros: there is no race
};
const std::vector<Race>& races();
int write_through(float* pointer);  // one thread writes there

}  // namespace glia::tests
