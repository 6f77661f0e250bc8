#pragma once
// Every wrapper of gpu/mma.h and every warp, bit, conversion and atomic function that the emulator imitates, one warp at work on words
// that the test chooses. conformance.cu is compiled once per side; test_conformance.cpp says what each should give.
#include <vector>

#include "gpu/runtime.h"

namespace glia::tests {

struct Probe {
  const char* name;
  int in_words, out_words;
  int (*run)(const unsigned* in, unsigned* out, gpu::Stream stream);  // device pointers; a CUDA error code
};

}  // namespace glia::tests

namespace glia::emulated {
const std::vector<tests::Probe>& conformance_probes();
}
namespace glia::cuda {
const std::vector<tests::Probe>& conformance_probes();
}
