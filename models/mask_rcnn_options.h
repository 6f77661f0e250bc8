#pragma once
// Every constant of Mask R-CNN, with the defaults of detectron2's COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.
#include <array>
#include <cstdint>
#include <vector>

#include "nn/layers.h"

namespace glia {

struct ResnetOptions {
  int64_t depth = 50;  // or 101
  int64_t in_channels = 3;
  int64_t stem_channels = 64;
  int64_t res2_channels = 256;   // outputs of res2; doubled by each further stage
  int64_t width_per_group = 64;  // of res2's 3x3 convolutions; doubled by each further stage
  bool stride_in_1x1 = true;     // MSRA's weights; false: in the 3x3 (torchvision)
  nn::NormKind norm = nn::NormKind::frozen_bn;
  double norm_eps = 1e-5;
  int64_t freeze_at = 2;  // 1: the stem takes no gradient, 2: nor does res2, ...; 0: everything is trained
};

struct RpnOptions {
  std::vector<std::vector<double>> anchor_sizes{
      {32}, {64}, {128}, {256}, {512}};                 // per level p2..p6: sides of squares, in pixels
  std::vector<double> anchor_aspect_ratios{0.5, 1, 2};  // height / width
  double anchor_offset = 0;                             // of the grid, in strides
  bool torchvision_anchors =
      false;  // corners rounded to pixels; strides: padded size of the image / size of the level, rounded down
  std::vector<double> iou_thresholds{0.3, 0.7};
  std::vector<int64_t> iou_labels{0, -1, 1};  // below, between, above the thresholds: background, ignored, object
  int64_t batch_size_per_image = 256;
  double positive_fraction = 0.5;
  std::array<double, 4> bbox_reg_weights{1, 1, 1, 1};
  double smooth_l1_beta = 0;
  int64_t pre_nms_topk_train = 2000;  // per level
  int64_t pre_nms_topk_test = 1000;
  int64_t post_nms_topk_train = 1000;  // per image
  int64_t post_nms_topk_test = 1000;
  double nms_thresh = 0.7;
  double min_size = 0;  // proposals have to be wider and higher than this
  double loss_weight = 1;
  int64_t num_conv = 1;  // 3x3 convolutions before the two predictors
};

struct RoiHeadsOptions {
  int64_t num_classes = 80;  // K; background is label K
  std::vector<double> iou_thresholds{0.5};
  std::vector<int64_t> iou_labels{0, 1};
  int64_t batch_size_per_image = 512;
  double positive_fraction = 0.25;
  bool proposal_append_gt = true;
  double score_thresh_test = 0.05;
  double nms_thresh_test = 0.5;
  int64_t detections_per_image = 100;  // negative: all
  double min_size_test = 0;            // detections have to be at least as wide and high

  bool pooler_aligned = true;  // false: no half pixel taken off (ROIAlign as first published; torchvision)

  // Box head: pooled features, `box_num_fc` linear layers, class scores and box deltas.
  int64_t box_pooler_resolution = 7;
  int64_t box_pooler_sampling_ratio = 0;  // samples per bin and axis; 0: as many as the bin is wide
  int64_t box_fc_dim = 1024;
  int64_t box_num_fc = 2;
  int64_t box_num_conv = 0;  // 3x3 convolutions before them
  int64_t box_conv_dim = 256;
  nn::NormKind box_norm = nn::NormKind::none;  // of these
  std::array<double, 4> bbox_reg_weights{10, 10, 5, 5};
  double smooth_l1_beta = 0;
  bool cls_agnostic_bbox_reg = false;

  // Mask head: pooled features, `mask_num_conv` 3x3 convolutions, a transposed one and the predictor.
  bool mask_on = true;
  int64_t mask_pooler_resolution = 14;  // masks have twice as many pixels a side
  int64_t mask_pooler_sampling_ratio = 0;
  int64_t mask_conv_dim = 256;
  int64_t mask_num_conv = 4;
  nn::NormKind mask_norm = nn::NormKind::none;
  bool mask_weights_normalize = false;  // weights of pixels in loss_mask (GroundTruth::pixel_weights) are divided by their mean
  bool mask_scoring = false;            // a head that predicts the masks' IoU (Mask Scoring R-CNN)

  // Cascade: one box head per threshold, the later ones on the boxes of the one before. Empty: a single head.
  std::vector<double> cascade_ious{};  // detectron2: 0.5, 0.6, 0.7
  std::vector<std::array<double, 4>> cascade_bbox_reg_weights{{10, 10, 5, 5}, {20, 20, 10, 10}, {30, 30, 15, 15}};
};

struct MaskRcnnOptions {
  ResnetOptions resnet{};
  int64_t fpn_channels = 256;
  nn::NormKind fpn_norm = nn::NormKind::none;
  RpnOptions rpn{};
  RoiHeadsOptions roi_heads{};

  void validate() const;  // UsageError naming what does not fit
};

}  // namespace glia
