#pragma once
// Cellpose as an instance segmenter: images at the scale at which cells have the network's diameter, in tiles; its maps brought
// back to the image's size; cells from following the flows. Cells are made from the maps of the whole image, so tiles do not cut
// them.
#include <memory>

#include "data/cellpose_augment.h"
#include "models/cellpose.h"
#include "models/cellpose_dynamics.h"
#include "models/cellpose_image.h"
#include "models/segmenter.h"

namespace glia {

struct CellposeSegmenterOptions {
  CellposeOptions network;      // in_channels is 2
  int64_t channel = 0;          // what is segmented: 0 the mean of the image's channels, 1 red, 2 green, 3 blue
  int64_t nucleus_channel = 0;  // 0: none
  CellposeNormalization normalization;
  double diam_mean = 30;  // of cells in front of the network, in pixels; weights that are loaded bring their own
  double diameter = 0;    // of cells in images to predict; 0: what the network's file says of its training
  bool estimate_diameter =
      false;  // of each image to predict, by the size model that stands beside the weights (load), then by its cells
  CellposeAugmentOptions augment;
  CellposeTiling tiling;
  bool resample = true;
  CellposeDynamics dynamics;
  double flow_weight = 1, cell_weight = 1;  // of the losses, for validate()
};

// Batches are images (N, h, w, 2), flows times 5 (N, h, w, 2), cell or not (N, h, w, 1). Losses are named flow and cell.
std::unique_ptr<Segmenter> make_cellpose_segmenter(const CellposeSegmenterOptions& options);

// The median diameter of the cells of a label map in pixels, as training takes it: at least 5. 0 without cells.
double cellpose_training_diameter(const Tensor& labels);

// The network's two channels of an image (H, W, C) of any type -> (H, W, 2) float32, not normalised; without nuclei the second is
// 0. DataError where the image lacks a channel.
Tensor cellpose_channels(const Tensor& image, int64_t channel, int64_t nucleus_channel);

}  // namespace glia
