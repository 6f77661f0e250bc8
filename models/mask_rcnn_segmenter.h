#pragma once
// Mask R-CNN as an instance segmenter.
//   training    examples carry instances, which the loader resizes and flips with the image (data/detection_augment.h)
//   prediction  the image resized by its shorter side, in overlapping tiles where it is larger than one; detections scaled back, their masks pasted straight into run lengths, then
//               selected by score, size and free pixels (data/selection.h)
#include <memory>

#include "data/selection.h"
#include "models/image_input.h"
#include "models/mask_rcnn_options.h"
#include "models/pixel_weights.h"
#include "models/segmenter.h"

namespace glia {

struct MaskRcnnSegmenterOptions {
  MaskRcnnOptions network{};
  // Of images into 0..255; `unit` leaves 8 bits as they are, `standard` gives mean 0 and deviation 1.
  Normalization normalization = Normalization::unit;
  bool bgr = true;                                              // order of the network's channels; gray is repeated
  std::array<double, 3> pixel_mean{103.530, 116.280, 123.675};  // in that order
  std::array<double, 3> pixel_std{1, 1, 1};
  int64_t min_size_test = 800, max_size_test = 1333;  // of prediction: the shorter and the longer side; 0: no resizing, no limit
  std::array<int64_t, 2> tile{};   // of prediction, of the resized image: height, width; 0: the whole image at once
  int64_t overlap = 256;           // pixels that neighbouring tiles share: cells up to this size are seen whole
  bool flip = false;               // of prediction: the mirrored image's detections are joined by a second suppression per class
  bool validation_losses = false;  // validate() gives the losses, at the price of a second pass
  std::vector<std::pair<std::string, double>> loss_weights{};  // of validate()'s sum; 1 for those that are not named
  Selection selection{};
  PixelWeights
      pixel_weights{};  // of loss_mask, from the instances as the network sees them; `normalize`: network.roi_heads has its own
};

// Throws UsageError naming what does not go together.
std::unique_ptr<Segmenter> make_mask_rcnn_segmenter(const MaskRcnnSegmenterOptions& options);

// Tensors of a batch that collate makes, in this order.
namespace mask_rcnn_batch {
enum : size_t {
  images,     // (N, H, W, 3) float32: normalised, then padded with zeros to multiples of 32
  sizes,      // (N, 2) int64: height, width before padding
  first,      // (N + 1) int64: instances of image n are [first[n], first[n + 1])
  boxes,      // (G, 4) float32
  classes,    // (G) int64
  mask_bits,  // MaskPatches
  mask_windows,
  pixel_weights,  // (N, H, W, 1) float32; there where options.pixel_weights asks for it
};
}

}  // namespace glia
