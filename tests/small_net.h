#pragma once
// A network of one layer of each common kind, and noise to put into networks.
#include "nn/layers.h"

namespace glia::tests {

struct SmallNet : Module {
  nn::Conv2d conv{{.in = 2, .out = 3, .pad = nn::same_pad(3)}};
  nn::BatchNorm2d norm{3};
  nn::Linear linear{3, 1};
  SmallNet() {
    add("conv", conv);
    add("body.norm", norm);
    add("linear", linear);
  }
  Tensor operator()(const Tensor& x) { return linear(norm(conv(x), Activation::relu)); }
};

inline Tensor noise(const Shape& shape, uint64_t seed) {
  Tensor t(shape);
  initialize(t, Initializer::he_normal, {}, seed, "noise");
  return t;
}

}  // namespace glia::tests
