#pragma once
// Bilinear resizing of one axis, as cellpose_image.h and its normalisation by blocks do it.
#include <algorithm>
#include <cstdint>
#include <vector>

namespace glia {

// Where the pixels of an axis that was resized from `in` to `out` pixels come from: half-pixel centres, no antialiasing.
struct CellposeTaps {
  std::vector<int64_t> at;    // the pixel before ...
  std::vector<int64_t> next;  // ... and the one behind
  std::vector<float> share;   // the weight of the latter

  CellposeTaps(int64_t in, int64_t out) {
    const double scale = double(in) / double(out);
    for (int64_t i = 0; i < out; ++i) {
      const double place = std::clamp((double(i) + 0.5) * scale - 0.5, 0.0, double(in - 1));
      const auto below = static_cast<int64_t>(place);
      at.push_back(below);
      next.push_back(std::min(below + 1, in - 1));
      share.push_back(static_cast<float>(place - double(below)));
    }
  }
};

}  // namespace glia
