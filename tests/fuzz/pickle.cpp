#include "tests/fuzz/weights.h"
#include "tests/weights_bytes.h"

namespace glia::tests {

void fuzz_pickle(Bytes bytes) {
  read_all_weights(bytes, "fuzz.pkl");
  // The same bytes in an archive whose checksums are right, with two storages to point at.
  const std::string pickle(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::string zip = torch_zip(pickle, {{"a/data/0", std::string(16, '\1')}, {"a/data/1", std::string(256, '\2')}});
  read_all_weights(std::as_bytes(std::span(zip)), "fuzz.pth");
}

}  // namespace glia::tests
