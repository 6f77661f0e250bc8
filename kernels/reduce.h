#pragma once
// Reductions over any set of axes, and the position of the extreme along one axis.
// `axes` may count from the end; empty means all. The reduced axes disappear, or stay with size 1 (keepdim).
//   sum, mean, var   accumulate in double whatever the type of x; mean and var of nothing are NaN, as in NumPy
//   max, min         NaN wins (NumPy, PyTorch); the gradient goes to the first of equals in row-major order
//   argmax, argmin   the first of equals; a NaN counts as the extreme
#include <vector>

#include "kernels/op.h"

namespace glia {

// The axes as a bit set. Throws when one is out of range or given twice.
unsigned axis_set(const std::vector<int>& axes, int rank, const char* op);

// The shape of x without the axes of the set, or with size 1 there.
Shape reduced_shape(const Shape& x, unsigned axes, bool keepdim);

namespace detail {
TensorSpec infer_reduction(const Tensor& x, const std::vector<int>& axes, bool keepdim, const char* op);
TensorSpec infer_extreme(const Tensor& x, const std::vector<int>& axes, bool keepdim, const char* op);
}  // namespace detail

struct Sum {
  std::vector<int> axes{};
  bool keepdim = false;
  TensorSpec infer(const Tensor& x) const { return detail::infer_reduction(x, axes, keepdim, "sum"); }
  using Forward = void(const Sum&, const Tensor& x, Tensor& y);
  using Backward = void(const Sum&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);
  static constexpr SaveSet saves = save::nothing;
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

struct Mean {
  std::vector<int> axes{};
  bool keepdim = false;
  TensorSpec infer(const Tensor& x) const { return detail::infer_reduction(x, axes, keepdim, "mean"); }
  using Forward = void(const Mean&, const Tensor& x, Tensor& y);
  using Backward = void(const Mean&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);
  static constexpr SaveSet saves = save::nothing;
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// Mean squared distance from the mean; unbiased divides by n - 1.
struct Var {
  std::vector<int> axes{};
  bool keepdim = false;
  bool unbiased = true;
  TensorSpec infer(const Tensor& x) const { return detail::infer_reduction(x, axes, keepdim, "var"); }
  using Forward = void(const Var&, const Tensor& x, Tensor& y);
  using Backward = void(const Var&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);
  static constexpr SaveSet saves = save::input(0);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// Of any plain numeric type. Throws when a value would be the maximum of nothing.
struct Max {
  std::vector<int> axes{};
  bool keepdim = false;
  TensorSpec infer(const Tensor& x) const { return detail::infer_extreme(x, axes, keepdim, "max"); }
  using Forward = void(const Max&, const Tensor& x, Tensor& y);
  using Backward = void(const Max&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);
  static constexpr SaveSet saves = save::input(0) | save::output(0);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

struct Min {
  std::vector<int> axes{};
  bool keepdim = false;
  TensorSpec infer(const Tensor& x) const { return detail::infer_extreme(x, axes, keepdim, "min"); }
  using Forward = void(const Min&, const Tensor& x, Tensor& y);
  using Backward = void(const Min&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);
  static constexpr SaveSet saves = save::input(0) | save::output(0);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// Index (int64) of the extreme along one axis. No gradient.
struct ArgMax {
  int axis = -1;
  bool keepdim = false;
  TensorSpec infer(const Tensor& x) const;
  using Forward = void(const ArgMax&, const Tensor& x, Tensor& y);
  static const Variants<Forward> forward;
};

struct ArgMin {
  int axis = -1;
  bool keepdim = false;
  TensorSpec infer(const Tensor& x) const;
  using Forward = void(const ArgMin&, const Tensor& x, Tensor& y);
  static const Variants<Forward> forward;
};

namespace reference {
Sum::Forward sum;
Sum::Backward sum_backward;
Mean::Forward mean;
Mean::Backward mean_backward;
Var::Forward var;
Var::Backward var_backward;
Max::Forward max;
Max::Backward max_backward;
Min::Forward min;
Min::Backward min_backward;
ArgMax::Forward argmax;
ArgMin::Forward argmin;
}  // namespace reference

namespace cpu {
Sum::Forward sum;
Sum::Backward sum_backward;
Mean::Forward mean;
Mean::Backward mean_backward;
Var::Forward var;
Var::Backward var_backward;
Max::Forward max;
Max::Backward max_backward;
Min::Forward min;
Min::Backward min_backward;
ArgMax::Forward argmax;
ArgMin::Forward argmin;
}  // namespace cpu
namespace emulated {
Sum::Forward sum;
Sum::Backward sum_backward;
Mean::Forward mean;
Mean::Backward mean_backward;
Var::Forward var;
Var::Backward var_backward;
Max::Forward max;
Max::Backward max_backward;
Min::Forward min;
Min::Backward min_backward;
ArgMax::Forward argmax;
ArgMin::Forward argmin;
}  // namespace emulated
namespace cuda {
Sum::Forward sum;
Sum::Backward sum_backward;
Mean::Forward mean;
Mean::Backward mean_backward;
Var::Forward var;
Var::Backward var_backward;
Max::Forward max;
Max::Backward max_backward;
Min::Forward min;
Min::Backward min_backward;
ArgMax::Forward argmax;
ArgMin::Forward argmin;
}  // namespace cuda

inline constexpr Variants<Sum::Forward> Sum::forward{
    .name = "sum", .reference = reference::sum, .cpu = cpu::sum, .emulated = emulated::sum, .cuda = GLIA_CUDA(cuda::sum)};
inline constexpr Variants<Sum::Backward> Sum::backward{.name = "sum_backward",
                                                       .reference = reference::sum_backward,
                                                       .cpu = cpu::sum_backward,
                                                       .emulated = emulated::sum_backward,
                                                       .cuda = GLIA_CUDA(cuda::sum_backward)};
inline constexpr Variants<Mean::Forward> Mean::forward{
    .name = "mean", .reference = reference::mean, .cpu = cpu::mean, .emulated = emulated::mean, .cuda = GLIA_CUDA(cuda::mean)};
inline constexpr Variants<Mean::Backward> Mean::backward{.name = "mean_backward",
                                                         .reference = reference::mean_backward,
                                                         .cpu = cpu::mean_backward,
                                                         .emulated = emulated::mean_backward,
                                                         .cuda = GLIA_CUDA(cuda::mean_backward)};
inline constexpr Variants<Var::Forward> Var::forward{
    .name = "var", .reference = reference::var, .cpu = cpu::var, .emulated = emulated::var, .cuda = GLIA_CUDA(cuda::var)};
inline constexpr Variants<Var::Backward> Var::backward{.name = "var_backward",
                                                       .reference = reference::var_backward,
                                                       .cpu = cpu::var_backward,
                                                       .emulated = emulated::var_backward,
                                                       .cuda = GLIA_CUDA(cuda::var_backward)};
inline constexpr Variants<Max::Forward> Max::forward{
    .name = "max", .reference = reference::max, .cpu = cpu::max, .emulated = emulated::max, .cuda = GLIA_CUDA(cuda::max)};
inline constexpr Variants<Max::Backward> Max::backward{.name = "max_backward",
                                                       .reference = reference::max_backward,
                                                       .cpu = cpu::max_backward,
                                                       .emulated = emulated::max_backward,
                                                       .cuda = GLIA_CUDA(cuda::max_backward)};
inline constexpr Variants<Min::Forward> Min::forward{
    .name = "min", .reference = reference::min, .cpu = cpu::min, .emulated = emulated::min, .cuda = GLIA_CUDA(cuda::min)};
inline constexpr Variants<Min::Backward> Min::backward{.name = "min_backward",
                                                       .reference = reference::min_backward,
                                                       .cpu = cpu::min_backward,
                                                       .emulated = emulated::min_backward,
                                                       .cuda = GLIA_CUDA(cuda::min_backward)};
inline constexpr Variants<ArgMax::Forward> ArgMax::forward{.name = "argmax",
                                                           .reference = reference::argmax,
                                                           .cpu = cpu::argmax,
                                                           .emulated = emulated::argmax,
                                                           .cuda = GLIA_CUDA(cuda::argmax)};
inline constexpr Variants<ArgMin::Forward> ArgMin::forward{.name = "argmin",
                                                           .reference = reference::argmin,
                                                           .cpu = cpu::argmin,
                                                           .emulated = emulated::argmin,
                                                           .cuda = GLIA_CUDA(cuda::argmin)};

}  // namespace glia
