// The keys of model.name = "mask_rcnn" alone.
#include "train/config_keys.h"

namespace glia {
namespace {

constexpr double big = 1e9;
const AllowedValues any{};

void add_input(std::vector<ConfigKey>& keys) {
  using I = InputConfig;
  constexpr auto s = &Config::input;
  keys.insert(
      keys.end(),
      {row("input.crop", s, &I::crop, between(0, 65536),
           "training: a random window, before anything else, N or [H, W]; 0: the whole image"),
       row("input.redraw_empty_crops", s, &I::redraw_empty_crops, any,
           "draw the window again where it holds no instance, up to 10 times"),
       row("input.min_size_train", s, &I::min_size_train, between(0, 32768),
           "training: the shorter side becomes one of these, by chance; [] or [0]: no resizing"),
       row("input.min_size_train_sampling", s, &I::min_size_train_sampling, one_of({"choice", "range"}),
           "choice: one of the sizes; range: any from the first to the second"),
       row("input.max_size_train", s, &I::max_size_train, between(0, 65536), "training: limit of the longer side; 0: none"),
       free(row("input.min_size_test", s, &I::min_size_test, between(0, 32768), "prediction: the shorter side; 0: no resizing")),
       free(row("input.max_size_test", s, &I::max_size_test, between(0, 65536), "prediction: limit of the longer side; 0: none")),
       free(row("input.tile", s, &I::tile, between(0, 65536),
                "prediction: a resized image larger than this, N or [H, W], is seen in overlapping tiles; 0: in one piece")),
       free(row("input.overlap", s, &I::overlap, between(0, 65536),
                "pixels that neighbouring tiles share; cells up to this size are seen whole")),
       row("input.format", s, &I::format, one_of({"BGR", "RGB"}), "order of the channels (gray is repeated to three)"),
       row("input.pixel_mean", s, &I::pixel_mean, between(-1e6, 1e6),
           "subtracted from the three channels, in that order, of 0..255"),
       row("input.pixel_std", s, &I::pixel_std, between(1e-6, 1e6), "the three channels are divided by these"),
       row("input.min_instance_size", s, &I::min_instance_size, between(0, big),
           "training: instances of fewer pixels, as augmented, are left out"),
       row("input.filter_empty", s, &I::filter_empty, any,
           "training images without an instance are left out; false: they are background"),
       row("input.aspect_ratio_grouping", s, &I::aspect_ratio_grouping, any,
           "batches of wide images, and batches of high ones")});
}

void add_backbone(std::vector<ConfigKey>& keys) {
  using B = BackboneConfig;
  constexpr auto s = &Config::backbone;
  keys.insert(keys.end(), {row("backbone.depth", s, &B::depth, between(50, 101), "of the ResNet: 50 or 101"),
                           row("backbone.norm", s, &B::norm, one_of({"frozen_bn", "bn", "gn"}),
                               "frozen_bn: constants of pretrained weights; bn or gn to train from scratch"),
                           row("backbone.freeze_at", s, &B::freeze_at, between(0, 5),
                               "stages that are not trained: 1 the stem, 2 also res2, ...; 0: none"),
                           row("backbone.stride_in_1x1", s, &B::stride_in_1x1, any, "true: MSRA's ResNet; false: torchvision's"),
                           row("backbone.stem_channels", s, &B::stem_channels, between(1, 4096), "outputs of the stem"),
                           row("backbone.res2_channels", s, &B::res2_channels, between(1, 4096),
                               "outputs of res2; each further stage has twice as many"),
                           row("backbone.width_per_group", s, &B::width_per_group, between(1, 4096),
                               "of res2's 3x3 convolutions; doubles with each stage"),
                           row("backbone.fpn_channels", s, &B::fpn_channels, between(1, 4096), "of the feature pyramid"),
                           row("backbone.fpn_norm", s, &B::fpn_norm, one_of({"none", "bn", "gn"}), "of its convolutions")});
}

void add_rpn(std::vector<ConfigKey>& keys) {
  using R = RpnConfig;
  constexpr auto s = &Config::rpn;
  keys.insert(
      keys.end(),
      {row("rpn.anchor_sizes", s, &R::anchor_sizes, between(1, 65536),
           "sides of the square anchors in pixels, one for each level p2 to p6"),
       row("rpn.anchor_aspect_ratios", s, &R::anchor_aspect_ratios, between(0.01, 100), "height / width of the anchors"),
       row("rpn.anchor_offset", s, &R::anchor_offset, between(0, 1), "of the anchors' grid, in strides"),
       row("rpn.iou_thresholds", s, &R::iou_thresholds, between(0, 1),
           "an anchor below the first is background, from the second on object"),
       row("rpn.batch_size_per_image", s, &R::batch_size_per_image, between(1, 1e6), "anchors that the loss looks at"),
       row("rpn.positive_fraction", s, &R::positive_fraction, between(0, 1), "largest part of them that is object"),
       row("rpn.bbox_reg_weights", s, &R::bbox_reg_weights, between(1e-6, 1e6), "of dx, dy, dw, dh"),
       row("rpn.smooth_l1_beta", s, &R::smooth_l1_beta, between(0, 1e6),
           "where loss_rpn_loc turns from square to absolute; 0: absolute"),
       row("rpn.pre_nms_topk_train", s, &R::pre_nms_topk_train, between(1, big),
           "best anchors per level that are looked at in training"),
       free(row("rpn.pre_nms_topk_test", s, &R::pre_nms_topk_test, between(1, big), "and in prediction")),
       row("rpn.post_nms_topk_train", s, &R::post_nms_topk_train, between(1, big), "proposals per image in training"),
       free(row("rpn.post_nms_topk_test", s, &R::post_nms_topk_test, between(1, big),
                "and in prediction; at least roi_heads.detections_per_image")),
       row("rpn.nms_thresh", s, &R::nms_thresh, between(0, 1), "proposals that overlap a better one by a larger IoU are dropped"),
       row("rpn.min_size", s, &R::min_size, between(0, 65536), "proposals that are not wider and higher are dropped")});
}

void add_roi_heads(std::vector<ConfigKey>& keys) {
  using R = RoiHeadsConfig;
  constexpr auto s = &Config::roi_heads;
  keys.insert(
      keys.end(),
      {row("roi_heads.iou_threshold", s, &R::iou_threshold, between(0, 1),
           "proposals with a smaller IoU with every instance are background"),
       row("roi_heads.batch_size_per_image", s, &R::batch_size_per_image, between(1, 1e6),
           "proposals that the heads are trained on"),
       row("roi_heads.positive_fraction", s, &R::positive_fraction, between(0, 1), "largest part of them that is object"),
       row("roi_heads.proposal_append_gt", s, &R::proposal_append_gt, any,
           "the instances' own boxes are proposals too, in training"),
       free(row("roi_heads.score_thresh_test", s, &R::score_thresh_test, between(0, 1),
                "detections with a lower score do not leave the network")),
       free(row("roi_heads.nms_thresh_test", s, &R::nms_thresh_test, between(0, 1),
                "detections that overlap a better one of their class by a larger IoU are dropped")),
       free(row("roi_heads.detections_per_image", s, &R::detections_per_image, between(-1, 1e6),
                "best detections that are kept; -1: all")),
       row("roi_heads.box_pooler_resolution", s, &R::box_pooler_resolution, between(1, 64), "of ROIAlign for the box head"),
       row("roi_heads.box_pooler_sampling_ratio", s, &R::box_pooler_sampling_ratio, between(0, 64),
           "samples per bin and axis; 0: as many as the bin is wide"),
       row("roi_heads.box_num_fc", s, &R::box_num_fc, between(1, 16), "linear layers of the box head"),
       row("roi_heads.box_fc_dim", s, &R::box_fc_dim, between(1, 65536), "their outputs"),
       row("roi_heads.box_num_conv", s, &R::box_num_conv, between(0, 16), "3x3 convolutions before them"),
       row("roi_heads.box_conv_dim", s, &R::box_conv_dim, between(1, 4096), "their channels"),
       row("roi_heads.box_norm", s, &R::box_norm, one_of({"none", "bn", "gn"}), "their norm"),
       row("roi_heads.bbox_reg_weights", s, &R::bbox_reg_weights, between(1e-6, 1e6), "of dx, dy, dw, dh"),
       row("roi_heads.smooth_l1_beta", s, &R::smooth_l1_beta, between(0, 1e6),
           "where loss_box_reg turns from square to absolute; 0: absolute"),
       row("roi_heads.cls_agnostic_bbox_reg", s, &R::cls_agnostic_bbox_reg, any, "one box for all classes"),
       row("roi_heads.mask_pooler_resolution", s, &R::mask_pooler_resolution, between(1, 64),
           "of ROIAlign for the mask head; masks have twice as many pixels a side"),
       row("roi_heads.mask_pooler_sampling_ratio", s, &R::mask_pooler_sampling_ratio, between(0, 64), "as the box pooler's"),
       row("roi_heads.mask_num_conv", s, &R::mask_num_conv, between(0, 16), "3x3 convolutions of the mask head"),
       row("roi_heads.mask_conv_dim", s, &R::mask_conv_dim, between(1, 4096), "their channels"),
       row("roi_heads.mask_norm", s, &R::mask_norm, one_of({"none", "bn", "gn"}), "their norm"),
       row("roi_heads.mask_scoring", s, &R::mask_scoring, any,
           "Mask Scoring R-CNN: a head predicts each mask's IoU, and instances are ranked by class score x IoU"),
       row("roi_heads.cascade_ious", s, &R::cascade_ious, between(0, 1),
           "Cascade R-CNN: the IoU from which a box is object, by box head, such as [0.5, 0.6, 0.7]; []: a single head")});
}

}  // namespace

void add_mask_rcnn_keys(std::vector<ConfigKey>& keys) {
  const size_t first = keys.size();
  add_input(keys);
  add_backbone(keys);
  add_rpn(keys);
  add_roi_heads(keys);
  for (size_t i = first; i < keys.size(); ++i) keys[i].system = "mask_rcnn";
}

}  // namespace glia
