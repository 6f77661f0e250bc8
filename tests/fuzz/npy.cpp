#include "data/npy.h"

#include "tests/fuzz/weights.h"
#include "tests/weights_bytes.h"

namespace glia::tests {

void fuzz_npy(Bytes bytes) {
  try {
    decode_npy(bytes, "fuzz.npy");
  } catch (const DataError&) {
  }
  read_all_weights(bytes, "fuzz.npz");
  const std::string zip = zip_of({{"a.npy", std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size())}});
  read_all_weights(std::as_bytes(std::span(zip)), "fuzz.npz");
}

}  // namespace glia::tests
