#include "tests/fuzz/weights.h"

namespace glia::tests {

void fuzz_hdf5(Bytes bytes) { read_all_weights(bytes, "fuzz.h5"); }

}  // namespace glia::tests
