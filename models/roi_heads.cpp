#include "models/roi_heads.h"

#include <algorithm>

#include "autograd/operators.h"
#include "autograd/view.h"
#include "kernels/boxes.h"
#include "kernels/index.h"
#include "kernels/loss.h"
#include "kernels/matcher.h"
#include "kernels/roi_align.h"

namespace glia {
namespace {

// Memory of the mask head grows with the number of regions, and inference may find thousands.
constexpr int64_t masks_at_a_time = 128;

std::vector<int64_t> host_values(const Tensor& t) {
  const Tensor host = t.to(Device{});
  const auto values = host.values<int64_t>();
  return {values.begin(), values.end()};
}

// Class of each box: of the instance it is matched with, K for background, -1 where it is ignored.
struct Matches {
  std::vector<int64_t> classes, instance;
};
Matches match(const MatchBoxes& matcher, const Tensor& boxes, int64_t image, const GroundTruth& truth,
              std::span<const int64_t> truth_classes, int64_t background) {
  const int64_t first = truth.first[size_t(image)], last = truth.first[size_t(image) + 1];
  const auto outputs = apply(matcher, truth.boxes.slice(first, last), boxes);
  Matches m{host_values(outputs[1]), host_values(outputs[0])};
  for (size_t i = 0; i < m.classes.size(); ++i) {
    m.instance[i] += first;
    if (m.classes[i] == 0)
      m.classes[i] = background;
    else if (m.classes[i] == 1)
      m.classes[i] = truth_classes[size_t(m.instance[i])];
  }
  return m;
}

// The regions of image n are [ranges[n], ranges[n + 1]).
std::vector<int64_t> image_ranges(const Rois& rois, int64_t images) {
  std::vector<int64_t> first(size_t(images) + 1);
  for (const int64_t n : rois.image) ++first[size_t(n) + 1];
  for (size_t n = 0; n < size_t(images); ++n) first[n + 1] += first[n];
  return first;
}

Tensor clipped(const Tensor& boxes, const std::vector<int64_t>& ranges, ImageSizes sizes) {
  std::vector<Tensor> parts;
  for (size_t n = 0; n < sizes.size(); ++n)
    parts.push_back(apply(BoxClip{sizes[n][0], sizes[n][1]}, boxes.slice(ranges[n], ranges[n + 1])));
  return concat(parts, 0);
}

Rois all_regions(std::span<const Proposals> proposals, Device device) {
  std::vector<Tensor> boxes;
  Rois rois;
  for (size_t n = 0; n < proposals.size(); ++n) {
    boxes.push_back(proposals[n].boxes);
    rois.image.insert(rois.image.end(), size_t(proposals[n].boxes.dim(0)), int64_t(n));
  }
  rois.boxes = concat(boxes, 0).to(device);
  return rois;
}

// RoiAlign's regions: image, x1, y1, x2, y2.
Tensor roi_rows(const Rois& rois) {
  std::vector<float> image(rois.image.begin(), rois.image.end());
  const Tensor column = Tensor::from<float>({int64_t(image.size()), 1}, image).to(rois.boxes.device());
  return concat({column, rois.boxes}, 1);
}

// Weights (R, size, size) of the pixels of masks, from maps (N, H, W, 1) of the images: cropped as mask targets are.
Tensor mask_weights(const Tensor& maps, const Rois& rois, int64_t size, bool normalize) {
  const NoGrad no_grad;
  const RoiAlign op{.size = size, .sampling = 0, .aligned = true, .scales = {1, 1, 1, 1}};
  const Tensor weights = apply(op, maps, Tensor(), Tensor(), Tensor(), roi_rows(rois), Tensor());
  const Tensor all = reshape(weights, {weights.dim(0), size, size});
  return normalize ? all / apply(Mean{}, all) : all;
}

template <class T>
std::vector<T> picked(const std::vector<T>& from, std::span<const int64_t> rows) {
  std::vector<T> out;
  for (const int64_t r : rows) out.push_back(from[size_t(r)]);
  return out;
}

}  // namespace

RoiHeads::RoiHeads(const RoiHeadsOptions& options, int64_t channels) : options_(options) {
  const bool cascade = !options.cascade_ious.empty();
  const size_t stages = cascade ? options.cascade_ious.size() : 1;
  const auto number = [&](const char* name, size_t k) { return cascade ? fmt::format("{}.{}", name, k) : std::string(name); };
  for (size_t k = 0; k < stages; ++k) add(number("box_head", k), box_head_.emplace_back(options, channels));
  for (size_t k = 0; k < stages; ++k)
    add(number("box_predictor", k),
        box_predictor_.emplace_back(options, cascade ? options.cascade_bbox_reg_weights[k] : options.bbox_reg_weights));
  if (options.mask_on) add("mask_head", mask_head_.emplace(options, channels));
  if (options.mask_scoring) add("maskiou_head", mask_iou_head_.emplace(options, channels));
}

LabelledRois RoiHeads::sample(std::span<const Proposals> proposals, const GroundTruth& truth, Sampler& sampler) {
  const NoGrad no_grad;
  const Device device = truth.boxes.device();
  const std::vector<int64_t> truth_classes = host_values(truth.classes);
  LabelledRois rois;
  std::vector<Tensor> boxes;
  for (size_t n = 0; n < proposals.size(); ++n) {
    Tensor candidates = proposals[n].boxes.to(device);
    if (options_.proposal_append_gt) candidates = concat({candidates, truth.boxes.slice(truth.first[n], truth.first[n + 1])}, 0);
    const Matches m = match({.thresholds = options_.iou_thresholds, .labels = options_.iou_labels}, candidates, int64_t(n), truth,
                            truth_classes, options_.num_classes);
    std::vector<int64_t> foreground, background;
    for (size_t i = 0; i < m.classes.size(); ++i) {
      if (m.classes[i] == options_.num_classes)
        background.push_back(int64_t(i));
      else if (m.classes[i] >= 0)
        foreground.push_back(int64_t(i));
    }
    const BalancedSample sample = balanced_sample(sampler, Sampler::Stage::rois, int64_t(n), foreground, background,
                                                  options_.batch_size_per_image, options_.positive_fraction);
    for (const auto* rows : {&sample.positives, &sample.negatives}) {
      boxes.push_back(apply(IndexSelect{}, candidates, index_tensor(*rows, device)));
      for (const int64_t i : *rows) {
        rois.image.push_back(int64_t(n));
        rois.classes.push_back(m.classes[size_t(i)]);
        rois.instance.push_back(m.instance[size_t(i)]);
      }
    }
  }
  rois.boxes = concat(boxes, 0);
  return rois;
}

Tensor RoiHeads::pool(const Pyramid& features, const Rois& rois, int64_t size, int64_t sampling) const {
  const Tensor level = apply(FpnLevel{.min_level = 0, .max_level = 3, .canonical_size = 224, .canonical_level = 2}, rois.boxes);
  const RoiAlign op{.size = size, .sampling = sampling, .aligned = options_.pooler_aligned};
  return apply(op, features[0], features[1], features[2], features[3], roi_rows(rois), level);
}

BoxPredictions RoiHeads::predict(size_t stage, const Pyramid& features, const Rois& rois) {
  Tensor pooled = pool(features, rois, options_.box_pooler_resolution, options_.box_pooler_sampling_ratio);
  // Each stage's share of the gradient, so that features learn as from one head (detectron2's CascadeROIHeads).
  if (stages() > 1) pooled = scale_gradient(pooled, 1.0 / double(stages()));
  return box_predictor_[stage](box_head_[stage](pooled));
}

LabelledRois RoiHeads::relabel(const Tensor& boxes, const LabelledRois& rois, const GroundTruth& truth, ImageSizes sizes,
                               double iou) const {
  const NoGrad no_grad;
  const std::vector<int64_t> truth_classes = host_values(truth.classes);
  const auto ranges = image_ranges(rois, int64_t(sizes.size()));
  const Tensor moved = clipped(boxes, ranges, sizes), host = moved.to(Device{});
  std::vector<int64_t> with_area;
  for (int64_t r = 0; r < host.dim(0); ++r) {
    const float* b = host.data<float>() + 4 * r;
    if (b[2] > b[0] && b[3] > b[1]) with_area.push_back(r);
  }
  LabelledRois next;
  next.boxes = apply(IndexSelect{}, moved, index_tensor(with_area, boxes.device()));
  next.image = picked(rois.image, with_area);
  const auto kept = image_ranges(next, int64_t(sizes.size()));
  for (size_t n = 0; n < sizes.size(); ++n) {
    const Matches m = match({.thresholds = {iou}, .labels = {0, 1}}, next.boxes.slice(kept[n], kept[n + 1]), int64_t(n), truth,
                            truth_classes, options_.num_classes);
    next.classes.insert(next.classes.end(), m.classes.begin(), m.classes.end());
    next.instance.insert(next.instance.end(), m.instance.begin(), m.instance.end());
  }
  return next;
}

NamedLosses RoiHeads::losses(const Pyramid& features, const LabelledRois& sampled, const GroundTruth& truth, ImageSizes sizes) {
  NamedLosses losses;
  LabelledRois rois = sampled;
  kept_ = {};
  for (size_t k = 0; k < stages(); ++k) {
    const BoxPredictions predictions = predict(k, features, rois);
    for (auto& [name, loss] : box_predictor_[k].losses(predictions, rois, truth))
      losses.emplace_back(is_cascade() ? fmt::format("{}_stage{}", name, k) : name, loss);
    kept_.boxes.emplace_back(predictions.scores.detach(), rois.classes);
    kept_.images = sizes.size();
    if (k + 1 < stages())
      rois = relabel(box_predictor_[k].boxes(predictions, rois.boxes), rois, truth, sizes, options_.cascade_ious[k + 1]);
  }
  if (!mask_head_) return losses;

  std::vector<int64_t> foreground;
  for (size_t r = 0; r < sampled.classes.size(); ++r)
    if (sampled.classes[r] != options_.num_classes) foreground.push_back(int64_t(r));
  if (foreground.empty()) {
    const Tensor none = Tensor::zeros({}, DType::float32, sampled.boxes.device());
    losses.emplace_back("loss_mask", none);
    if (mask_iou_head_) losses.emplace_back("loss_maskiou", none);
    return losses;
  }
  Rois inside{apply(IndexSelect{}, sampled.boxes, index_tensor(foreground, sampled.boxes.device())),
              picked(sampled.image, foreground)};
  const Tensor pooled = pool(features, inside, options_.mask_pooler_resolution, options_.mask_pooler_sampling_ratio);
  const std::vector<int64_t> classes = picked(sampled.classes, foreground), instance = picked(sampled.instance, foreground);
  const Tensor logits = class_logits((*mask_head_)(pooled), classes);
  const Tensor targets = mask_targets(truth.masks, inside.boxes, instance, logits.dim(1));
  const Tensor weights =
      truth.pixel_weights ? mask_weights(truth.pixel_weights, inside, logits.dim(1), options_.mask_weights_normalize) : Tensor();
  losses.emplace_back("loss_mask", apply(BceWithLogits{}, logits, targets, weights, Tensor()));
  if (mask_iou_head_) {
    const Tensor ious = mask_iou_targets(logits, targets, part_inside(truth.masks, inside.boxes, instance));
    losses.emplace_back("loss_maskiou", mask_iou_loss((*mask_iou_head_)(pooled, logits, classes), ious));
  }
  kept_.mask_logits = logits.detach();
  kept_.mask_targets = targets;
  return losses;
}

RoiHeads::Masks RoiHeads::predict_masks(const Pyramid& features, const Rois& rois, std::span<const int64_t> classes) {
  std::vector<Tensor> parts, ious;
  const auto count = int64_t(classes.size());
  for (int64_t first = 0; first < std::max<int64_t>(count, 1); first += masks_at_a_time) {
    const int64_t last = std::min(count, first + masks_at_a_time);
    const Rois some{rois.boxes.slice(first, last), {rois.image.begin() + first, rois.image.begin() + last}};
    const Tensor pooled = pool(features, some, options_.mask_pooler_resolution, options_.mask_pooler_sampling_ratio);
    const auto some_classes = classes.subspan(size_t(first), size_t(last - first));
    const Tensor logits = class_logits((*mask_head_)(pooled), some_classes);
    parts.push_back(sigmoid(logits).to(Device{}));
    if (mask_iou_head_) ious.push_back((*mask_iou_head_)(pooled, logits, some_classes).to(Device{}));
  }
  return {concat(parts, 0), mask_iou_head_ ? concat(ious, 0) : Tensor()};
}

std::vector<Detections> RoiHeads::detect(const Pyramid& features, std::span<const Proposals> proposals, ImageSizes sizes) {
  const Device device = features[0].device();
  Rois rois = all_regions(proposals, device);
  const auto ranges = image_ranges(rois, int64_t(sizes.size()));
  Tensor probabilities, boxes;
  for (size_t k = 0; k < stages(); ++k) {
    if (k > 0) rois.boxes = clipped(boxes, ranges, sizes);
    const BoxPredictions predictions = predict(k, features, rois);
    const Tensor p = softmax(predictions.scores);
    probabilities = probabilities ? probabilities + p : p;
    boxes = box_predictor_[k].boxes(predictions, rois.boxes);
  }
  if (stages() > 1) probabilities = probabilities * (1.0 / double(stages()));

  const DetectionRule rule{options_.score_thresh_test, options_.nms_thresh_test, options_.detections_per_image,
                           options_.min_size_test};
  const Tensor host_boxes = boxes.to(Device{}), host_probabilities = probabilities.to(Device{});
  std::vector<Detections> found;
  std::vector<Proposals> with_objects;
  std::vector<int64_t> classes;
  for (size_t n = 0; n < sizes.size(); ++n) {
    const SelectedBoxes best = select_detections(rule, host_boxes.slice(ranges[n], ranges[n + 1]),
                                                 host_probabilities.slice(ranges[n], ranges[n + 1]), sizes[n], device);
    found.push_back({best.boxes, best.scores, best.classes, {}});
    with_objects.push_back({best.boxes, {}});
    classes.insert(classes.end(), best.classes.values<int64_t>().begin(), best.classes.values<int64_t>().end());
  }
  if (!mask_head_) return found;
  const Masks masks = predict_masks(features, all_regions(with_objects, device), classes);
  int64_t first = 0;
  for (Detections& d : found) {
    const int64_t last = first + d.boxes.dim(0);
    d.mask_probs = masks.probabilities.slice(first, last).clone();
    if (masks.ious) {
      d.mask_scores = d.scores.clone();
      for (int64_t i = first; i < last; ++i)
        d.mask_scores.data<float>()[i - first] *= std::clamp(masks.ious.data<float>()[i], 0.0F, 1.0F);
    }
    first = last;
  }
  return found;
}

NamedValues RoiHeads::statistics() const {
  NamedValues values;
  for (size_t k = 0; k < kept_.boxes.size(); ++k) {
    const auto& [scores, classes] = kept_.boxes[k];
    const auto background = double(std::count(classes.begin(), classes.end(), options_.num_classes)),
               images = double(kept_.images);
    const std::string stage = is_cascade() ? fmt::format("stage{}/", k) : "", sampled = k > 0 ? stage : "";
    values.emplace_back(sampled + "roi_head/num_fg_samples", (double(classes.size()) - background) / images);
    values.emplace_back(sampled + "roi_head/num_bg_samples", background / images);
    for (const auto& [name, value] : box_statistics(scores, classes)) values.emplace_back(stage + name, value);
  }
  if (kept_.mask_logits)
    for (const auto& value : mask_statistics(kept_.mask_logits, kept_.mask_targets)) values.push_back(value);
  return values;
}

}  // namespace glia
