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

void update_running_stats(const Tensor& mean, const Tensor& variance, int64_t count, double momentum, bool unbiased,
                          const Tensor& running_mean, const Tensor& running_variance) {
  GLIA_CHECK(same_shape(mean, running_mean) && same_shape(variance, running_variance) && same_shape(mean, variance),
             "update_running_stats: mean {} and variance {} into {} and {}", mean.shape(), variance.shape(), running_mean.shape(),
             running_variance.shape());
  const double correction = unbiased && count > 1 ? double(count) / double(count - 1) : 1;
  dispatch_floating(mean.dtype(), "update_running_stats", [&]<class T>(T) {
    for (int64_t c = 0; c < mean.size(); ++c) {
      T &m = running_mean.data<T>()[c], &v = running_variance.data<T>()[c];
      m = T((1 - momentum) * double(m) + momentum * double(mean.data<T>()[c]));
      v = T((1 - momentum) * double(v) + momentum * correction * double(variance.data<T>()[c]));
    }
  });
}

}  // namespace glia
