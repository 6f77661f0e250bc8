#pragma once
// Pixel weights that make a network care for the gaps between touching cells (Ronneberger et al. 2015, eq. 2).
#include "tensor/tensor.h"

namespace glia {

struct BorderWeights {
  double w0 = 10;    // height of the term between cells
  double sigma = 5;  // its width in pixels
};

// w(x) = w_c(x) + w0 exp(-(d1 + d2)^2 / (2 sigma^2)), with d1, d2 the Euclidean distances of x to the nearest and the second
// nearest instance; the second term is 0 inside instances and where there are fewer than two. w_c balances cells and background:
// the inverse of the class's frequency, scaled to a maximum of 1. labels (H, W) int32 -> (H, W) float32.
Tensor unet_border_weights(const Tensor& labels, const BorderWeights& options = {});

}  // namespace glia
