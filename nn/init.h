#pragma once
// Initial values of parameters, by the names that Keras and PyTorch use. Each parameter's numbers depend on (seed, its dotted
// name) alone: adding a layer elsewhere changes nothing.
#include <cstdint>
#include <string_view>

#include "tensor/tensor.h"

namespace glia {

// With fan_in = input channels x window, fan_out = output channels x window, n = the fan that is used:
enum class Initializer : uint8_t {
  zeros,
  ones,
  glorot_uniform,          // U(+-sqrt(6 / (fan_in + fan_out))): Keras' default kernel
  glorot_normal,           // truncated N(0, 2 / (fan_in + fan_out))
  he_uniform,              // U(+-sqrt(6 / fan_in))
  he_normal,               // truncated N(0, 2 / fan_in), Keras
  lecun_normal,            // truncated N(0, 1 / fan_in)
  torch_default,           // U(+-1/sqrt(fan_in)): PyTorch's kaiming_uniform(a = sqrt 5) for weights, and its rule for biases
  kaiming_normal_fan_out,  // N(0, 2 / fan_out), not truncated (torchvision's ResNet)
  kaiming_uniform_a1,      // U(+-sqrt(3 / fan_in)): Caffe2's XavierFill
  normal_0_01,             // N(0, 0.01^2), and 0.001^2: the predictors of Faster R-CNN
  normal_0_001,
};

// Keras' truncated normal: cut at two deviations, and widened so that the variance is the one that was asked for. Filters of
// transposed convolutions count their output channels as fan_in, in Keras and PyTorch alike.
struct Fans {
  double in = 1;
  double out = 1;
};

Initializer parse_initializer(std::string_view name);  // UsageError for an unknown name
std::string_view name_of(Initializer initializer);

void initialize(const Tensor& t, Initializer initializer, Fans fans, uint64_t seed, std::string_view name);

// FNV-1a, 64 bits: the stream number of a name.
constexpr uint64_t fnv1a(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return hash;
}

}  // namespace glia
