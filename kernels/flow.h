#pragma once
// Cellpose's dynamics (Stringer et al. 2021): a cell is a field of arrows that lead to its centre; following the arrows brings
// its pixels together. No gradients. Every body gives the same bits: sums in a fixed order, no fused multiply-adds
// (kernels/flow_math.h).
//
// A flow is (H, W, 2): along y, along x. Points are (N, 2): y, x, in units of pixels, pixel centres at integers.
#include "kernels/op.h"

namespace glia {

// Arrows of length 1 that lead to the cells' centres, equal to dynamics.masks_to_flows_cpu of Cellpose 3: heat is fed into the
// pixel that is nearest to the mean of a cell's pixels (the first in raster order of equally near ones) and spreads over the cell
// for 2 (h + w + 4) steps, h and w its height and width, each pixel becoming the mean of its 3x3 neighbourhood, 0 outside the
// cell; arrows are the heat's gradient. Deviation: where the gradient is but rounding noise (at the centre), the arrow is 0. A
// part of a cell that is not joined to the part with the centre has no arrows.
// labels (H, W) int32, 0 background, each label in [0, count] -> (H, W, 2) float32, 0 in the background.
struct FlowTargets {
  int64_t count = 0;
  TensorSpec infer(const Tensor& labels) const;
  using Forward = void(const FlowTargets&, const Tensor& labels, Tensor& flow);
  static const Variants<Forward> forward;
};

// Points after `steps` steps p <- p + flow(p), each coordinate kept in [0, side - 1]; flow(p) is bilinear, or that of the pixel
// that p is in (truncated). Equal to dynamics.steps_interp and steps2D on the CPU. A coordinate that would be NaN becomes 0.
// flow (H, W, 2), points (N, 2) of its type -> (N, 2). Sides up to 2^24.
struct FollowFlow {
  int64_t steps = 1;
  bool interpolate = true;
  TensorSpec infer(const Tensor& flow, const Tensor& points) const;
  using Forward = void(const FollowFlow&, const Tensor& flow, const Tensor& points, Tensor& moved);
  static const Variants<Forward> forward;
};

// Where points gather (dynamics.get_masks_torch). On a grid of the image and `margin` pixels around it: how many points each
// pixel holds (their coordinates truncated); and which seed owns each pixel, as 1 + the seed's index in the grid, 0 for none. A
// seed is a pixel of more than 10 points that no pixel of the 5x5 around it exceeds. It owns what five rounds of growth to the 8
// neighbours reach over pixels of more than 2 points; of several seeds the one with most points owns a pixel, of equal ones the
// later in raster order.
// points (N, 2) floating -> counts, owner (height + 2 margin, width + 2 margin) int32.
struct FlowSeeds {
  int64_t height = 0, width = 0;  // of the image
  static constexpr int64_t margin = 20;
  std::array<TensorSpec, 2> infer(const Tensor& points) const;
  using Forward = void(const FlowSeeds&, const Tensor& points, Tensor& counts, Tensor& owner);
  static const Variants<Forward> forward;
};

namespace reference {
FlowTargets::Forward flow_targets;
FollowFlow::Forward follow_flow;
FlowSeeds::Forward flow_seeds;
}  // namespace reference
namespace cpu {
FlowTargets::Forward flow_targets;
FollowFlow::Forward follow_flow;
FlowSeeds::Forward flow_seeds;
}  // namespace cpu
namespace emulated {
FlowTargets::Forward flow_targets;
FollowFlow::Forward follow_flow;
FlowSeeds::Forward flow_seeds;
}  // namespace emulated
namespace cuda {
FlowTargets::Forward flow_targets;
FollowFlow::Forward follow_flow;
FlowSeeds::Forward flow_seeds;
}  // namespace cuda

inline constexpr Variants<FlowTargets::Forward> FlowTargets::forward{.name = "flow_targets",
                                                                     .reference = reference::flow_targets,
                                                                     .cpu = cpu::flow_targets,
                                                                     .emulated = emulated::flow_targets,
                                                                     .cuda = GLIA_CUDA(cuda::flow_targets)};
inline constexpr Variants<FollowFlow::Forward> FollowFlow::forward{.name = "follow_flow",
                                                                   .reference = reference::follow_flow,
                                                                   .cpu = cpu::follow_flow,
                                                                   .emulated = emulated::follow_flow,
                                                                   .cuda = GLIA_CUDA(cuda::follow_flow)};
inline constexpr Variants<FlowSeeds::Forward> FlowSeeds::forward{.name = "flow_seeds",
                                                                 .reference = reference::flow_seeds,
                                                                 .cpu = cpu::flow_seeds,
                                                                 .emulated = emulated::flow_seeds,
                                                                 .cuda = GLIA_CUDA(cuda::flow_seeds)};

}  // namespace glia
