// The libFuzzer program of one target (GLIA_FUZZ_TARGET).
#include <cstdint>

#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  glia::tests::GLIA_FUZZ_TARGET({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
