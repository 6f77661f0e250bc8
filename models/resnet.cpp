#include "models/resnet.h"

#include <string>

#include "autograd/operators.h"

namespace glia {
namespace {

nn::ConvOptions conv(int64_t in, int64_t out, int64_t kernel, int64_t stride, Activation activation) {
  const int64_t p = kernel / 2;
  return {.in = in,
          .out = out,
          .kernel = kernel,
          .stride = stride,
          .pad = {p, p, p, p},
          .bias = false,
          .activation = activation,
          .init = nn::msra_fill};
}

// A batch norm of a frozen stage is a constant (detectron2).
nn::NormKind norm_of(const ResnetOptions& o, int64_t stage) {
  return o.norm == nn::NormKind::bn && stage <= o.freeze_at ? nn::NormKind::frozen_bn : o.norm;
}

}  // namespace

std::array<int64_t, 4> resnet_blocks(int64_t depth) {
  if (depth == 50) return {3, 4, 6, 3};
  if (depth == 101) return {3, 4, 23, 3};
  throw UsageError("backbone.depth is {}, want 50 or 101", depth);
}

Bottleneck::Bottleneck(const ResnetOptions& o, int64_t in, int64_t width, int64_t out, int64_t stride, nn::NormKind norm)
    : conv1_(conv(in, width, 1, o.stride_in_1x1 ? stride : 1, Activation::relu), norm, o.norm_eps),
      conv2_(conv(width, width, 3, o.stride_in_1x1 ? 1 : stride, Activation::relu), norm, o.norm_eps),
      conv3_(conv(width, out, 1, 1, Activation::relu), norm, o.norm_eps) {
  if (in != out) add("shortcut", shortcut_.emplace(conv(in, out, 1, stride, Activation::none), norm, o.norm_eps));
  add("conv1", conv1_);
  add("conv2", conv2_);
  add("conv3", conv3_);
}

Tensor Bottleneck::operator()(const Tensor& x) { return conv3_(conv2_(conv1_(x)), shortcut_ ? (*shortcut_)(x) : x); }

Resnet::Stem::Stem(const ResnetOptions& o, nn::NormKind norm)
    : conv1(conv(o.in_channels, o.stem_channels, 7, 2, Activation::relu), norm, o.norm_eps) {
  add("conv1", conv1);
}

Tensor Resnet::Stem::operator()(const Tensor& images) {
  return apply(MaxPool2d{.kernel = {3, 3}, .stride = {2, 2}, .pad = {1, 1, 1, 1}}, conv1(images));
}

void Resnet::Stage::add_block(const ResnetOptions& o, int64_t in, int64_t width, int64_t out, int64_t stride, nn::NormKind norm) {
  const std::string name = std::to_string(blocks.size());
  counts = norm == nn::NormKind::bn;
  add(name, blocks.emplace_back(o, in, width, out, stride, norm));
}

Tensor Resnet::Stage::operator()(Tensor x) {
  for (Bottleneck& block : blocks)
    x = counts ? block(x) : recompute([&block](std::vector<Tensor> in) { return block(in[0]); }, {std::move(x)});
  return x;
}

Resnet::Resnet(const ResnetOptions& o) : stem_(o, norm_of(o, 1)) {
  add("stem", stem_);
  if (o.freeze_at >= 1) stem_.freeze();
  const auto blocks = resnet_blocks(o.depth);
  int64_t in = o.stem_channels;
  for (size_t s = 0; s < 4; ++s) {
    const int64_t stage = int64_t(s) + 2, width = o.width_per_group << s, out = o.res2_channels << s;
    for (int64_t b = 0; b < blocks[s]; ++b)
      stages_[s].add_block(o, b == 0 ? in : out, width, out, b == 0 && s > 0 ? 2 : 1, norm_of(o, stage));
    add(fmt::format("res{}", stage), stages_[s]);
    if (stage <= o.freeze_at) stages_[s].freeze();
    out_channels_[s] = in = out;
  }
}

std::array<Tensor, 4> Resnet::operator()(const Tensor& images) {
  std::array<Tensor, 4> out;
  Tensor x = stem_(images);
  for (size_t s = 0; s < 4; ++s) out[s] = x = stages_[s](x);
  return out;
}

}  // namespace glia
