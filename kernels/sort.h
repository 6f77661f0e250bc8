#pragma once
// Sorting along an axis. Equal values keep their order (stable), -0 equals 0, and NaN counts as larger than every number
// (PyTorch). Outputs: values like x, and their int64 places on the axis. The gradient of the values goes back to those places.
#include "kernels/op.h"

namespace glia {

struct Sort {
  int axis = -1;
  bool descending = false;
  std::array<TensorSpec, 2> infer(const Tensor& x) const;
  using Forward = void(const Sort&, const Tensor& x, Tensor& values, Tensor& indices);
  using Backward = void(const Sort&, const Tensor& x, const Tensor& values, const Tensor& indices, const Tensor& dvalues,
                        Tensor* dx);
  static constexpr SaveSet saves = save::output(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// The k largest (or smallest) along the axis, best first; of equals the earlier ones. 0 <= k <= size.
struct TopK {
  int64_t k = 1;
  int axis = -1;
  bool largest = true;
  std::array<TensorSpec, 2> infer(const Tensor& x) const;
  using Forward = void(const TopK&, const Tensor& x, Tensor& values, Tensor& indices);
  using Backward = void(const TopK&, const Tensor& x, const Tensor& values, const Tensor& indices, const Tensor& dvalues,
                        Tensor* dx);
  static constexpr SaveSet saves = save::output(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

namespace reference {
Sort::Forward sort;
Sort::Backward sort_backward;
TopK::Forward topk;
TopK::Backward topk_backward;
}  // namespace reference

namespace cpu {
Sort::Forward sort;
Sort::Backward sort_backward;
TopK::Forward topk;
TopK::Backward topk_backward;
}  // namespace cpu
namespace emulated {
Sort::Forward sort;
Sort::Backward sort_backward;
TopK::Forward topk;
TopK::Backward topk_backward;
}  // namespace emulated
namespace cuda {
Sort::Forward sort;
Sort::Backward sort_backward;
TopK::Forward topk;
TopK::Backward topk_backward;
}  // namespace cuda

inline constexpr Variants<Sort::Forward> Sort::forward{
    .name = "sort", .reference = reference::sort, .cpu = cpu::sort, .emulated = emulated::sort, .cuda = GLIA_CUDA(cuda::sort)};
inline constexpr Variants<Sort::Backward> Sort::backward{.name = "sort_backward",
                                                         .reference = reference::sort_backward,
                                                         .cpu = cpu::sort_backward,
                                                         .emulated = emulated::sort_backward,
                                                         .cuda = GLIA_CUDA(cuda::sort_backward)};
inline constexpr Variants<TopK::Forward> TopK::forward{
    .name = "topk", .reference = reference::topk, .cpu = cpu::topk, .emulated = emulated::topk, .cuda = GLIA_CUDA(cuda::topk)};
inline constexpr Variants<TopK::Backward> TopK::backward{.name = "topk_backward",
                                                         .reference = reference::topk_backward,
                                                         .cpu = cpu::topk_backward,
                                                         .emulated = emulated::topk_backward,
                                                         .cuda = GLIA_CUDA(cuda::topk_backward)};

}  // namespace glia
