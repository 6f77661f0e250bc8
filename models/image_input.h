#pragma once
// From images as readers give them to what networks take: channels and value range.
#include "tensor/tensor.h"

namespace glia {

enum class Normalization {
  unit,        // 8 bits / 255, 16 bits / 65535; others as they are
  percentile,  // 1st to 99.8th percentile of the image to 0..1
  standard,    // mean 0, standard deviation 1 of the image
  none,
};

// Percentile q in [0, 1] of all elements, between the two nearest (NumPy's linear).
double percentile(const Tensor& x, double q);

// (H, W, C) of any type -> (H, W, channels) uint8 where the image is, else float32: RGB to gray by ITU-R 601 (Pillow's "L"), gray to several
// by repetition; alpha is dropped. DataError where that cannot be.
Tensor to_channels(const Tensor& image, int64_t channels);

// The largest value that readers' types stand for: uint8 255, int32 (16-bit files) 65535, int64 (32-bit files) 2^32 - 1, floats 1.
double value_range(DType dtype);

// -> (H, W, C) float32; `unit` divides by `range`.
Tensor normalized(const Tensor& image, Normalization how, double range);

}  // namespace glia
