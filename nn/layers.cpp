#include "nn/layers.h"

#include "autograd/operators.h"
#include "kernels/concat_conv.h"
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

// The op of a layer for this call: what it makes of its filter stays in `packed` where nobody trains the weights, else nothing does.
glia::Conv2d with_packed(const glia::Conv2d& op, PackedFilter& packed, bool training) {
  glia::Conv2d result = op;
  if (training || grad_enabled() || !pack_weights()) {
    packed.clear();
  } else {
    result.packed = &packed;
  }
  return result;
}

// What a norm by constants does to a convolution's output: y = x scale + shift.
std::array<Tensor, 2> fold(const Tensor& weight, const Tensor& bias, const Tensor& mean, const Tensor& variance, double eps) {
  const NoGrad no_grad;
  const Tensor scale = weight / apply(Sqrt{}, variance + Tensor::full({}, eps, variance.dtype(), variance.device()));
  return {scale, bias - mean * scale};
}

// Scale and shift of a convolution's sums by its bias and the batch norm behind it.
std::array<Tensor, 2> behind(const Tensor& bias, const BatchNorm2d& norm) {
  const auto [scale, shift] = norm.folded();
  return {scale, bias ? bias.detach() * scale + shift : shift};
}

}  // namespace

Conv2d::Conv2d(const ConvOptions& o) : op_(conv_op(o)) {
  const Fans fans = fans_of(o);
  add_parameter("weight", weight_, filter_shape(o), {ParameterLayout::filter, o.init.weight, fans});
  if (o.bias) add_parameter("bias", bias_, {o.out}, {ParameterLayout::same, o.init.bias, fans});
}

Tensor Conv2d::operator()(const Tensor& x, const Tensor& residual) const {
  return apply(with_packed(op_, packed_, training()), x, weight_, bias_, Tensor(), residual);
}

Tensor Conv2d::of_concat(const Tensor& a, const Tensor& b) const {
  return apply(ConcatConv2d{with_packed(op_, packed_, training())}, a, b, weight_, bias_);
}

Tensor Conv2d::operator()(const Tensor& x, BatchNorm2d& norm, Activation activation) const {
  GLIA_CHECK(op_.activation == Activation::none,
             "a convolution with a norm behind it has an activation of its own: give it to the call");
  if (!norm.constant()) return norm((*this)(x), activation);
  const auto [scale, shift] = behind(bias_, norm);
  glia::Conv2d op = with_packed(op_, packed_, training());
  op.activation = activation;
  return apply(op, x, weight_, shift, scale, Tensor());
}

Tensor Conv2d::of_concat(const Tensor& a, const Tensor& b, BatchNorm2d& norm, Activation activation) const {
  GLIA_CHECK(op_.activation == Activation::none,
             "a convolution with a norm behind it has an activation of its own: give it to the call");
  glia::ConcatConv2d op{with_packed(op_, packed_, training())};
  if (!op.conv.packed) scaled_.clear();
  if (!norm.constant()) return norm(of_concat(a, b), activation);
  const auto [scale, shift] = behind(bias_, norm);
  op.conv.activation = activation;
  // The op has no scale, so the filter takes it.
  const auto scaled = [&, &factor = scale] { return weight_.detach() * factor.reshape({factor.size(), 1, 1, 1}); };
  return apply(op, a, b, op.conv.packed ? scaled_.get(weight_, "scaled", scaled) : scaled(), shift);
}

UpsampleConv2d::UpsampleConv2d(const ConvOptions& o) : op_(conv_op(o)) {
  op_.pad = same_pad(o.kernel);
  const Fans fans = fans_of(o);
  add_parameter("weight", weight_, filter_shape(o), {ParameterLayout::filter, o.init.weight, fans});
  if (o.bias) add_parameter("bias", bias_, {o.out}, {ParameterLayout::same, o.init.bias, fans});
}

Tensor UpsampleConv2d::operator()(const Tensor& x) const {
  return apply(glia::UpsampleConv2d{with_packed(op_, packed_, training())}, x, weight_, bias_);
}

ConvTranspose2d::ConvTranspose2d(const ConvOptions& o)
    : op_{.stride = {o.stride, o.stride}, .pad = o.pad, .groups = o.groups, .activation = o.activation} {
  // Keras and PyTorch both take the output channels for fan_in here.
  const Fans conv = fans_of(o), fans{conv.out, conv.in};
  add_parameter("weight", weight_, {o.in, o.kernel, o.kernel, o.out / o.groups}, {ParameterLayout::filter, o.init.weight, fans});
  if (o.bias) add_parameter("bias", bias_, {o.out}, {ParameterLayout::same, o.init.bias, fans});
}

Tensor ConvTranspose2d::operator()(const Tensor& x) const { return apply(op_, x, weight_, bias_); }

Linear::Linear(int64_t in, int64_t out, bool bias, Initializers init, ParameterLayout layout) {
  const Fans fans{double(in), double(out)};
  add_parameter("weight", weight_, {out, in}, {layout, init.weight, fans});
  if (bias) add_parameter("bias", bias_, {out}, {ParameterLayout::same, init.bias, fans});
}

Tensor Linear::operator()(const Tensor& x) const { return apply(glia::Linear{}, x, weight_, bias_); }

BatchNorm2d::BatchNorm2d(int64_t channels, BatchNormOptions options) : options_(options) {
  add_parameter("weight", weight_, {channels}, {ParameterLayout::same, Initializer::ones});
  add_parameter("bias", bias_, {channels}, {ParameterLayout::same, Initializer::zeros});
  add_buffer("running_mean", running_mean_, Tensor::zeros({channels}));
  add_buffer("running_var", running_var_, Tensor::full({channels}, 1));
  add_buffer("num_batches_tracked", batches_, Tensor::zeros({}, DType::int64));
}

Tensor BatchNorm2d::operator()(const Tensor& x, Activation activation) {
  const BatchNorm op{.eps = options_.eps, .train = training(), .relu = activation == Activation::relu};
  if (!training()) return apply(op, x, weight_, bias_, running_mean_, running_var_)[0];
  const auto [y, mean, variance] = apply(op, x, weight_, bias_, Tensor(), Tensor());
  const int64_t count = x.size() / x.dim(-1);
  update_running_stats({.count = count, .momentum = options_.momentum, .unbiased = options_.unbiased}, mean, variance,
                       running_mean_, running_var_);
  weights_changed();  // what convolutions made of the statistics before
  ++*batches_.data<int64_t>();
  return y;
}

bool BatchNorm2d::constant() const { return !training() && !grad_enabled(); }

std::array<Tensor, 2> BatchNorm2d::folded() const { return fold(weight_, bias_, running_mean_, running_var_, options_.eps); }

FrozenBatchNorm2d::FrozenBatchNorm2d(int64_t channels, double eps) : eps_(eps) {
  add_buffer("weight", weight_, Tensor::full({channels}, 1));
  add_buffer("bias", bias_, Tensor::zeros({channels}));
  add_buffer("running_mean", running_mean_, Tensor::zeros({channels}));
  add_buffer("running_var", running_var_, Tensor::full({channels}, 1 - eps));
}

std::array<Tensor, 2> FrozenBatchNorm2d::folded() const { return fold(weight_, bias_, running_mean_, running_var_, eps_); }

GroupNorm::GroupNorm(int64_t groups, int64_t channels, double eps) : op_{.groups = groups, .eps = eps} {
  if (channels % groups != 0) throw UsageError("group norm: {} channels in {} groups", channels, groups);
  add_parameter("weight", weight_, {channels}, {ParameterLayout::same, Initializer::ones});
  add_parameter("bias", bias_, {channels}, {ParameterLayout::same, Initializer::zeros});
}

Tensor GroupNorm::operator()(const Tensor& x) const { return apply(op_, x, weight_, bias_)[0]; }

NormKind parse_norm(std::string_view name) {
  if (name.empty() || name == "none") return NormKind::none;
  if (name == "frozen_bn") return NormKind::frozen_bn;
  if (name == "bn") return NormKind::bn;
  if (name == "gn") return NormKind::gn;
  throw UsageError("norm \"{}\" is unknown; known are none, frozen_bn, bn, gn", name);
}

ConvNorm2d::ConvNorm2d(const ConvOptions& o, NormKind norm, double eps) : op_(conv_op(o)) {
  const Fans fans = fans_of(o);
  add_parameter("weight", weight_, filter_shape(o), {ParameterLayout::filter, o.init.weight, fans});
  if (o.bias) add_parameter("bias", bias_, {o.out}, {ParameterLayout::same, o.init.bias, fans});
  GLIA_CHECK(!o.bias || norm == NormKind::none, "conv: a bias before a norm does nothing");
  switch (norm) {
    case NormKind::none: break;
    case NormKind::frozen_bn: add("norm", frozen_.emplace(o.out, eps)); break;
    case NormKind::bn: add("norm", batch_.emplace(o.out, BatchNormOptions{.eps = eps})); break;
    case NormKind::gn: add("norm", group_.emplace(32, o.out, eps)); break;
  }
}

Tensor ConvNorm2d::operator()(const Tensor& x, const Tensor& residual) {
  // The running statistics of a batch norm are constants too, once nobody trains it.
  const bool constant = frozen_ || (batch_ && batch_->constant());
  if (constant || !(batch_ || group_)) {
    const auto [scale, shift] = frozen_ ? frozen_->folded() : batch_ ? batch_->folded() : std::array<Tensor, 2>{Tensor(), bias_};
    return apply(with_packed(op_, packed_, training()), x, weight_, shift, scale, residual);
  }
  glia::Conv2d plain = with_packed(op_, packed_, training());
  plain.activation = Activation::none;
  const Tensor y = apply(plain, x, weight_, Tensor(), Tensor(), Tensor());
  if (batch_ && !residual) return (*batch_)(y, op_.activation);
  Tensor normed = batch_ ? (*batch_)(y) : (*group_)(y);
  if (residual) normed = normed + residual;
  return op_.activation == Activation::relu ? relu(normed) : normed;
}

Tensor Dropout::operator()(const Tensor& x) const {
  if (!training() || p_ == 0) return x;
  // One 64-bit number names layer and step; the multiplier (SplitMix64's) keeps steps of different layers apart.
  const uint64_t stream = draw().stream + static_cast<uint64_t>(draw().step) * 0x9E3779B97F4A7C15u;
  return apply(glia::Dropout{.p = p_, .seed = draw().seed, .stream = stream}, x);
}

}  // namespace glia::nn
