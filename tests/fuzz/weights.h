#pragma once
// What the targets of files of weights share.
#include <string>

#include "data/weights.h"
#include "tensor/error.h"
#include "tests/fuzz/targets.h"

namespace glia::tests {

// Reads the bytes as whatever file of weights they are, and its tensors up to 1 MB: one may repeat its bytes to 16 MB, and
// thousands of those are slow rather than wrong.
inline void read_all_weights(Bytes bytes, const std::string& name) {
  try {
    const Weights weights = parse_weights(bytes, name);
    uint64_t left = uint64_t{1} << 20;
    for (const StoredTensor& t : weights.tensors) {
      if (t.byte_count() > left) break;
      left -= t.byte_count();
      try {
        weights.load(t);
      } catch (const DataError&) {  // a type or rank that Tensor has not
      }
    }
    model_weights(weights);
  } catch (const DataError&) {
  }
}

}  // namespace glia::tests
