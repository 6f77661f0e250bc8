#pragma once
// Masks cropped, resized, flipped and transposed without a picture: such a change keeps rows and columns apart, so it is two lists, the
// source of each row and of each column of the result. Work and memory follow the instance's tight window, not the image.
#include <cstdint>
#include <vector>

#include "data/instance.h"

namespace glia {

// Pillow's NEAREST: the source of each of `out` positions among `in`, with its accumulated rounding. in == out: 0, 1, 2, ...
std::vector<int64_t> nearest_sources(int64_t in, int64_t out);

// Result (y, x) is the mask at (rows[y], columns[x]), or with `transpose` at (columns[x], rows[y]): rows then holds columns of the mask.
// Each list rises or falls as a whole and stays inside the mask; InternalError where it is empty. `buffer` is kept from call to call.
Rle resample_mask(const Rle& mask, const std::vector<int64_t>& rows, const std::vector<int64_t>& columns, bool transpose,
                  std::vector<uint8_t>& buffer);

// Whether a pixel of the mask lies in the window.
bool reaches_into(const Rle& mask, int64_t top, int64_t left, int64_t height, int64_t width);

}  // namespace glia
