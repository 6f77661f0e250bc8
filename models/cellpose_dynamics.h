#pragma once
// From cells to Cellpose's flows, and from flows to cells (Cellpose 3's dynamics.compute_masks). Host tensors; the ops of
// kernels/flow.h do the work, on any device.
#include <array>
#include <cstdint>
#include <vector>

#include "tensor/tensor.h"

namespace glia {

// Arrows to the cells' centres (FlowTargets). labels (H, W) int32 -> (H, W, 2) float32: y, x. DataError for a negative label.
Tensor cellpose_flow_targets(const Tensor& labels, Device device = {});

// The median over the cells of the diameter of a disc as large as the cell, in pixels; 0 without cells.
double cellpose_diameter(std::vector<int64_t> areas);

struct CellposeDynamics {
  int64_t steps = 0;  // 0: until fewer than one pixel in a thousand is still on its way, 1000 at most
  bool interpolate = true;
  double cell_threshold = 0;       // a pixel follows the flow where its logit is above
  double flow_threshold = 0.4;     // a cell whose own flow differs by more from the network's is dropped; 0: none is
  double max_size_fraction = 0.4;  // of the image: larger cells are dropped
  int64_t min_size = 15;           // pixels: smaller cells are dropped
  Device device{};
};

// maps (H, W, 3) of the network: 5 flow along y and x, logit -> labels (H, W) int32, numbered in raster order. DataError where a
// map is not finite.
Tensor cellpose_masks(const Tensor& maps, const CellposeDynamics& how);

// The same for an image of height x width that the maps see at another size: the cells are enlarged (or shrunk) by the nearest pixel,
// and min_size counts pixels of the image (dynamics.resize_and_compute_masks).
Tensor cellpose_masks(const Tensor& maps, const CellposeDynamics& how, int64_t height, int64_t width);

// ---- its parts ----

// Points (N, 2) after `steps` steps along the flow (H, W, 2), a step's length being the flow's; 0: until they have converged.
Tensor cellpose_follow(const Tensor& flow, Tensor points, int64_t steps, bool interpolate, Device device = {});

// The pixels (indices in the image of height x width), each of which ended at one of the points (N, 2), joined where they
// gathered (FlowSeeds) -> labels (height, width) int32 in raster order.
Tensor cellpose_gather(const Tensor& points, const std::vector<int32_t>& pixels, int64_t height, int64_t width,
                       double max_size_fraction, Device device = {});

// How well each label's own flow agrees with the maps' (metrics.flow_error): the mean over its pixels of the squared difference,
// at index label - 1.
std::vector<double> cellpose_flow_errors(const Tensor& labels, const Tensor& maps, Device device = {});

// Labels of fewer than min_size pixels dropped, holes (background that 4-neighbours do not join to the border of the label's box)
// given to the label that is around them, whatever they hold, and small ones dropped again; numbered in raster order.
Tensor cellpose_tidy(const Tensor& labels, int64_t min_size);

}  // namespace glia
