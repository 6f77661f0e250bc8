#pragma once
// From images to what a UNet takes: mirrored margins, sides that the poolings divide.
#include "models/unet_segmenter.h"

namespace glia {

// (H, W, C) float32 -> (1, height, width, C) beginning at row top, column left of x, which may lie outside: mirrored there.
Tensor mirrored_window(const Tensor& x, int64_t top, int64_t left, int64_t height, int64_t width);

// The smallest side that the network takes and that gives at least `output` pixels.
int64_t input_side(const Unet& net, int64_t depth, int64_t output);

// Starts of tiles of `tile` pixels that cover `size` pixels with at least `overlap` shared, evenly spread.
std::vector<int64_t> tile_starts(int64_t size, int64_t tile, int64_t overlap);

}  // namespace glia
