#pragma once
// Equality to the bit: of tensors, and of what a network or a training keeps.
#include <cstring>
#include <map>
#include <string>

#include "tensor/tensor.h"

namespace glia::tests {

// Shapes, types and bytes. Two absent tensors are equal.
inline bool same_bits(const Tensor& a, const Tensor& b) {
  if (!a || !b) return !a == !b;
  return a.shape() == b.shape() && a.dtype() == b.dtype() && (a.bytes() == 0 || std::memcmp(a.raw(), b.raw(), a.bytes()) == 0);
}

inline bool same_bits(const std::map<std::string, Tensor>& a, const std::map<std::string, Tensor>& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, tensor] : a) {
    const auto other = b.find(name);
    if (other == b.end() || !same_bits(tensor, other->second)) return false;
  }
  return true;
}

}  // namespace glia::tests
