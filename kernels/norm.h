#pragma once
// Normalisation: y = gamma (x - mean) / sqrt(variance + eps) + beta, with biased variance. The three ops differ in what they
// average over, for x of shape (N, ..., C):
//   BatchNorm   all but C, one mean per channel        Ioffe and Szegedy 2015
//   GroupNorm   all but N, one mean per sample and group of C / groups neighbouring channels        Wu and He 2018
//   LayerNorm   the last `axes` axes        Ba, Kiros and Hinton 2016
// gamma and beta may be absent (1 and 0). With n values averaged, g = dy, xhat = (y - beta) / gamma and s = sqrt(variance + eps):
//   dbeta = sum g,  dgamma = sum g xhat,  dx = (gamma g - mean(gamma g) - xhat mean(gamma g xhat)) / s
#include "kernels/op.h"

namespace glia {

// Outputs y, mean (C), variance (C): those of the batch in training, copies of the running ones else (which are inputs then, and
// absent in training). With `relu`, y = max(0, ...) in the same pass; backward finds the sign again from x, so y is not kept.
struct BatchNorm {
  double eps = 1e-5;
  bool train = true;
  bool relu = false;
  std::array<TensorSpec, 3> infer(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                                  const Tensor& running_variance) const;
  using Forward = void(const BatchNorm&, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                       const Tensor& running_variance, Tensor& y, Tensor& mean, Tensor& variance);
  using Backward = void(const BatchNorm&, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                        const Tensor& running_variance, const Tensor& y, const Tensor& mean, const Tensor& variance,
                        const Tensor& dy, Tensor* dx, Tensor* dgamma, Tensor* dbeta, Tensor* drunning_mean,
                        Tensor* drunning_variance);  // the last two must be null: running statistics are constants
  static constexpr SaveSet saves = save::input(0) | save::input(1) | save::input(2) | save::output(1) | save::output(2);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// running = (1 - momentum) running + momentum new, from the mean and biased variance of `count` values per channel. `momentum` is
// the weight of the new value (PyTorch 0.1; Keras' 0.99 is 0.01 here). `unbiased` stores n/(n-1) times the variance, as PyTorch
// does; Keras stores the biased one.
struct RunningStats {
  int64_t count = 1;
  double momentum = 0.1;
  bool unbiased = true;
  double correction() const { return unbiased && count > 1 ? double(count) / double(count - 1) : 1; }
  using Forward = void(const RunningStats&, const Tensor& mean, const Tensor& variance, const Tensor& running_mean,
                       const Tensor& running_variance);
  static const Variants<Forward> forward;
};
void update_running_stats(const RunningStats& op, const Tensor& mean, const Tensor& variance, const Tensor& running_mean,
                          const Tensor& running_variance);

// Outputs y, mean (N, groups), variance (N, groups).
struct GroupNorm {
  int64_t groups = 1;
  double eps = 1e-5;
  std::array<TensorSpec, 3> infer(const Tensor& x, const Tensor& gamma, const Tensor& beta) const;
  using Forward = void(const GroupNorm&, const Tensor& x, const Tensor& gamma, const Tensor& beta, Tensor& y, Tensor& mean,
                       Tensor& variance);
  using Backward = void(const GroupNorm&, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& y,
                        const Tensor& mean, const Tensor& variance, const Tensor& dy, Tensor* dx, Tensor* dgamma, Tensor* dbeta);
  static constexpr SaveSet saves = save::input(0) | save::input(1) | save::output(1) | save::output(2);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// Outputs y, mean and variance of the leading axes' shape. gamma and beta have the shape of the normalised axes.
struct LayerNorm {
  int axes = 1;
  double eps = 1e-5;
  std::array<TensorSpec, 3> infer(const Tensor& x, const Tensor& gamma, const Tensor& beta) const;
  using Forward = void(const LayerNorm&, const Tensor& x, const Tensor& gamma, const Tensor& beta, Tensor& y, Tensor& mean,
                       Tensor& variance);
  using Backward = void(const LayerNorm&, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& y,
                        const Tensor& mean, const Tensor& variance, const Tensor& dy, Tensor* dx, Tensor* dgamma, Tensor* dbeta);
  static constexpr SaveSet saves = save::input(0) | save::input(1) | save::output(1) | save::output(2);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

namespace reference {
BatchNorm::Forward batch_norm;
BatchNorm::Backward batch_norm_backward;
RunningStats::Forward running_stats;
GroupNorm::Forward group_norm;
GroupNorm::Backward group_norm_backward;
LayerNorm::Forward layer_norm;
LayerNorm::Backward layer_norm_backward;
}  // namespace reference
namespace cpu {
BatchNorm::Forward batch_norm;
BatchNorm::Backward batch_norm_backward;
GroupNorm::Forward group_norm;
GroupNorm::Backward group_norm_backward;
LayerNorm::Forward layer_norm;
LayerNorm::Backward layer_norm_backward;
}  // namespace cpu
namespace emulated {
BatchNorm::Forward batch_norm;
BatchNorm::Backward batch_norm_backward;
RunningStats::Forward running_stats;
GroupNorm::Forward group_norm;
GroupNorm::Backward group_norm_backward;
LayerNorm::Forward layer_norm;
LayerNorm::Backward layer_norm_backward;
}  // namespace emulated
namespace cuda {
BatchNorm::Forward batch_norm;
BatchNorm::Backward batch_norm_backward;
RunningStats::Forward running_stats;
GroupNorm::Forward group_norm;
GroupNorm::Backward group_norm_backward;
LayerNorm::Forward layer_norm;
LayerNorm::Backward layer_norm_backward;
}  // namespace cuda

inline constexpr Variants<BatchNorm::Forward> BatchNorm::forward{.name = "batch_norm",
                                                                 .reference = reference::batch_norm,
                                                                 .cpu = cpu::batch_norm,
                                                                 .emulated = emulated::batch_norm,
                                                                 .cuda = GLIA_CUDA(cuda::batch_norm)};
inline constexpr Variants<BatchNorm::Backward> BatchNorm::backward{.name = "batch_norm_backward",
                                                                   .reference = reference::batch_norm_backward,
                                                                   .cpu = cpu::batch_norm_backward,
                                                                   .emulated = emulated::batch_norm_backward,
                                                                   .cuda = GLIA_CUDA(cuda::batch_norm_backward)};
inline constexpr Variants<RunningStats::Forward> RunningStats::forward{.name = "running_stats",
                                                                       .reference = reference::running_stats,
                                                                       .emulated = emulated::running_stats,
                                                                       .cuda = GLIA_CUDA(cuda::running_stats)};
inline constexpr Variants<GroupNorm::Forward> GroupNorm::forward{.name = "group_norm",
                                                                 .reference = reference::group_norm,
                                                                 .cpu = cpu::group_norm,
                                                                 .emulated = emulated::group_norm,
                                                                 .cuda = GLIA_CUDA(cuda::group_norm)};
inline constexpr Variants<GroupNorm::Backward> GroupNorm::backward{.name = "group_norm_backward",
                                                                   .reference = reference::group_norm_backward,
                                                                   .cpu = cpu::group_norm_backward,
                                                                   .emulated = emulated::group_norm_backward,
                                                                   .cuda = GLIA_CUDA(cuda::group_norm_backward)};
inline constexpr Variants<LayerNorm::Forward> LayerNorm::forward{.name = "layer_norm",
                                                                 .reference = reference::layer_norm,
                                                                 .cpu = cpu::layer_norm,
                                                                 .emulated = emulated::layer_norm,
                                                                 .cuda = GLIA_CUDA(cuda::layer_norm)};
inline constexpr Variants<LayerNorm::Backward> LayerNorm::backward{.name = "layer_norm_backward",
                                                                   .reference = reference::layer_norm_backward,
                                                                   .cpu = cpu::layer_norm_backward,
                                                                   .emulated = emulated::layer_norm_backward,
                                                                   .cuda = GLIA_CUDA(cuda::layer_norm_backward)};

}  // namespace glia
