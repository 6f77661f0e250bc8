#pragma once
// Which pixels of a region belong to its instance (He et al. 2017), by detectron2's names: mask_head.mask_fcn1, .deconv, .predictor.
#include <deque>

#include "models/detection.h"
#include "models/mask_rcnn_options.h"
#include "models/segmenter.h"

namespace glia {

// 3x3 convolutions, a transposed one that doubles the size, a prediction for each class: (R, size, size, C) -> logits (R, 2 size, 2 size,
// K).
class MaskHead : public Module {
 public:
  MaskHead(const RoiHeadsOptions& options, int64_t channels);
  Tensor operator()(const Tensor& pooled);

 private:
  std::deque<nn::ConvNorm2d> conv_;
  nn::ConvTranspose2d deconv_;
  nn::Conv2d predictor_;
};

// Of logits (R, M, M, K) those of each region's class: (R, M, M).
Tensor class_logits(const Tensor& logits, std::span<const int64_t> classes);
// 0 or 1 at each pixel of the region's mask: (R, M, M) float32.
Tensor mask_targets(const MaskPatches& masks, const Tensor& boxes, std::span<const int64_t> instance, int64_t size);

// detectron2's mask_rcnn/... of logits and targets of one shape.
NamedValues mask_statistics(const Tensor& logits, const Tensor& targets);

}  // namespace glia
