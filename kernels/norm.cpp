#include "kernels/norm.h"

namespace glia {
namespace {

void check_vector(const char* op, const char* name, const Tensor& t, const Shape& want, DType dtype, bool required) {
  if (!t && !required) return;
  GLIA_CHECK(t, "{}: {} is missing", op, name);
  GLIA_CHECK(t.shape() == want, "{}: {} is {}, want {}", op, name, t.shape(), want);
  GLIA_CHECK(t.dtype() == dtype, "{}: {} is {}, x is {}", op, name, name_of(t.dtype()), name_of(dtype));
}

}  // namespace

std::array<TensorSpec, 3> BatchNorm::infer(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                                           const Tensor& running_variance) const {
  GLIA_CHECK(x.rank() >= 2, "batch_norm: x is {}, want (N, ..., C)", x.shape());
  const Shape channels{x.dim(-1)};
  check_vector("batch_norm", "gamma", gamma, channels, x.dtype(), false);
  check_vector("batch_norm", "beta", beta, channels, x.dtype(), false);
  check_vector("batch_norm", "running_mean", running_mean, channels, x.dtype(), !train);
  check_vector("batch_norm", "running_variance", running_variance, channels, x.dtype(), !train);
  return {{{x.shape(), x.dtype()}, {channels, x.dtype()}, {channels, x.dtype()}}};
}

std::array<TensorSpec, 3> GroupNorm::infer(const Tensor& x, const Tensor& gamma, const Tensor& beta) const {
  GLIA_CHECK(x.rank() >= 2, "group_norm: x is {}, want (N, ..., C)", x.shape());
  GLIA_CHECK(groups >= 1 && x.dim(-1) % groups == 0, "group_norm: {} channels do not split into {} groups", x.dim(-1), groups);
  const Shape channels{x.dim(-1)}, statistics{x.dim(0), groups};
  check_vector("group_norm", "gamma", gamma, channels, x.dtype(), false);
  check_vector("group_norm", "beta", beta, channels, x.dtype(), false);
  return {{{x.shape(), x.dtype()}, {statistics, x.dtype()}, {statistics, x.dtype()}}};
}

std::array<TensorSpec, 3> LayerNorm::infer(const Tensor& x, const Tensor& gamma, const Tensor& beta) const {
  GLIA_CHECK(axes >= 1 && axes <= x.rank(), "layer_norm: {} axes of {}", axes, x.shape());
  const auto dims = x.shape().dims();
  const Shape leading(dims.first(dims.size() - size_t(axes))), normalised(dims.last(size_t(axes)));
  check_vector("layer_norm", "gamma", gamma, normalised, x.dtype(), false);
  check_vector("layer_norm", "beta", beta, normalised, x.dtype(), false);
  return {{{x.shape(), x.dtype()}, {leading, x.dtype()}, {leading, x.dtype()}}};
}

void update_running_stats(const RunningStats& op, const Tensor& mean, const Tensor& variance, const Tensor& running_mean,
                          const Tensor& running_variance) {
  GLIA_CHECK(same_shape(mean, running_mean) && same_shape(variance, running_variance) && same_shape(mean, variance),
             "running_stats: mean {} and variance {} into {} and {}", mean.shape(), variance.shape(), running_mean.shape(),
             running_variance.shape());
  RunningStats::forward.pick(mean.device(), mean.dtype())(op, mean, variance, running_mean, running_variance);
}

}  // namespace glia
