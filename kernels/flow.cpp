#include "kernels/flow.h"

namespace glia {
namespace {

void check_points(const char* op, const Tensor& points) {
  GLIA_CHECK(points.rank() == 2 && points.dim(1) == 2 && is_floating(points.dtype()), "{}: points are {} {}, want (N, 2) floats",
             op, points.shape(), name_of(points.dtype()));
}

}  // namespace

TensorSpec FlowTargets::infer(const Tensor& labels) const {
  GLIA_CHECK(labels.rank() == 2 && labels.dtype() == DType::int32, "flow_targets: labels are {} {}, want (H, W) int32",
             labels.shape(), name_of(labels.dtype()));
  GLIA_CHECK(labels.size() <= INT32_MAX / 2, "flow_targets: {} pixels, want fewer than 2^30", labels.size());
  GLIA_CHECK(count >= 0, "flow_targets: count is {}", count);
  return {{labels.dim(0), labels.dim(1), 2}, DType::float32};
}

TensorSpec FollowFlow::infer(const Tensor& flow, const Tensor& points) const {
  check_points("follow_flow", points);
  GLIA_CHECK(flow.rank() == 3 && flow.dim(2) == 2 && flow.dtype() == points.dtype(),
             "follow_flow: the flow is {} {}, want (H, W, 2) of the points' type {}", flow.shape(), name_of(flow.dtype()),
             name_of(points.dtype()));
  GLIA_CHECK(flow.dim(0) <= 1 << 24 && flow.dim(1) <= 1 << 24 && flow.size() <= INT32_MAX,
             "follow_flow: a flow of {} is too large", flow.shape());
  GLIA_CHECK(points.size() == 0 || flow.size() > 0, "follow_flow: {} points in an empty image", points.dim(0));
  return {points.shape(), points.dtype()};
}

std::array<TensorSpec, 2> FlowSeeds::infer(const Tensor& points) const {
  check_points("flow_seeds", points);
  GLIA_CHECK(height >= 0 && width >= 0 && (points.size() == 0 || (height > 0 && width > 0)), "flow_seeds: the image is {} x {}",
             height, width);
  const Shape grid{height + 2 * margin, width + 2 * margin};
  GLIA_CHECK(grid.size() < INT32_MAX, "flow_seeds: an image of {} x {} is too large", height, width);
  return {TensorSpec{grid, DType::int32}, TensorSpec{grid, DType::int32}};
}

}  // namespace glia
