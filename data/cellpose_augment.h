#pragma once
// Cellpose's augmentation (transforms.random_rotate_and_resize of Cellpose 3): a flip, a rotation by any angle, and a scale about
// the one at which the image's cells have the network's diameter; a window of that. Flows turn with the image.
#include <array>
#include <cstdint>

#include "tensor/tensor.h"

namespace glia {

struct CellposeAugmentOptions {
  std::array<int64_t, 2> crop{224, 224};  // height, width of the window
  double scale_range = 0.5;               // the scale varies by up to half of this either way
};

// One draw. Source point (x, y), in units of pixels from the centre of pixel 0, goes to
//   scale R(theta) ((x, y) - (W, H) / 2) + (width, height) / 2 + shift,   after the flip of x.
struct CellposeAugmentation {
  int64_t height = 224, width = 224;
  bool flip = false;
  double theta = 0;
  double scale = 1;
  std::array<double, 2> shift{0, 0};  // x, y
};

// A pure function of its arguments. `scale` is what gives the image's cells the network's diameter.
CellposeAugmentation draw_cellpose_augmentation(const CellposeAugmentOptions& options, int64_t height, int64_t width,
                                                double scale, uint64_t seed, int64_t epoch, int64_t index);

// image (H, W, C) float32, of which the last two channels are flows along y and x -> (height, width, C): bilinear between pixels,
// 0 outside. Flows are turned, and not brought back to length 1.
Tensor augment_cellpose_image(const Tensor& image, const CellposeAugmentation& augmentation);
// labels (H, W) int32 -> (height, width): the nearest pixel's, 0 outside.
Tensor augment_cellpose_labels(const Tensor& labels, const CellposeAugmentation& augmentation);

}  // namespace glia
