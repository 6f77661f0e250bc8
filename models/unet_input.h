#pragma once
// From images to what a UNet takes: channels, value range, mirrored margins.
#include "models/unet_segmenter.h"

namespace glia {

// Percentile q in [0, 1] of all elements, between the two nearest (NumPy's linear).
double percentile(const Tensor& x, double q);

// (H, W, C) of any type -> (H, W, channels) uint8 where the image is, else float32: RGB to gray by ITU-R 601 (Pillow's "L"), gray to several
// by repetition; alpha is dropped. DataError where that cannot be.
Tensor to_channels(const Tensor& image, int64_t channels);

// The largest value that readers' types stand for: uint8 255, int32 (16-bit files) 65535, int64 (32-bit files) 2^32 - 1, floats 1.
double value_range(DType dtype);

// -> (H, W, C) float32; `unit` divides by `range`.
Tensor normalized(const Tensor& image, Normalization how, double range);

// (H, W, C) float32 -> (1, height, width, C) beginning at row top, column left of x, which may lie outside: mirrored there.
Tensor mirrored_window(const Tensor& x, int64_t top, int64_t left, int64_t height, int64_t width);

// The smallest side that the network takes and that gives at least `output` pixels.
int64_t input_side(const Unet& net, int64_t depth, int64_t output);

}  // namespace glia
