// The checks of nms.h, and torchvision's rule for groups.
#include "kernels/nms.h"

#include <algorithm>

#include "kernels/boxes.h"

namespace glia {
namespace {

constexpr int64_t most_shifted_boxes = 1000;  // torchvision: 4000 coordinates on the CPU

// Boxes moved so that those of different groups do not meet.
Tensor shifted(const Tensor& boxes, const Tensor& groups) {
  const Tensor result = boxes.clone();
  dispatch_floating(boxes.dtype(), "batched_nms", [&]<class T>(T) {
    const std::span<T> x = result.values<T>();
    const T beyond = *std::max_element(x.begin(), x.end()) + T(1);
    for (size_t i = 0; i < x.size(); ++i) x[i] += static_cast<T>(groups.data<int64_t>()[i / 4]) * beyond;
  });
  return result;
}

}  // namespace

std::array<TensorSpec, 2> Nms::infer(const Tensor& boxes, const Tensor& scores, const Tensor& groups) const {
  detail::check_boxes(boxes, "nms", "boxes");
  const Shape list{boxes.dim(0)};
  GLIA_CHECK(boxes.dim(1) == 4, "nms: boxes are {}, want (N, 4)", boxes.shape());
  GLIA_CHECK(scores.shape() == list && scores.dtype() == boxes.dtype(), "nms: scores are {} of {} for boxes {} of {}, want {}",
             scores.shape(), name_of(scores.dtype()), boxes.shape(), name_of(boxes.dtype()), list);
  GLIA_CHECK(!groups || (groups.shape() == list && groups.dtype() == DType::int64),
             "nms: groups are {} of {} for boxes {}, want {} of int64", groups.shape(), name_of(groups.dtype()), boxes.shape(),
             list);
  GLIA_CHECK(threshold >= 0, "nms: an IoU threshold of {}, want 0 or more", threshold);
  GLIA_CHECK(max_keep >= -1, "nms: max_keep {}, want -1 (all) or how many to keep", max_keep);
  const int64_t most = max_keep < 0 ? boxes.dim(0) : std::min(max_keep, boxes.dim(0));
  return {TensorSpec{{most}, DType::int64}, TensorSpec{{1}, DType::int64}};
}

std::vector<int64_t> batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& groups, double threshold) {
  const Nms op{.threshold = threshold};
  const auto specs = op.infer(boxes, scores, groups);
  const bool shift = groups && boxes.dim(0) > 0 && boxes.dim(0) <= most_shifted_boxes;
  Tensor keep(specs[0].shape, DType::int64), count(specs[1].shape, DType::int64);
  Nms::forward.pick(Device{}, boxes.dtype())(op, shift ? shifted(boxes, groups) : boxes, scores, shift ? Tensor() : groups, keep,
                                             count);
  const int64_t* first = keep.data<int64_t>();
  return {first, first + *count.data<int64_t>()};
}

}  // namespace glia
