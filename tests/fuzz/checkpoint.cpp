#include "train/checkpoint.h"

#include "data/safetensors.h"
#include "tensor/error.h"
#include "tests/fuzz/targets.h"

namespace glia::tests {

void fuzz_checkpoint(Bytes bytes) {
  try {
    // Checksums, which no mutation keeps, are left to safetensors' target.
    const Checkpoint c = checkpoint_of(SafetensorsFile(bytes, "fuzz.safetensors"), "fuzz.safetensors");
    for (const auto& [name, value] : c.state.values()) {
      try {
        c.state.number(name);
        c.state.integer(name, 0);
      } catch (const DataError&) {  // a text
      }
    }
    c.inference_weights();
  } catch (const DataError&) {
  }
}

}  // namespace glia::tests
