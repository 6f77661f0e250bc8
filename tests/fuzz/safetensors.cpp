#include "data/safetensors.h"

#include "tests/fuzz/weights.h"

namespace glia::tests {

void fuzz_safetensors(Bytes bytes) {
  try {
    const SafetensorsFile file(bytes, "fuzz.safetensors");
    for (const SafetensorsEntry& e : file.entries()) {
      try {
        file.load(e.name);
      } catch (const DataError&) {  // a type or rank that Tensor has not
      }
    }
    file.verify();
  } catch (const DataError&) {
  }
  read_all_weights(bytes, "fuzz.safetensors");
}

}  // namespace glia::tests
