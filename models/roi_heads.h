#pragma once
// The heads of Mask R-CNN (He et al. 2017) on the regions of a feature pyramid: box_head, box_predictor, mask_head, and with mask scoring
// maskiou_head. With several box heads
// (Cascade R-CNN, Cai and Vasconcelos 2018) each but the first starts from the boxes of the one before, and they are numbered:
// box_head.0.fc1, ...
#include <optional>

#include "models/box_head.h"
#include "models/fpn.h"
#include "models/mask_head.h"
#include "models/mask_iou_head.h"

namespace glia {

class RoiHeads : public Module {
 public:
  RoiHeads(const RoiHeadsOptions& options, int64_t channels);

  // The regions that a training step looks at: of each image's proposals, and its instances' own boxes, those that the sampler picks.
  LabelledRois sample(std::span<const Proposals> proposals, const GroundTruth& truth, Sampler& sampler);

  // loss_cls, loss_box_reg (of each stage where there are several: loss_cls_stage0, ...), loss_mask: mean binary cross entropy of the
  // mask of the region's class, over the regions that are not background, by truth.pixel_weights where it has them; with mask scoring loss_maskiou over the same.
  NamedLosses losses(const Pyramid& features, const LabelledRois& rois, const GroundTruth& truth, ImageSizes sizes);

  std::vector<Detections> detect(const Pyramid& features, std::span<const Proposals> proposals, ImageSizes sizes);

  // Of the last losses().
  NamedValues statistics() const;
  const RoiHeadsOptions& options() const { return options_; }

 private:
  Tensor pool(const Pyramid& features, const Rois& rois, int64_t size, int64_t sampling) const;
  BoxPredictions predict(size_t stage, const Pyramid& features, const Rois& rois);
  LabelledRois relabel(const Tensor& boxes, const LabelledRois& rois, const GroundTruth& truth, ImageSizes sizes,
                       double iou) const;
  struct Masks {
    Tensor probabilities, ious;  // (R, M, M), (R) on the host; ious absent without mask scoring
  };
  Masks predict_masks(const Pyramid& features, const Rois& rois, std::span<const int64_t> classes);
  size_t stages() const { return box_head_.size(); }
  bool is_cascade() const { return !options_.cascade_ious.empty(); }

  RoiHeadsOptions options_;
  std::deque<BoxHead> box_head_;
  std::deque<BoxPredictor> box_predictor_;
  std::optional<MaskHead> mask_head_;
  std::optional<MaskIouHead> mask_iou_head_;

  struct Kept {  // for statistics()
    size_t images = 0;
    std::vector<std::pair<Tensor, std::vector<int64_t>>> boxes;  // scores and classes of each stage
    Tensor mask_logits, mask_targets;
  } kept_;
};

}  // namespace glia
