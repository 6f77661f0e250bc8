#pragma once
// Small exact operations on images (H, W) or (H, W, C) of any element type, unless said otherwise.
#include "tensor/tensor.h"

namespace glia {

// uint8: w x, and w x + (1 - w) mean over all pixels and channels; computed in float32, clipped to [0, 255] and truncated, as
// detectron2's RandomBrightness and RandomContrast. float32: the same without clipping.
Tensor adjust_brightness(const Tensor& x, double weight);
Tensor adjust_contrast(const Tensor& x, double weight);

Tensor flip_x(const Tensor& x);                    // columns reversed: horizontal
Tensor flip_y(const Tensor& x);                    // rows reversed: vertical
Tensor rotate_90(const Tensor& x, int turns = 1);  // counter-clockwise quarter turns, any integer, as numpy.rot90
// Rows [y, y + height) and columns [x0, x0 + width), inside the image.
Tensor crop(const Tensor& x, int64_t y, int64_t x0, int64_t height, int64_t width);

Tensor gray_to_rgb(
    const Tensor& x);  // (H, W) or (H, W, 1) uint8 -> (H, W, 3); three channels stay as they are, a fourth is dropped

}  // namespace glia
