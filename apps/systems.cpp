// From a configuration to the system that it describes: the one place that knows all of them.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "apps/segmentation.h"
#include "models/cellpose_segmenter.h"
#include "models/mask_rcnn_segmenter.h"
#include "models/unet_segmenter.h"

namespace glia {
namespace {

Normalization normalization_of(const std::string& name) {
  if (name == "unit") return Normalization::unit;
  if (name == "percentile") return Normalization::percentile;
  return name == "standard" ? Normalization::standard : Normalization::none;
}

PixelWeights pixel_weights_of(const LossConfig& loss) {
  PixelWeights weights{.sigma = loss.weight_sigma,
                       .curvature_radius = loss.weight_radius,
                       .balance = loss.weight_balance,
                       .normalize = loss.weight_normalize};
  for (const auto& [name, height] : loss.weights)
    (name == "border" ? weights.border : name == "contour" ? weights.contour : weights.curvature) = height;
  return weights;
}

UnetSegmenterOptions unet_options(const Config& config) {
  UnetSegmenterOptions options;
  const ModelConfig& model = config.model;
  options.network = {
      .name = model.name, .in_channels = config.data.channels, .base_channels = model.base_channels, .depth = model.depth};
  options.network.head = model.head;
  options.network.bilinear = model.upsample == "bilinear";
  options.network.dropout = model.dropout;
  options.network.deep_supervision = model.deep_supervision;
  options.network.prune = model.prune;
  options.target = model.target == "border" ? UnetTarget::border : UnetTarget::binary;
  options.normalization = normalization_of(config.data.normalize);
  options.resize = config.data.resize;
  options.image_size = {config.data.image_size.height, config.data.image_size.width};
  options.tile = {model.tile.height, model.tile.width};
  options.overlap = model.overlap;
  options.border_width = model.border_width;
  options.seed_threshold = model.seed_threshold;
  options.seed_size = model.seed_size;
  options.grow = model.grow;
  options.threshold = model.threshold;
  options.connectivity = static_cast<int>(model.connectivity);
  options.min_size = model.min_size;
  options.fill_holes = model.fill_holes;
  options.losses.clear();
  for (const auto& [name, weight] : config.loss.terms) {
    options.losses.push_back(name);
    options.loss_weights.push_back(weight);
  }
  if (options.losses.empty()) options.losses = {model.target == "border" ? "cross_entropy" : "bce"};
  options.class_weights = config.loss.class_weights;
  options.positive_weight = config.loss.positive_weight;
  options.focal_gamma = config.loss.focal_gamma;
  options.focal_alpha = config.loss.focal_alpha;
  options.tversky_alpha = config.loss.tversky_alpha;
  options.tversky_beta = config.loss.tversky_beta;
  options.smooth = config.loss.smooth;
  options.per = parse_per(config.loss.per);
  options.pixel_weights = pixel_weights_of(config.loss);
  return options;
}

template <size_t N>
std::array<double, N> array_of(const std::vector<double>& list) {
  GLIA_CHECK(list.size() == N, "configuration: {} numbers, want {}", list.size(), N);  // check_config has seen to it
  std::array<double, N> values{};
  std::copy(list.begin(), list.end(), values.begin());
  return values;
}

ResnetOptions resnet_options(const BackboneConfig& b) {
  ResnetOptions options;
  options.depth = b.depth;
  options.norm = nn::parse_norm(b.norm);
  options.freeze_at = b.freeze_at;
  options.stride_in_1x1 = b.stride_in_1x1;
  options.stem_channels = b.stem_channels;
  options.res2_channels = b.res2_channels;
  options.width_per_group = b.width_per_group;
  return options;
}

RpnOptions rpn_options(const RpnConfig& r) {
  RpnOptions options;
  options.anchor_sizes.clear();
  for (const double size : r.anchor_sizes) options.anchor_sizes.push_back({size});
  options.anchor_aspect_ratios = r.anchor_aspect_ratios;
  options.anchor_offset = r.anchor_offset;
  options.iou_thresholds = r.iou_thresholds;
  options.batch_size_per_image = r.batch_size_per_image;
  options.positive_fraction = r.positive_fraction;
  options.bbox_reg_weights = array_of<4>(r.bbox_reg_weights);
  options.smooth_l1_beta = r.smooth_l1_beta;
  options.pre_nms_topk_train = r.pre_nms_topk_train;
  options.pre_nms_topk_test = r.pre_nms_topk_test;
  options.post_nms_topk_train = r.post_nms_topk_train;
  options.post_nms_topk_test = r.post_nms_topk_test;
  options.nms_thresh = r.nms_thresh;
  options.min_size = r.min_size;
  return options;
}

RoiHeadsOptions roi_heads_options(const RoiHeadsConfig& r, int64_t num_classes) {
  RoiHeadsOptions options;
  options.num_classes = num_classes;
  options.iou_thresholds = {r.iou_threshold};
  options.batch_size_per_image = r.batch_size_per_image;
  options.positive_fraction = r.positive_fraction;
  options.proposal_append_gt = r.proposal_append_gt;
  options.score_thresh_test = r.score_thresh_test;
  options.nms_thresh_test = r.nms_thresh_test;
  options.detections_per_image = r.detections_per_image;
  options.box_pooler_resolution = r.box_pooler_resolution;
  options.box_pooler_sampling_ratio = r.box_pooler_sampling_ratio;
  options.box_num_fc = r.box_num_fc;
  options.box_fc_dim = r.box_fc_dim;
  options.bbox_reg_weights = array_of<4>(r.bbox_reg_weights);
  options.smooth_l1_beta = r.smooth_l1_beta;
  options.cls_agnostic_bbox_reg = r.cls_agnostic_bbox_reg;
  options.mask_pooler_resolution = r.mask_pooler_resolution;
  options.mask_pooler_sampling_ratio = r.mask_pooler_sampling_ratio;
  options.mask_num_conv = r.mask_num_conv;
  options.mask_conv_dim = r.mask_conv_dim;
  options.box_num_conv = r.box_num_conv;
  options.box_conv_dim = r.box_conv_dim;
  options.box_norm = nn::parse_norm(r.box_norm);
  options.mask_norm = nn::parse_norm(r.mask_norm);
  options.mask_scoring = r.mask_scoring;
  options.cascade_ious = r.cascade_ious;
  return options;
}

// Without names yet (model.num_classes = 0 before the data were seen) the network has one class.
int64_t class_count(const Config& config) {
  const int64_t names = static_cast<int64_t>(config.data.classes.size());
  return config.model.num_classes > 0 ? config.model.num_classes : std::max<int64_t>(1, names);
}

MaskRcnnSegmenterOptions mask_rcnn_options(const Config& config) {
  const InputConfig& in = config.input;
  const EvalConfig& eval = config.eval;
  MaskRcnnSegmenterOptions options;
  options.network = {.resnet = resnet_options(config.backbone),
                     .fpn_channels = config.backbone.fpn_channels,
                     .fpn_norm = nn::parse_norm(config.backbone.fpn_norm),
                     .rpn = rpn_options(config.rpn),
                     .roi_heads = roi_heads_options(config.roi_heads, class_count(config))};
  options.normalization = normalization_of(config.data.normalize);
  options.bgr = in.format == "BGR";
  options.pixel_mean = array_of<3>(in.pixel_mean);
  options.pixel_std = array_of<3>(in.pixel_std);
  options.min_size_test = in.min_size_test;
  options.max_size_test = in.max_size_test;
  options.tile = {in.tile.height, in.tile.width};
  options.overlap = in.overlap;
  options.flip = eval.flip;
  options.validation_losses = eval.losses;
  options.loss_weights = config.loss.terms;
  options.pixel_weights = pixel_weights_of(config.loss);
  options.network.roi_heads.mask_weights_normalize = config.loss.weight_normalize;
  options.selection.thresholds =
      eval.class_thresholds.empty() ? std::vector<double>{eval.score_threshold} : eval.class_thresholds;
  for (const double size : eval.min_sizes) options.selection.min_sizes.push_back(static_cast<int64_t>(size));
  options.selection.class_of_image = eval.class_of_image;
  options.selection.remove_overlaps = eval.remove_overlaps;
  return options;
}

CellposeSegmenterOptions cellpose_options(const Config& config) {
  const CellposeConfig& c = config.cellpose;
  CellposeSegmenterOptions options;
  options.network.base_channels = c.base_channels;
  options.channel = c.chan;
  options.nucleus_channel = c.chan2;
  options.normalization = {.percentiles = array_of<2>(c.norm_percentile), .invert = c.invert, .block = c.tile_norm};
  if (!c.low_high.empty()) options.normalization.low_high = array_of<2>(c.low_high);
  options.diam_mean = c.diam_mean;
  options.diameter = c.diameter.pixels;
  options.estimate_diameter = c.diameter.automatic;
  options.augment = {.crop = {c.crop.height, c.crop.width}, .scale_range = c.scale_range};
  options.tiling = {.tile = c.tile, .overlap = c.tile_overlap, .augment = c.augment, .batch_size = c.tile_batch};
  options.resample = c.resample;
  options.dynamics = {.steps = c.niter,
                      .interpolate = c.interpolate,
                      .cell_threshold = c.cellprob_threshold,
                      .flow_threshold = c.flow_threshold,
                      .max_size_fraction = c.max_size_fraction,
                      .min_size = c.min_size};
  for (const auto& [name, weight] : config.loss.terms) (name == "flow" ? options.flow_weight : options.cell_weight) = weight;
  return options;
}

}  // namespace

std::unique_ptr<Segmenter> make_segmenter(const Config& config) {
  if (system_of(config) == "cellpose") return make_cellpose_segmenter(cellpose_options(config));
  if (system_of(config) == "mask_rcnn") return make_mask_rcnn_segmenter(mask_rcnn_options(config));
  return make_unet_segmenter(unet_options(config));
}

std::vector<std::string> training_classes(const Config& config, const Dataset& dataset) {
  const int64_t wanted = config.model.num_classes;
  if (!config.data.classes.empty()) return config.data.classes;
  const auto count = static_cast<int64_t>(dataset.categories.size());
  if (wanted == 0 || wanted == count) return dataset.categories;
  if (wanted == 1) return {"cell"};
  throw DataError(
      "the data have {} classes ({}), but model.num_classes = {}: want that number, 0 (as the data), or 1 (all as one class)",
      count, fmt::join(dataset.categories, ", "), wanted);
}

void take_classes_from_names(Dataset& dataset, const std::vector<std::string>& classes) {
  const auto begins_with = [](const std::string& id, const std::string& name) {
    const auto alphanumeric = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
    const auto same = [](char a, char b) {
      return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
    };
    return id.size() >= name.size() && std::equal(name.begin(), name.end(), id.begin(), same) &&
           (id.size() == name.size() || !alphanumeric(id[name.size()]));
  };
  for (Sample& sample : dataset.samples) {
    const auto found =
        std::find_if(classes.begin(), classes.end(), [&](const std::string& name) { return begins_with(sample.id, name); });
    if (found == classes.end() && !sample.instances.empty())
      throw DataError("image '{}': its name begins with none of data.classes: {} (data.class_from = \"name\")", sample.id,
                      fmt::join(classes, ", "));
    for (Instance& instance : sample.instances) instance.category = static_cast<int>(found - classes.begin());
  }
  dataset.categories = classes;
  dataset.category_ids.clear();
}

void use_classes(Dataset& dataset, const std::vector<std::string>& classes) {
  std::vector<int> index;
  for (const std::string& name : dataset.categories) {
    const auto found = std::find(classes.begin(), classes.end(), name);
    if (found == classes.end() && classes.size() > 1)
      throw DataError("the data have a class '{}', which is not among data.classes: {}", name, fmt::join(classes, ", "));
    index.push_back(found == classes.end() ? 0 : static_cast<int>(found - classes.begin()));
  }
  for (Sample& sample : dataset.samples)
    for (Instance& instance : sample.instances) instance.category = index[static_cast<size_t>(instance.category)];
  dataset.categories = classes;
  dataset.category_ids.clear();
}

}  // namespace glia
