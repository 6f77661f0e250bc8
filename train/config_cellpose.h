#pragma once
// The section of the configuration that belongs to model.name = "cellpose" alone. Names and defaults are those of Cellpose 3's
// command line where it has them. What each is for: config_keys_cellpose.cpp.
#include <cstdint>
#include <vector>

#include "train/config_mask_rcnn.h"

namespace glia {

struct CellDiameter {  // written as a number of pixels, or "auto"
  double pixels = 0;   // 0: that of the training images
  bool automatic = false;
  bool operator==(const CellDiameter&) const = default;
};

struct CellposeConfig {
  int64_t base_channels = 32;
  int64_t chan = 0;
  int64_t chan2 = 0;
  std::vector<double> norm_percentile{1, 99};
  std::vector<double> low_high{};
  int64_t tile_norm = 0;
  bool invert = false;
  double diam_mean = 30;
  CellDiameter diameter{};
  ImageSize crop{224, 224};
  double scale_range = 0.5;
  int64_t min_train_masks = 5;
  int64_t tile = 224;
  double tile_overlap = 0.1;
  int64_t tile_batch = 8;
  bool augment = false;
  bool resample = true;
  int64_t niter = 0;
  bool interpolate = true;
  double cellprob_threshold = 0;
  double flow_threshold = 0.4;
  double max_size_fraction = 0.4;
  int64_t min_size = 15;
};

}  // namespace glia
