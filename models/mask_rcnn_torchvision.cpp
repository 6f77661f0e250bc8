#include "models/mask_rcnn_torchvision.h"

#include <algorithm>
#include <cmath>

#include "autograd/operators.h"

namespace glia {
MaskRcnnOptions torchvision_options(TorchvisionModel model, int64_t num_classes) {
  const bool v2 = model == TorchvisionModel::v2;
  const nn::NormKind norm = v2 ? nn::NormKind::bn : nn::NormKind::none;
  MaskRcnnOptions o;
  o.resnet.stride_in_1x1 = false;
  o.resnet.norm = v2 ? nn::NormKind::bn : nn::NormKind::frozen_bn;
  o.resnet.freeze_at = v2 ? 0 : 2;
  o.fpn_norm = norm;
  o.rpn.torchvision_anchors = true;
  o.rpn.num_conv = v2 ? 2 : 1;
  o.rpn.min_size = 1e-3;
  o.rpn.post_nms_topk_train = 2000;
  o.rpn.smooth_l1_beta = o.roi_heads.smooth_l1_beta = 1.0 / 9;
  o.roi_heads.num_classes = num_classes;
  o.roi_heads.min_size_test = 1e-2;
  o.roi_heads.pooler_aligned = false;
  o.roi_heads.box_pooler_sampling_ratio = o.roi_heads.mask_pooler_sampling_ratio = 2;
  o.roi_heads.box_num_conv = v2 ? 4 : 0;
  o.roi_heads.box_num_fc = v2 ? 1 : 2;
  o.roi_heads.box_norm = o.roi_heads.mask_norm = norm;
  return o;
}

TorchvisionInput torchvision_input(const Tensor& image, double min_size, double max_size) {
  constexpr std::array<float, 3> mean{0.485F, 0.456F, 0.406F}, deviation{0.229F, 0.224F, 0.225F};
  const NoGrad no_grad;
  GLIA_CHECK(image.rank() == 3 && image.dim(2) == 3 && image.size() > 0, "torchvision's input: {}, want (height, width, 3)",
             image.shape());
  const int64_t height = image.dim(0), width = image.dim(1);
  Tensor normal({1, height, width, 3});
  for (int64_t i = 0; i < image.size(); ++i) {
    const auto c = size_t(i % 3);
    normal.data<float>()[i] = (image.data<float>()[i] - mean[c]) / deviation[c];
  }
  // The factor is float32 there.
  const float scale =
      std::min(float(min_size) / float(std::min(height, width)), float(max_size) / float(std::max(height, width)));
  const std::array<int64_t, 2> size{int64_t(std::floor(double(height) * double(scale))),
                                    int64_t(std::floor(double(width) * double(scale)))};
  const Tensor resized = apply(Resize{.mode = ResizeMode::bilinear, .size = size}, normal);
  const auto missing = [](int64_t n) { return (32 - n % 32) % 32; };
  return {pad2d(resized, 0, 0, missing(size[0]), missing(size[1])), size};
}

Tensor torchvision_paste(const Tensor& mask_probs, const Tensor& boxes, int64_t height, int64_t width) {
  const NoGrad no_grad;
  const int64_t count = boxes.dim(0), m = mask_probs.dim(1) + 2;
  const Tensor padded = pad2d(mask_probs.reshape({count, m - 2, m - 2, 1}), 1, 1, 1, 1);
  const auto factor = static_cast<float>(double(m) / double(m - 2));
  const Tensor out = Tensor::zeros({count, height, width});
  for (int64_t i = 0; i < count; ++i) {
    const float* b = boxes.data<float>() + 4 * i;
    std::array<int64_t, 2> low{}, side{};  // x, y
    for (size_t k = 0; k < 2; ++k) {
      const float half = (b[k + 2] - b[k]) * 0.5F * factor, centre = (b[k + 2] + b[k]) * 0.5F;
      low[k] = static_cast<int64_t>(centre - half);
      side[k] = std::max<int64_t>(static_cast<int64_t>(centre + half) - low[k] + 1, 1);
    }
    const Tensor soft = apply(Resize{.mode = ResizeMode::bilinear, .size = {side[1], side[0]}}, padded.slice(i, i + 1));
    const int64_t x0 = std::max<int64_t>(low[0], 0), x1 = std::min(low[0] + side[0], width);
    for (int64_t y = std::max<int64_t>(low[1], 0); y < std::min(low[1] + side[1], height); ++y)
      if (x1 > x0)
        std::copy_n(soft.data<float>() + (y - low[1]) * side[0] + x0 - low[0], x1 - x0,
                    out.data<float>() + (i * height + y) * width + x0);
  }
  return out;
}

}  // namespace glia
