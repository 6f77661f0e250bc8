#pragma once
// Non-maximum suppression of boxes.
#include <vector>

#include "kernels/op.h"

namespace glia {

// Greedy, as torchvision's: boxes come by descending score (equal ones by index, NaN first); one is kept unless a kept one of the same
// group has an IoU with it above the threshold. The IoU is that of PairwiseIou, so boxes with NaN or an overflowing area are
// always kept. It is compared as a double, as torchvision's CPU kernel does, by all bodies.
// boxes (N, 4), scores (N), groups (N) int64 or absent (one group) -> keep (min(N, max_keep)) int64: indices, best first, then -1;
// count (1) int64: how many there are.
struct Nms {
  double threshold = 0.5;  // >= 0
  int64_t max_keep = -1;   // the first so many over all groups; -1: all
  std::array<TensorSpec, 2> infer(const Tensor& boxes, const Tensor& scores, const Tensor& groups) const;
  using Forward = void(const Nms&, const Tensor& boxes, const Tensor& scores, const Tensor& groups, Tensor& keep, Tensor& count);
  static const Variants<Forward> forward;
};

// What torchvision's batched_nms keeps on the CPU, best first. Up to 1000 boxes it shifts each one by group (largest coordinate + 1) and
// suppresses among all; that rounds coordinates, so pairs within rounding of the threshold may fall otherwise than in Nms, which
// it equals beyond 1000. Host tensors as for Nms, all coordinates numbers.
std::vector<int64_t> batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& groups, double threshold);

namespace reference {
Nms::Forward nms;
}  // namespace reference
namespace cpu {
Nms::Forward nms;
}  // namespace cpu
namespace emulated {
Nms::Forward nms;
}  // namespace emulated
namespace cuda {
Nms::Forward nms;
}  // namespace cuda

inline constexpr Variants<Nms::Forward> Nms::forward{
    .name = "nms", .reference = reference::nms, .cpu = cpu::nms, .emulated = emulated::nms, .cuda = GLIA_CUDA(cuda::nms)};

}  // namespace glia
