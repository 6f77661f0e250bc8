#pragma once
// Kernels with one race each, and kernels that only look as if they had one.
#include <vector>

#include "gpu/runtime.h"

namespace glia::tests {

struct Race {
  const char* name;
  int (*run)(float* device_floats);       // 1024 of them; a CUDA error code
  unsigned first_line = 0, second_line = 0;  // of races.cu, both named; 0: there is no race
};
const std::vector<Race>& races();
int write_through(float* pointer);  // one thread writes there

}  // namespace glia::tests
