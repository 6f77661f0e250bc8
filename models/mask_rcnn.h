#pragma once
// Mask R-CNN (He, Gkioxari, Dollar and Girshick 2017) on a feature pyramid (Lin et al. 2017), by detectron2's layers, names and
// numbers. Three parts: backbone (images -> features p2..p6), proposal_generator (features -> boxes that may hold an object),
// roi_heads (boxes -> classes, better boxes, masks).
#include <memory>

#include "models/fpn.h"
#include "models/roi_heads.h"
#include "models/rpn.h"

namespace glia {

class MaskRcnn : public Module {
 public:
  explicit MaskRcnn(const MaskRcnnOptions& options);

  // images (N, H, W, 3) float32: normalised, then padded with zeros at the bottom and the right to multiples of 32; sizes: height
  // and width of each before padding. Losses loss_rpn_cls, loss_rpn_loc, loss_cls, loss_box_reg, loss_mask (in a cascade
  // loss_cls_stage0, ...; with mask scoring also loss_maskiou), each a scalar. `truth` is on the device of the images. Without a sampler anchors and regions are drawn by
  // set_random's seed and step. Throws UsageError for sizes that are no multiples of 32, DivergedError where proposals are not finite.
  NamedLosses losses(const Tensor& images, ImageSizes sizes, const GroundTruth& truth, Sampler* sampler = nullptr);

  // Eval mode and NoGrad are the caller's.
  std::vector<Detections> detect(const Tensor& images, ImageSizes sizes);

  // What detectron2 logs of a training step, by its names (rpn/num_pos_anchors, fast_rcnn/cls_accuracy, ...): of the last call of
  // losses(). Computed here, so that a step pays nothing when nobody asks.
  NamedValues statistics() const;

  const MaskRcnnOptions& options() const { return options_; }

 private:
  MaskRcnnOptions options_;

 public:
  Fpn backbone;
  Rpn proposal_generator;
  RoiHeads roi_heads;
};

}  // namespace glia
