#include "nn/layers.h"

#include "autograd/apply.h"
#include "kernels/dropout.h"
#include "kernels/matmul.h"
#include "kernels/upsample_conv.h"

namespace glia::nn {
namespace {

Fans fans_of(const ConvOptions& o) {
  const double window = double(o.kernel * o.kernel), groups = double(o.groups);
  return {double(o.in) / groups * window, double(o.out) / groups * window};
}

Shape filter_shape(const ConvOptions& o) {
  GLIA_CHECK(o.groups >= 1 && o.in % o.groups == 0 && o.out % o.groups == 0, "conv: {} to {} channels in {} groups", o.in, o.out,
             o.groups);
  return {o.out, o.kernel, o.kernel, o.in / o.groups};
}

glia::Conv2d conv_op(const ConvOptions& o) {
  return {.stride = {o.stride, o.stride}, .pad = o.pad, .groups = o.groups, .activation = o.activation};
}

}  // namespace

Conv2d::Conv2d(const ConvOptions& o) : op_(conv_op(o)) {
  const Fans fans = fans_of(o);
  add_parameter("weight", weight_, filter_shape(o), {Layout::filter, o.init.weight, fans});
  if (o.bias) add_parameter("bias", bias_, {o.out}, {Layout::same, o.init.bias, fans});
}

Tensor Conv2d::operator()(const Tensor& x, const Tensor& residual) const {
  return apply(op_, x, weight_, bias_, Tensor(), residual);
}

UpsampleConv2d::UpsampleConv2d(const ConvOptions& o) : op_(conv_op(o)) {
  op_.pad = same_pad(o.kernel);
  const Fans fans = fans_of(o);
  add_parameter("weight", weight_, filter_shape(o), {Layout::filter, o.init.weight, fans});
  if (o.bias) add_parameter("bias", bias_, {o.out}, {Layout::same, o.init.bias, fans});
}

Tensor UpsampleConv2d::operator()(const Tensor& x) const { return apply(glia::UpsampleConv2d{op_}, x, weight_, bias_); }

ConvTranspose2d::ConvTranspose2d(const ConvOptions& o)
    : op_{.stride = {o.stride, o.stride}, .pad = o.pad, .groups = o.groups, .activation = o.activation} {
  // Keras and PyTorch both take the output channels for fan_in here.
  const Fans conv = fans_of(o), fans{conv.out, conv.in};
  add_parameter("weight", weight_, {o.in, o.kernel, o.kernel, o.out / o.groups}, {Layout::filter, o.init.weight, fans});
  if (o.bias) add_parameter("bias", bias_, {o.out}, {Layout::same, o.init.bias, fans});
}

Tensor ConvTranspose2d::operator()(const Tensor& x) const { return apply(op_, x, weight_, bias_); }

Linear::Linear(int64_t in, int64_t out, bool bias, Initializers init) {
  const Fans fans{double(in), double(out)};
  add_parameter("weight", weight_, {out, in}, {Layout::same, init.weight, fans});
  if (bias) add_parameter("bias", bias_, {out}, {Layout::same, init.bias, fans});
}

Tensor Linear::operator()(const Tensor& x) const { return apply(glia::Linear{}, x, weight_, bias_); }

BatchNorm2d::BatchNorm2d(int64_t channels, BatchNormOptions options) : options_(options) {
  add_parameter("weight", weight_, {channels}, {Layout::same, Initializer::ones});
  add_parameter("bias", bias_, {channels}, {Layout::same, Initializer::zeros});
  add_buffer("running_mean", running_mean_, Tensor::zeros({channels}));
  add_buffer("running_var", running_var_, Tensor::full({channels}, 1));
  add_buffer("num_batches_tracked", batches_, Tensor::zeros({}, DType::int64));
}

Tensor BatchNorm2d::operator()(const Tensor& x, Activation activation) {
  const BatchNorm op{.eps = options_.eps, .train = training(), .relu = activation == Activation::relu};
  if (!training()) return apply(op, x, weight_, bias_, running_mean_, running_var_)[0];
  const auto [y, mean, variance] = apply(op, x, weight_, bias_, Tensor(), Tensor());
  const int64_t count = x.size() / x.dim(-1);
  update_running_stats({.count = count, .momentum = options_.momentum, .unbiased = options_.unbiased}, mean, variance, running_mean_,
                       running_var_);
  ++*batches_.data<int64_t>();
  return y;
}

Tensor Dropout::operator()(const Tensor& x) const {
  if (!training() || p_ == 0) return x;
  // One 64-bit number names layer and step; the multiplier (SplitMix64's) keeps steps of different layers apart.
  const uint64_t stream = draw().stream + static_cast<uint64_t>(draw().step) * 0x9E3779B97F4A7C15u;
  return apply(glia::Dropout{.p = p_, .seed = draw().seed, .stream = stream}, x);
}

}  // namespace glia::nn
