// What concerns several keys at once.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tensor/error.h"
#include "train/config_keys.h"
#include "train/on_nan.h"

namespace glia {

namespace {

[[noreturn]] void fail(const Config& c, const char* key, std::string_view why) {
  throw UsageError("{}: {}", key_and_value(c, key), why);
}

// A setting of another family of models would change nothing. Its default may stand there: older versions wrote all keys.
void check_systems(const Config& c) {
  Config given = c, defaults;
  for (const auto& [name, origin] : c.origins) {
    const ConfigKey* key = find_config_key(name);
    if (!applies(*key, c) && value_text(key->slot(given)) != value_text(key->slot(defaults)))
      throw UsageError("{}: the models of system {} have this setting, model.name = \"{}\" has not", key_and_value(c, name),
                       key->system, c.model.name);
  }
}

void check_unet(const Config& c) {
  const int64_t factor = int64_t(1) << c.model.depth;
  const ImageSize size = c.data.image_size;
  if ((size.height == 0) != (size.width == 0)) fail(c, "data.image_size", "one side is 0; 0 stands for the image's own size");
  if (size.height && (size.height % 2 || size.width % 2))
    fail(c, "data.image_size", "sides must be even: the network pools by 2");
  const bool needs_factor = c.model.name == "unet_keras" || c.model.name == "unet_dsb" || c.model.name == "unet_plus_plus";
  if (needs_factor && (size.height % factor || size.width % factor))
    fail(c, "data.image_size", fmt::format("sides must be divisible by {} (2^depth, model.depth = {})", factor, c.model.depth));
  if (needs_factor && (c.model.tile.height % factor || c.model.tile.width % factor))
    fail(c, "model.tile", fmt::format("sides must be divisible by {} (2^depth, model.depth = {})", factor, c.model.depth));
  const int64_t tile = std::min(c.model.tile.height, c.model.tile.width);
  if (tile && c.model.overlap >= tile) fail(c, "model.overlap", fmt::format("must be smaller than a tile's side, {}", tile));
  if (c.data.fit == "crop" && size.height == 0) fail(c, "data.fit", "a crop needs data.image_size");
  if (c.model.prune != 0 && c.model.name != "unet_plus_plus") fail(c, "model.prune", "only unet_plus_plus can be pruned");
  if (c.model.prune > c.model.depth)
    fail(c, "model.prune", fmt::format("want at most the number of columns, model.depth = {}", c.model.depth));
  if (c.model.prune != 0 && c.model.prune != c.model.depth && !c.model.deep_supervision)
    fail(c, "model.prune", "the heads before the last are there with model.deep_supervision = true only");
  if (c.model.connectivity != 4 && c.model.connectivity != 8) fail(c, "model.connectivity", "want 4 or 8");
}

void want_count(const Config& c, const char* key, const std::vector<double>& list, size_t count, const char* of) {
  if (list.size() != count) fail(c, key, fmt::format("{} numbers, want {}{}", list.size(), count, of));
}

void want_whole(const Config& c, const char* key, const std::vector<double>& list) {
  if (std::any_of(list.begin(), list.end(), [](double v) { return v != std::floor(v); }))
    fail(c, key, "want whole numbers of pixels");
}

// Per class, or one for all, or none.
void want_per_class(const Config& c, const char* key, const std::vector<double>& list) {
  const auto classes = static_cast<size_t>(c.model.num_classes > 0 ? c.model.num_classes : int64_t(c.data.classes.size()));
  if (list.size() > 1 && classes > 0 && list.size() != classes)
    fail(c, key, fmt::format("{} numbers, want one for each of {} classes, or one for all", list.size(), classes));
}

void check_input(const Config& c) {
  const InputConfig& in = c.input;
  if ((in.crop.height == 0) != (in.crop.width == 0))
    fail(c, "input.crop", "one side is 0; want two sides, or 0 for the whole image");
  want_whole(c, "input.min_size_train", in.min_size_train);
  const auto& sizes = in.min_size_train;
  if (in.min_size_train_sampling == "range" && (sizes.size() != 2 || sizes[0] > sizes[1] || sizes[0] < 1))
    fail(c, "input.min_size_train", "a range needs two sizes, the smaller first");
  for (const double size : sizes)
    if (in.max_size_train > 0 && size > double(in.max_size_train))
      fail(c, "input.max_size_train",
           fmt::format("is below input.min_size_train's {}: the shorter side cannot be longer than the longer", size));
  if (in.max_size_test > 0 && in.min_size_test > in.max_size_test)
    fail(c, "input.max_size_test", fmt::format("is below input.min_size_test = {}", in.min_size_test));
  if ((in.tile.height == 0) != (in.tile.width == 0))
    fail(c, "input.tile", "one side is 0; want two sides, or 0 for the image in one piece");
  const int64_t tile = std::min(in.tile.height, in.tile.width);
  if (tile && in.overlap >= tile) fail(c, "input.overlap", fmt::format("must be smaller than a tile's side, {}", tile));
  want_count(c, "input.pixel_mean", in.pixel_mean, 3, ", one for each channel");
  want_count(c, "input.pixel_std", in.pixel_std, 3, ", one for each channel");
  if (in.redraw_empty_crops && in.crop.height == 0) fail(c, "input.redraw_empty_crops", "needs input.crop");
}

void check_cascade(const Config& c) {
  const std::vector<double>& ious = c.roi_heads.cascade_ious;
  if (ious.empty()) return;
  if (ious.size() > 3) fail(c, "roi_heads.cascade_ious", "want three at most, as many as there are weights of box deltas");
  if (ious[0] != c.roi_heads.iou_threshold) fail(c, "roi_heads.cascade_ious", "the first must be roi_heads.iou_threshold");
  if (!c.roi_heads.cls_agnostic_bbox_reg)
    fail(c, "roi_heads.cascade_ious", "a cascade needs roi_heads.cls_agnostic_bbox_reg = true");
}

void check_mask_rcnn(const Config& c) {
  check_input(c);
  if (c.backbone.depth != 50 && c.backbone.depth != 101) fail(c, "backbone.depth", "want 50 or 101");
  if (c.backbone.norm == "gn" &&
      (c.backbone.stem_channels % 32 || c.backbone.res2_channels % 32 || c.backbone.width_per_group % 32))
    fail(c, "backbone.norm",
         "group norm has 32 groups: backbone.stem_channels, res2_channels and width_per_group must be multiples of 32");
  want_count(c, "rpn.anchor_sizes", c.rpn.anchor_sizes, 5, ", one for each of p2 to p6");
  if (c.rpn.anchor_aspect_ratios.empty()) fail(c, "rpn.anchor_aspect_ratios", "want at least one");
  if (c.rpn.anchor_offset >= 1) fail(c, "rpn.anchor_offset", "want below 1: a part of the stride");
  want_count(c, "rpn.iou_thresholds", c.rpn.iou_thresholds, 2, "");
  if (c.rpn.iou_thresholds[0] > c.rpn.iou_thresholds[1]) fail(c, "rpn.iou_thresholds", "want the smaller first");
  want_count(c, "rpn.bbox_reg_weights", c.rpn.bbox_reg_weights, 4, "");
  want_count(c, "roi_heads.bbox_reg_weights", c.roi_heads.bbox_reg_weights, 4, "");
  if (c.roi_heads.detections_per_image == 0)
    fail(c, "roi_heads.detections_per_image", "nothing would be found; want 1 or more, or -1 for all");
  if (c.roi_heads.detections_per_image > c.rpn.post_nms_topk_test)
    fail(c, "rpn.post_nms_topk_test",
         fmt::format("fewer proposals than roi_heads.detections_per_image = {} asks for", c.roi_heads.detections_per_image));
  const int64_t classes = c.model.num_classes, names = static_cast<int64_t>(c.data.classes.size());
  if (names > 0 && classes > 0 && names != classes)
    fail(c, "data.classes", fmt::format("{} names, but model.num_classes = {}", names, classes));
  if (c.data.class_from == "name" && names == 0) fail(c, "data.class_from", "the names to look for are missing: data.classes");
  if (c.augment.brightness > 1) fail(c, "augment.brightness", "Mask R-CNN multiplies by 1 +- this; want 0 to 1");
  if (c.augment.contrast > 1) fail(c, "augment.contrast", "Mask R-CNN multiplies by 1 +- this; want 0 to 1");
  want_per_class(c, "eval.class_thresholds", c.eval.class_thresholds);
  want_per_class(c, "eval.min_sizes", c.eval.min_sizes);
  want_whole(c, "eval.min_sizes", c.eval.min_sizes);
  check_cascade(c);
  std::vector<std::string> losses{"loss_rpn_cls", "loss_rpn_loc", "loss_mask"};
  for (const char* name : {"loss_cls", "loss_box_reg"}) {
    if (c.roi_heads.cascade_ious.empty()) losses.emplace_back(name);
    for (size_t i = 0; i < c.roi_heads.cascade_ious.size(); ++i) losses.push_back(fmt::format("{}_stage{}", name, i));
  }
  if (c.roi_heads.mask_scoring) losses.emplace_back("loss_maskiou");
  for (const auto& [name, weight] : c.loss.terms)
    if (std::find(losses.begin(), losses.end(), name) == losses.end())
      fail(c, "loss.terms", fmt::format("\"{}\" is no loss of mask_rcnn; there are {}", name, fmt::join(losses, ", ")));
}

void check_weights(const Config& c) {
  for (const auto& [name, height] : c.loss.weights)
    if (name != "border" && name != "contour" && name != "curvature")
      fail(c, "loss.weights", fmt::format("\"{}\" is no weight of pixels; there are border, contour, curvature", name));
}

void check_cellpose(const Config& c) {
  const CellposeConfig& o = c.cellpose;
  want_count(c, "cellpose.norm_percentile", o.norm_percentile, 2, "");
  if (o.norm_percentile[0] >= o.norm_percentile[1]) fail(c, "cellpose.norm_percentile", "want the smaller first");
  if (!o.low_high.empty()) {
    want_count(c, "cellpose.low_high", o.low_high, 2, ", or none");
    if (o.low_high[0] >= o.low_high[1]) fail(c, "cellpose.low_high", "want the smaller first");
  }
  if (o.crop.height % 8 || o.crop.width % 8)
    fail(c, "cellpose.crop", "sides must be multiples of 8: the network pools three times by 2");
  if (o.tile % 16) fail(c, "cellpose.tile", "want a multiple of 16");
  if (o.chan2 > 0 && o.chan == 0) fail(c, "cellpose.chan2", "nuclei need cellpose.chan too: 0 is the mean of all channels");
  if (c.data.normalize != "unit")
    fail(c, "data.normalize", "cellpose has cellpose.norm_percentile and cellpose.low_high instead");
  if (!c.loss.weights.empty()) fail(c, "loss.weights", "cellpose has no weights of pixels");
  const AugmentConfig& a = c.augment;
  if (a.hflip || a.vflip || a.transpose || a.brightness != 0 || a.contrast != 0)
    throw UsageError(
        "[augment]: cellpose flips, rotates and scales by a rule of its own (cellpose.scale_range); leave this section out");
  for (const auto& [name, weight] : c.loss.terms)
    if (name != "flow" && name != "cell")
      fail(c, "loss.terms", fmt::format("\"{}\" is no loss of cellpose; there are flow, cell", name));
}

void check_solver(const Config& c) {
  if (c.data.val_fraction >= 1) fail(c, "data.val_fraction", "nothing would be left to train on; want at least 0 and below 1");
  if (c.solver.lr == 0) fail(c, "solver.lr", "nothing would be learned; want more than 0");
  if (c.solver.momentum >= 1) fail(c, "solver.momentum", "want below 1");
  if (c.solver.beta1 >= 1) fail(c, "solver.beta1", "want below 1");
  if (c.solver.beta2 >= 1) fail(c, "solver.beta2", "want below 1");
  if (c.solver.ema >= 1) fail(c, "solver.ema", "the average would never move; want below 1");
  for (const auto& [key, value] : {std::pair{"solver.weight_decay_norm", c.solver.weight_decay_norm},
                                   {"solver.weight_decay_bias", c.solver.weight_decay_bias}})
    if (value < 0 && value != -1) fail(c, key, "want 0 or more, or -1 for solver.weight_decay");
  if (c.solver.max_iterations == 0 && c.solver.max_epochs == 0)
    fail(c, "solver.max_epochs", "without it or solver.max_iterations the training never ends");
  if (!std::is_sorted(c.solver.milestones.begin(), c.solver.milestones.end()))
    fail(c, "solver.milestones", "want ascending steps");
  const std::string& schedule = c.solver.schedule;
  if ((schedule == "multistep" || schedule == "warmup_multistep") && c.solver.milestones.empty())
    fail(c, "solver.milestones", fmt::format("solver.schedule = \"{}\" needs at least one", schedule));
  if (schedule == "step" && c.solver.step_size == 0) fail(c, "solver.step_size", "solver.schedule = \"step\" needs it");
  if (schedule == "cosine_restarts" && c.solver.period == 0)
    fail(c, "solver.period", "solver.schedule = \"cosine_restarts\" needs it");
  if (!c.loss.terms.empty() &&
      std::none_of(c.loss.terms.begin(), c.loss.terms.end(), [](const auto& term) { return term.second > 0; }))
    fail(c, "loss.terms", "want at least one term with a weight above 0");
}

}  // namespace

void check_config(const Config& c) {
  check_systems(c);
  if (system_of(c) == "unet") check_unet(c);
  if (system_of(c) == "mask_rcnn") check_mask_rcnn(c);
  if (system_of(c) == "cellpose") check_cellpose(c);
  check_weights(c);
  check_solver(c);
  try {
    parse_nan_policy(c.run.on_nan);
  } catch (const UsageError& e) {
    fail(c, "run.on_nan", e.what());
  }
}

}  // namespace glia
