#pragma once
// UNets as instance segmenters.
//   binary  the whole image resized to one size, cells against background; instances are connected components of probability >
//           threshold at the image's own size (the study's way)
//   border  full resolution in overlapping tiles, three classes: background, interior, border (pixels near two cells); instances
//           start as what is surely interior (seeds), and grow over the rest of what is cell
#include <memory>

#include "kernels/loss_region.h"
#include "models/image_input.h"
#include "models/pixel_weights.h"
#include "models/segmenter.h"
#include "models/unet.h"

namespace glia {

enum class UnetTarget { binary, border };

struct UnetSegmenterOptions {
  UnetOptions network;  // out_channels is set by the target
  UnetTarget target = UnetTarget::binary;
  Normalization normalization = Normalization::unit;
  std::string resize = "pil";                   // binary: whose bilinear: pil, opencv, keras
  std::array<int64_t, 2> image_size{256, 256};  // binary: what images are resized to; border: the random window of training
  std::array<int64_t, 2> tile{256, 256};        // border: of prediction; 0: the whole image at once
  int64_t overlap = 64;                         // of neighbouring tiles
  int64_t border_width = 1;                     // border: how far from a second cell a pixel counts as border
  double seed_threshold = 0.8;                  // border: interior's probability above which pixels found a cell
  int64_t seed_size = 20;                       // border: smaller seeds are dropped
  int64_t grow = 16;                            // border: pixels by which seeds grow over what is cell
  double threshold = 0.5;
  int connectivity = 8;
  int64_t min_size = 0;
  bool fill_holes = false;
  std::vector<std::string> losses{"bce"};  // binary: bce, dice, bce_dice, focal, tversky, lovasz; border: cross_entropy
  std::vector<double> loss_weights{};      // of each, for validate(); empty: 1
  std::vector<double> class_weights{};     // border
  double positive_weight = 1, focal_gamma = 2, focal_alpha = 0.25, tversky_alpha = 0.3, tversky_beta = 0.7, smooth = 1;
  PixelWeights pixel_weights{};  // of bce and cross_entropy
  Per per = Per::batch;          // dice and tversky: over the whole batch, or the mean over its images
};

// Throws UsageError naming the key for settings that do not go together.
std::unique_ptr<Segmenter> make_unet_segmenter(const UnetSegmenterOptions& options);

}  // namespace glia
