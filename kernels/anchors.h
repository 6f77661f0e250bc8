#pragma once
// Anchors: the boxes that a region proposal network scores at each place of a feature map.
#include <array>
#include <vector>

#include "kernels/op.h"

namespace glia {

// One feature map. Around each place, for each size s (outer loop) and aspect ratio a = height / width, a box of area s^2:
// width sqrt(s^2 / a), height a times that. Place (y, x) is centred at ((x + offset) stride_x, (y + offset) stride_y).
// detectron2: offset 0, not rounded. torchvision: corners of the cell's boxes rounded half to even, and strides that may differ.
struct Anchors {
  std::vector<double> sizes{32};
  std::vector<double> aspect_ratios{0.5, 1, 2};
  std::array<double, 2> stride{4, 4};  // y, x, in pixels of the image
  double offset = 0;                   // in strides, [0, 1)
  int64_t height = 0, width = 0;       // of the feature map
  bool rounded = false;

  int64_t per_place() const { return int64_t(sizes.size() * aspect_ratios.size()); }
};

// (height width per_place, 4) float32, ordered by y, x, anchor. Each corner is a float32 shift plus a float32 corner of the cell's
// box, as matching needs them to the bit. Made by the host. Throws InternalError for a size, ratio or stride that is not positive.
Tensor anchors(const Anchors& of, Device device = {});

}  // namespace glia
