#pragma once
// How well a mask fits, learned: Mask Scoring R-CNN (Huang, Huang, Gong, Huang and Wang, CVPR 2019). The head sees what the mask head saw and
// what it made of it, and regresses the IoU of the mask with the instance; a detection's mask is ranked by class score x this IoU.
// Layer sizes, target and loss are those of the authors' program; names: maskiou_head.maskiou_fcn1 to 4, .maskiou_fc1, .maskiou_fc2, .maskiou.
#include <deque>

#include "models/detection.h"
#include "models/mask_rcnn_options.h"
#include "nn/layers.h"

namespace glia {

// Features (R, S, S, C) and the mask's probabilities, halved by maxima to (R, S, S, 1), side by side; four 3x3 convolutions, the last with
// stride 2; two linear layers; an IoU for each class. Convolutions are options.mask_conv_dim wide, linear layers options.box_fc_dim.
class MaskIouHead : public Module {
 public:
  MaskIouHead(const RoiHeadsOptions& options, int64_t channels);
  // pooled (R, S, S, C): the mask head's input. logits (R, 2S, 2S): its output for the region's class. -> (R): the IoU predicted for that
  // class. Gradients go to both.
  Tensor operator()(const Tensor& pooled, const Tensor& logits, std::span<const int64_t> classes);

 private:
  std::deque<nn::Conv2d> conv_;
  std::deque<nn::Linear> fc_;
};

// The part of each instance's pixels that lies in the region's box, 0 to 1 (a pixel on its edge counts by what is inside). boxes (R, 4).
std::vector<double> part_inside(const MaskPatches& masks, const Tensor& boxes, std::span<const int64_t> instance);

// IoU of each predicted mask with its whole instance, of which the region shows the part `inside`: with P = (logit > 0) and the target G,
// |P and G| / max(1, |P| + |G| / max(inside, 1e-10) - |P and G|). (The authors' program has logit > 0.5 here; the paper, section 3.3, a
// probability of 0.5.) logits, targets (R, M, M) -> (R) float32 on the host.
Tensor mask_iou_targets(const Tensor& logits, const Tensor& targets, std::span<const double> inside);

// Half the mean squared error over the regions whose target is above 0; 0 where there are none. predicted (R), targets (R) on the host.
Tensor mask_iou_loss(const Tensor& predicted, const Tensor& targets);

}  // namespace glia
