#pragma once
// y = exp(x - m) / sum exp(x - m), and its logarithm, along one axis; m is the maximum, so that logits of 1e4 are safe. A logit
// of -inf gives probability 0. dx = y (dy - sum dy y), or dy - exp(y) sum dy.
#include "kernels/op.h"

namespace glia {

struct Softmax {
  int axis = -1;
  TensorSpec infer(const Tensor& x) const;
  using Forward = void(const Softmax&, const Tensor& x, Tensor& y);
  using Backward = void(const Softmax&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);
  static constexpr SaveSet saves = save::output(0);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

struct LogSoftmax {
  int axis = -1;
  TensorSpec infer(const Tensor& x) const;
  using Forward = void(const LogSoftmax&, const Tensor& x, Tensor& y);
  using Backward = void(const LogSoftmax&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);
  static constexpr SaveSet saves = save::output(0);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// A tensor seen as (outer, length, inner), where length is the axis.
struct AxisView {
  int64_t outer, length, inner;
};
AxisView axis_view(const Shape& shape, int axis, const char* op);

namespace reference {
Softmax::Forward softmax;
Softmax::Backward softmax_backward;
LogSoftmax::Forward log_softmax;
LogSoftmax::Backward log_softmax_backward;
}  // namespace reference
namespace cpu {
Softmax::Forward softmax;
Softmax::Backward softmax_backward;
LogSoftmax::Forward log_softmax;
LogSoftmax::Backward log_softmax_backward;
}  // namespace cpu
namespace emulated {
Softmax::Forward softmax;
Softmax::Backward softmax_backward;
LogSoftmax::Forward log_softmax;
LogSoftmax::Backward log_softmax_backward;
}  // namespace emulated
namespace cuda {
Softmax::Forward softmax;
Softmax::Backward softmax_backward;
LogSoftmax::Forward log_softmax;
LogSoftmax::Backward log_softmax_backward;
}  // namespace cuda

inline constexpr Variants<Softmax::Forward> Softmax::forward{.name = "softmax",
                                                             .reference = reference::softmax,
                                                             .cpu = cpu::softmax,
                                                             .emulated = emulated::softmax,
                                                             .cuda = GLIA_CUDA(cuda::softmax)};
inline constexpr Variants<Softmax::Backward> Softmax::backward{.name = "softmax_backward",
                                                               .reference = reference::softmax_backward,
                                                               .cpu = cpu::softmax_backward,
                                                               .emulated = emulated::softmax_backward,
                                                               .cuda = GLIA_CUDA(cuda::softmax_backward)};
inline constexpr Variants<LogSoftmax::Forward> LogSoftmax::forward{.name = "log_softmax",
                                                                   .reference = reference::log_softmax,
                                                                   .cpu = cpu::log_softmax,
                                                                   .emulated = emulated::log_softmax,
                                                                   .cuda = GLIA_CUDA(cuda::log_softmax)};
inline constexpr Variants<LogSoftmax::Backward> LogSoftmax::backward{.name = "log_softmax_backward",
                                                                     .reference = reference::log_softmax_backward,
                                                                     .cpu = cpu::log_softmax_backward,
                                                                     .emulated = emulated::log_softmax_backward,
                                                                     .cuda = GLIA_CUDA(cuda::log_softmax_backward)};

}  // namespace glia
