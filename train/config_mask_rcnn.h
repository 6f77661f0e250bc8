#pragma once
// Sections of the configuration that belong to model.name = "mask_rcnn" alone. Names and defaults are those of detectron2's
// COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x, in lower case. What each is for: config_keys_mask_rcnn.cpp.
#include <cstdint>
#include <string>
#include <vector>

namespace glia {

struct ImageSize {  // written N or [H, W] in pixels; 0: the image's own
  int64_t height = 0;
  int64_t width = 0;
  bool operator==(const ImageSize&) const = default;
};

struct InputConfig {
  ImageSize crop{0, 0};
  bool redraw_empty_crops = false;
  std::vector<double> min_size_train{640, 672, 704, 736, 768, 800};
  std::string min_size_train_sampling = "choice";
  int64_t max_size_train = 1333;
  int64_t min_size_test = 800;
  int64_t max_size_test = 1333;
  ImageSize tile{0, 0};
  int64_t overlap = 256;
  std::string format = "BGR";
  std::vector<double> pixel_mean{103.530, 116.280, 123.675};
  std::vector<double> pixel_std{1, 1, 1};
  int64_t min_instance_size = 0;
  bool filter_empty = true;
  bool aspect_ratio_grouping = true;
};

struct BackboneConfig {
  int64_t depth = 50;
  std::string norm = "frozen_bn";
  int64_t freeze_at = 2;
  bool stride_in_1x1 = true;
  int64_t stem_channels = 64;
  int64_t res2_channels = 256;
  int64_t width_per_group = 64;
  int64_t fpn_channels = 256;
  std::string fpn_norm = "none";
};

struct RpnConfig {
  std::vector<double> anchor_sizes{32, 64, 128, 256, 512};
  std::vector<double> anchor_aspect_ratios{0.5, 1, 2};
  double anchor_offset = 0;
  std::vector<double> iou_thresholds{0.3, 0.7};
  int64_t batch_size_per_image = 256;
  double positive_fraction = 0.5;
  std::vector<double> bbox_reg_weights{1, 1, 1, 1};
  double smooth_l1_beta = 0;
  int64_t pre_nms_topk_train = 2000;
  int64_t pre_nms_topk_test = 1000;
  int64_t post_nms_topk_train = 1000;
  int64_t post_nms_topk_test = 1000;
  double nms_thresh = 0.7;
  double min_size = 0;
};

struct RoiHeadsConfig {
  double iou_threshold = 0.5;
  int64_t batch_size_per_image = 512;
  double positive_fraction = 0.25;
  bool proposal_append_gt = true;
  double score_thresh_test = 0.05;
  double nms_thresh_test = 0.5;
  int64_t detections_per_image = 100;
  int64_t box_pooler_resolution = 7;
  int64_t box_pooler_sampling_ratio = 0;
  int64_t box_num_fc = 2;
  int64_t box_fc_dim = 1024;
  int64_t box_num_conv = 0;
  int64_t box_conv_dim = 256;
  std::string box_norm = "none";
  std::vector<double> bbox_reg_weights{10, 10, 5, 5};
  double smooth_l1_beta = 0;
  bool cls_agnostic_bbox_reg = false;
  int64_t mask_pooler_resolution = 14;
  int64_t mask_pooler_sampling_ratio = 0;
  int64_t mask_num_conv = 4;
  int64_t mask_conv_dim = 256;
  std::string mask_norm = "none";
  bool mask_scoring = false;
  std::vector<double> cascade_ious{};
};

}  // namespace glia
