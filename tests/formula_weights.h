#pragma once
// The weights of fixtures of whole networks: a formula instead of a file. Element i (in the checkpoint's layout) of the parameter
// NAME is offset + scale u(NAME, i, seed), with u in [-1, 1) from SplitMix64 seeded by FNV-1a of the name.
#include <string>

#include "nn/init.h"
#include "tensor/tensor.h"

namespace glia::tests {

inline Tensor formula_weights(const std::string& name, const Shape& shape, double scale, double offset, uint64_t seed) {
  constexpr uint64_t golden = 0x9E3779B97F4A7C15u;
  const uint64_t state = fnv1a(name) + seed * golden;
  Tensor t(shape);
  for (int64_t i = 0; i < t.size(); ++i) {
    uint64_t z = state + static_cast<uint64_t>(i + 1) * golden;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    t.data<float>()[i] = static_cast<float>(offset + scale * (double(z >> 40) * 0x1p-23 - 1));
  }
  return t;
}

}  // namespace glia::tests
