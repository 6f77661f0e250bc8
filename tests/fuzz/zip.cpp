#include "data/zip.h"

#include "tensor/error.h"
#include "tests/fuzz/targets.h"

namespace glia::tests {

void fuzz_zip(Bytes bytes) {
  try {
    // An input of some KB may decode to 8 MB, so that one is done in milliseconds.
    const ZipFile zip(bytes, "fuzz.zip", {.bytes = uint64_t{8} << 20, .member = uint64_t{8} << 20});
    for (const ZipEntry& e : zip.entries()) {
      try {
        zip.read(e);
      } catch (const DataError&) {  // the others may be whole
      }
      zip.stored(e);
    }
  } catch (const DataError&) {
  }
}

}  // namespace glia::tests
