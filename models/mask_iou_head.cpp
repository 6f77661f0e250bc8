#include "models/mask_iou_head.h"

#include <algorithm>
#include <cmath>

#include "autograd/operators.h"
#include "autograd/view.h"
#include "kernels/index.h"
#include "kernels/loss.h"
#include "models/mask_head.h"

namespace glia {

MaskIouHead::MaskIouHead(const RoiHeadsOptions& o, int64_t channels) {
  constexpr int64_t convolutions = 4;
  for (int64_t i = 0; i < convolutions; ++i) {
    const nn::ConvOptions conv{.in = i == 0 ? channels + 1 : o.mask_conv_dim,
                               .out = o.mask_conv_dim,
                               .stride = i + 1 < convolutions ? 1 : 2,
                               .pad = nn::same_pad(3),
                               .activation = Activation::relu,
                               .init = nn::msra_fill};
    add(fmt::format("maskiou_fcn{}", i + 1), conv_.emplace_back(conv));
  }
  const int64_t side = (o.mask_pooler_resolution + 1) / 2, pixels = side * side;
  add("maskiou_fc1",
      fc_.emplace_back(o.mask_conv_dim * pixels, o.box_fc_dim, true, nn::xavier_fill, ParameterLayout::pooled(pixels)));
  add("maskiou_fc2", fc_.emplace_back(o.box_fc_dim, o.box_fc_dim, true, nn::xavier_fill));
  add("maskiou",
      fc_.emplace_back(o.box_fc_dim, o.num_classes, true, nn::Initializers{Initializer::normal_0_01, Initializer::zeros}));
}

Tensor MaskIouHead::operator()(const Tensor& pooled, const Tensor& logits, std::span<const int64_t> classes) {
  const int64_t regions = logits.dim(0), size = logits.dim(1);
  const Tensor mask = max_pool2d(sigmoid(reshape(logits, {regions, size, size, 1})), 2);
  Tensor x = concat({pooled, mask}, 3);
  for (nn::Conv2d& conv : conv_) x = conv(x);
  x = reshape(x, {regions, x.dim(1) * x.dim(2) * x.dim(3)});
  x = relu(fc_[1](relu(fc_[0](x))));
  const Tensor ious = fc_[2](x);  // (R, K)
  return reshape(class_logits(reshape(ious, {regions, 1, 1, ious.dim(1)}), classes), {regions});
}

std::vector<double> part_inside(const MaskPatches& masks, const Tensor& boxes, std::span<const int64_t> instance) {
  const Tensor bits = masks.bits.to(Device{}), windows = masks.windows.to(Device{}), host = boxes.to(Device{});
  // What of pixel i, which begins at i, lies between low and high.
  const auto covered = [](int64_t i, double low, double high) {
    return std::clamp(std::min(high, double(i + 1)) - std::max(low, double(i)), 0.0, 1.0);
  };
  std::vector<double> parts;
  for (size_t r = 0; r < instance.size(); ++r) {
    const float* box = host.data<float>() + 4 * r;
    const int64_t* w = windows.data<int64_t>() + windows.dim(1) * instance[r];
    const int64_t y0 = w[1], x0 = w[2], height = w[3], width = w[4];
    const uint8_t* pixel = bits.data<uint8_t>() + w[0];
    double inside = 0, all = 0;
    for (int64_t y = y0; y < y0 + height; ++y) {
      const double row = covered(y, double(box[1]), double(box[3]));
      for (int64_t x = x0; x < x0 + width; ++x, ++pixel) {
        if (*pixel == 0) continue;
        ++all;
        inside += row * covered(x, double(box[0]), double(box[2]));
      }
    }
    parts.push_back(all > 0 ? inside / all : 0);
  }
  return parts;
}

Tensor mask_iou_targets(const Tensor& logits, const Tensor& targets, std::span<const double> inside) {
  const Tensor z = logits.detach().to(Device{}), g = targets.to(Device{});
  const int64_t regions = z.dim(0), pixels = z.dim(1) * z.dim(2);
  Tensor ious({regions});
  for (int64_t r = 0; r < regions; ++r) {
    double predicted = 0, shown = 0, both = 0;
    for (int64_t i = r * pixels; i < (r + 1) * pixels; ++i) {
      const bool p = z.data<float>()[i] > 0, t = g.data<float>()[i] > 0.5F;
      predicted += p;
      shown += t;
      both += p && t;
    }
    const double whole = shown / std::max(inside[size_t(r)], 1e-10);
    ious.data<float>()[r] = static_cast<float>(both / std::max(1.0, predicted + whole - both));
  }
  return ious;
}

Tensor mask_iou_loss(const Tensor& predicted, const Tensor& targets) {
  std::vector<int64_t> some;
  for (int64_t r = 0; r < targets.dim(0); ++r)
    if (targets.data<float>()[r] > 0) some.push_back(r);
  const Device device = predicted.device();
  const Tensor truth = apply(IndexSelect{}, targets, index_tensor(some, {})).to(device);
  return 0.5 * apply(MseLoss{}, apply(IndexSelect{}, predicted, index_tensor(some, device)), truth);
}

}  // namespace glia
