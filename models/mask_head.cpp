#include "models/mask_head.h"

#include <algorithm>

#include "autograd/operators.h"
#include "autograd/view.h"
#include "kernels/index.h"

namespace glia {
namespace {

nn::ConvOptions deconv(int64_t channels, int64_t out) {
  return {.in = channels, .out = out, .kernel = 2, .stride = 2, .activation = Activation::relu, .init = nn::msra_fill};
}

}  // namespace

MaskHead::MaskHead(const RoiHeadsOptions& o, int64_t channels)
    : deconv_(deconv(o.mask_num_conv > 0 ? o.mask_conv_dim : channels, o.mask_conv_dim)),
      predictor_(
          {.in = o.mask_conv_dim, .out = o.num_classes, .kernel = 1, .init = {Initializer::normal_0_001, Initializer::zeros}}) {
  for (int64_t i = 0; i < o.mask_num_conv; ++i) {
    const nn::ConvOptions conv{.in = i == 0 ? channels : o.mask_conv_dim,
                               .out = o.mask_conv_dim,
                               .pad = nn::same_pad(3),
                               .bias = o.mask_norm == nn::NormKind::none,
                               .activation = Activation::relu,
                               .init = nn::msra_fill};
    add(fmt::format("mask_fcn{}", i + 1), conv_.emplace_back(conv, o.mask_norm));
  }
  add("deconv", deconv_);
  add("predictor", predictor_);
}

Tensor MaskHead::operator()(const Tensor& pooled) {
  Tensor x = pooled;
  for (nn::ConvNorm2d& conv : conv_) x = conv(x);
  return predictor_(deconv_(x));
}

Tensor class_logits(const Tensor& logits, std::span<const int64_t> classes) {
  const int64_t regions = logits.dim(0), height = logits.dim(1), width = logits.dim(2);
  if (logits.dim(3) == 1) return reshape(logits, {regions, height, width});
  Tensor channel({regions, height, width, 1}, DType::int64);
  for (int64_t r = 0; r < regions; ++r)
    std::fill_n(channel.data<int64_t>() + r * height * width, height * width, classes[size_t(r)]);
  return reshape(apply(Gather{.axis = 3}, logits, channel.to(logits.device())), {regions, height, width});
}

Tensor mask_targets(const MaskPatches& masks, const Tensor& boxes, std::span<const int64_t> instance, int64_t size) {
  const Device device = boxes.device();
  const Tensor soft = apply(MaskCrop{size}, masks.bits, masks.windows, boxes, index_tensor(instance, device)).to(Device{});
  Tensor target(soft.shape());
  for (int64_t i = 0; i < soft.size(); ++i) target.data<float>()[i] = soft.data<float>()[i] >= 0.5F ? 1.0F : 0.0F;
  return target.to(device);
}

NamedValues mask_statistics(const Tensor& logits, const Tensor& targets) {
  const Tensor host = logits.to(Device{}), truth = targets.to(Device{});
  double positives = 0, extra = 0, missed = 0;
  const auto all = double(host.size());
  for (int64_t i = 0; i < host.size(); ++i) {
    const bool is = truth.data<float>()[i] > 0.5F, got = host.data<float>()[i] > 0;
    positives += is;
    extra += got && !is;
    missed += is && !got;
  }
  return {{"mask_rcnn/accuracy", 1 - (extra + missed) / std::max(1.0, all)},
          {"mask_rcnn/false_positive", extra / std::max(1.0, all - positives)},
          {"mask_rcnn/false_negative", missed / std::max(1.0, positives)}};
}

}  // namespace glia
