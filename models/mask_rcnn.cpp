#include "models/mask_rcnn.h"

#include "autograd/tape.h"

namespace glia {
namespace {

const MaskRcnnOptions& valid(const MaskRcnnOptions& options) {
  options.validate();
  return options;
}

void check_batch(const Tensor& images, ImageSizes sizes) {
  if (images.dim(1) % 32 != 0 || images.dim(2) % 32 != 0)
    throw UsageError("Mask R-CNN: images are {}, want sides that are multiples of 32 (pad at the bottom and the right)",
                     images.shape());
  GLIA_CHECK(int64_t(sizes.size()) == images.dim(0), "Mask R-CNN: {} images, {} sizes", images.dim(0), sizes.size());
  for (const auto& [height, width] : sizes)
    GLIA_CHECK(height >= 1 && width >= 1 && height <= images.dim(1) && width <= images.dim(2),
               "Mask R-CNN: an image of {} x {} in a batch of {}", height, width, images.shape());
}

}  // namespace

void MaskRcnnOptions::validate() const {
  const auto want = [](bool good, const char* what) {
    if (!good) throw UsageError("Mask R-CNN: {}", what);
  };
  want(rpn.anchor_sizes.size() == 1 || rpn.anchor_sizes.size() == pyramid_strides.size(),
       "anchor_sizes wants one list, or one for each of the 5 levels p2 to p6");
  for (const auto& level : rpn.anchor_sizes)
    want(!level.empty() && level.size() == rpn.anchor_sizes[0].size(), "anchor_sizes wants as many sizes on each level");
  want(!rpn.anchor_aspect_ratios.empty(), "anchor_aspect_ratios is empty");
  want(rpn.iou_labels.size() == rpn.iou_thresholds.size() + 1, "rpn.iou_labels wants one more than iou_thresholds");
  want(roi_heads.iou_labels.size() == roi_heads.iou_thresholds.size() + 1,
       "roi_heads.iou_labels wants one more than iou_thresholds");
  want(rpn.batch_size_per_image >= 1 && roi_heads.batch_size_per_image >= 1, "batch_size_per_image is less than 1");
  want(rpn.pre_nms_topk_train >= 1 && rpn.pre_nms_topk_test >= 1 && rpn.post_nms_topk_train >= 1 && rpn.post_nms_topk_test >= 1,
       "a limit of proposals is less than 1");
  for (const auto& labels : {rpn.iou_labels, roi_heads.iou_labels}) {
    want(labels[0] != 1, "the first of iou_labels is 1: boxes without any instance would be positive");
    want(std::all_of(labels.begin(), labels.end(), [](int64_t l) { return l >= -1 && l <= 1; }), "iou_labels wants -1, 0 and 1");
  }
  for (const auto& thresholds : {rpn.iou_thresholds, roi_heads.iou_thresholds})
    want(std::is_sorted(thresholds.begin(), thresholds.end()), "iou_thresholds wants the smaller first");
  for (const double fraction : {rpn.positive_fraction, roi_heads.positive_fraction})
    want(fraction >= 0 && fraction <= 1, "positive_fraction wants 0 to 1");
  want(rpn.anchor_offset >= 0 && rpn.anchor_offset < 1, "anchor_offset wants 0 to below 1");
  want(rpn.num_conv >= 1, "rpn.num_conv is less than 1");
  want(roi_heads.num_classes >= 1, "num_classes is less than 1");
  want(roi_heads.box_num_fc >= 1, "box_num_fc is less than 1");
  want(roi_heads.mask_on || !roi_heads.mask_scoring, "mask_scoring wants masks (mask_on)");
  if (roi_heads.cascade_ious.empty()) return;
  want(roi_heads.cascade_bbox_reg_weights.size() >= roi_heads.cascade_ious.size(),
       "cascade_bbox_reg_weights wants as many as cascade_ious");
  want(roi_heads.cls_agnostic_bbox_reg, "a cascade wants cls_agnostic_bbox_reg");
  want(roi_heads.iou_thresholds == std::vector<double>{roi_heads.cascade_ious[0]},
       "the first of cascade_ious has to be roi_heads.iou_thresholds");
}

MaskRcnn::MaskRcnn(const MaskRcnnOptions& options)
    : options_(valid(options)),
      backbone(options.resnet, options.fpn_channels, options.fpn_norm),
      proposal_generator(options.rpn, options.fpn_channels),
      roi_heads(options.roi_heads, options.fpn_channels) {
  add("backbone", backbone);
  add("proposal_generator", proposal_generator);
  add("roi_heads", roi_heads);
}

NamedLosses MaskRcnn::losses(const Tensor& images, ImageSizes sizes, const GroundTruth& truth, Sampler* sampler) {
  check_batch(images, sizes);
  GLIA_CHECK(truth.first.size() == sizes.size() + 1, "Mask R-CNN: {} images, instances of {}", sizes.size(),
             truth.first.size() - 1);
  // One 64-bit number names this module and the step; the multiplier is SplitMix64's.
  RandomSampler random(draw().seed, draw().stream + uint64_t(draw().step) * 0x9E3779B97F4A7C15u);
  Sampler& pick = sampler ? *sampler : random;
  const Pyramid features = backbone(images);
  const RpnPredictions predictions = proposal_generator.predict(features);
  NamedLosses losses = proposal_generator.losses(predictions, truth, pick);
  const std::vector<Proposals> proposals = proposal_generator.proposals(predictions, sizes);
  for (auto& loss : roi_heads.losses(features, roi_heads.sample(proposals, truth, pick), truth, sizes)) losses.push_back(loss);
  return losses;
}

std::vector<Detections> MaskRcnn::detect(const Tensor& images, ImageSizes sizes) {
  check_batch(images, sizes);
  const Pyramid features = backbone(images);
  return roi_heads.detect(features, proposal_generator.proposals(proposal_generator.predict(features), sizes), sizes);
}

NamedValues MaskRcnn::statistics() const {
  NamedValues values = proposal_generator.statistics();
  for (const auto& value : roi_heads.statistics()) values.push_back(value);
  return values;
}

}  // namespace glia
