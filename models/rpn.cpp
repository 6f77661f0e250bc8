#include "models/rpn.h"

#include <algorithm>
#include <cmath>

#include "autograd/operators.h"
#include "autograd/view.h"
#include "kernels/anchors.h"
#include "kernels/boxes.h"
#include "kernels/index.h"
#include "kernels/loss.h"
#include "kernels/matcher.h"
#include "kernels/nms.h"
#include "kernels/sort.h"

namespace glia {
namespace {

constexpr nn::Initializers predictor{Initializer::normal_0_01, Initializer::zeros};

nn::ConvOptions pointwise(int64_t in, int64_t out) { return {.in = in, .out = out, .kernel = 1, .init = predictor}; }

int64_t anchors_per_place(const RpnOptions& o) { return int64_t(o.anchor_sizes[0].size() * o.anchor_aspect_ratios.size()); }

// The sampled anchors of a batch as rows of a level's predictions, level by level.
struct SampledRows {
  std::vector<std::vector<int64_t>> rows;     // image (H W A) + anchor of the level
  std::vector<std::vector<int64_t>> anchors;  // row of the grid
  std::vector<std::vector<int64_t>> targets;  // label, or instance

  explicit SampledRows(size_t levels) : rows(levels), anchors(levels), targets(levels) {}

  void add(const Rpn::AnchorGrid& grid, int64_t image, int64_t anchor, int64_t target) {
    const auto level = size_t(std::upper_bound(grid.first.begin(), grid.first.end(), anchor) - grid.first.begin()) - 1;
    rows[level].push_back(image * (grid.first[level + 1] - grid.first[level]) + anchor - grid.first[level]);
    anchors[level].push_back(anchor);
    targets[level].push_back(target);
  }
};

std::vector<int64_t> joined(const std::vector<std::vector<int64_t>>& parts) {
  std::vector<int64_t> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

// Those rows of the levels, seen as (rows, width). Levels without rows are left out, but the last one, so that there is always a result.
Tensor gather(const std::vector<Tensor>& levels, const std::vector<std::vector<int64_t>>& rows, int64_t width) {
  std::vector<Tensor> parts;
  for (size_t l = 0; l < levels.size(); ++l)
    if (!rows[l].empty() || (parts.empty() && l + 1 == levels.size()))
      parts.push_back(apply(IndexSelect{}, reshape(levels[l], {-1, width}), index_tensor(rows[l], levels[l].device())));
  return parts.size() == 1 ? parts[0] : concat(parts, 0);
}

std::vector<int64_t> places_of(const Tensor& labels, int64_t wanted) {
  std::vector<int64_t> places;
  for (int64_t i = 0; i < labels.size(); ++i)
    if (labels.data<int64_t>()[i] == wanted) places.push_back(i);
  return places;
}

}  // namespace

RpnHead::RpnHead(int64_t channels, int64_t anchors, int64_t num_conv)
    : objectness_logits_(pointwise(channels, anchors)), anchor_deltas_(pointwise(channels, 4 * anchors)) {
  const nn::ConvOptions conv{
      .in = channels, .out = channels, .pad = nn::same_pad(3), .activation = Activation::relu, .init = predictor};
  for (int64_t i = 0; i < num_conv; ++i) add(num_conv == 1 ? "conv" : fmt::format("conv.conv{}", i), conv_.emplace_back(conv));
  add("objectness_logits", objectness_logits_);
  add("anchor_deltas", anchor_deltas_);
}

RpnPredictions RpnHead::operator()(const Pyramid& features) {
  RpnPredictions out;
  for (Tensor x : features) {
    for (nn::Conv2d& conv : conv_) x = conv(x);
    out.logits.push_back(objectness_logits_(x));
    out.deltas.push_back(anchor_deltas_(x));
  }
  return out;
}

Rpn::Rpn(const RpnOptions& options, int64_t channels)
    : options_(options), head_(channels, anchors_per_place(options), options.num_conv) {
  add("rpn_head", head_);
}

const Rpn::AnchorGrid& Rpn::anchors(const RpnPredictions& predictions) const {
  std::vector<std::array<int64_t, 2>> sizes;
  for (const Tensor& x : predictions.logits) sizes.push_back({x.dim(1), x.dim(2)});
  const Device device = predictions.logits[0].device();
  if (grid_.boxes && grid_.sizes == sizes && grid_.boxes.device() == device) return grid_;
  std::vector<Tensor> levels;
  std::vector<int64_t> first{0};
  for (size_t l = 0; l < sizes.size(); ++l) {
    std::array<double, 2> stride{double(pyramid_strides[l]), double(pyramid_strides[l])};
    if (options_.torchvision_anchors)
      for (size_t k = 0; k < 2; ++k) stride[k] = double(sizes[0][k] * pyramid_strides[0] / sizes[l][k]);
    levels.push_back(glia::anchors({.sizes = options_.anchor_sizes[options_.anchor_sizes.size() == 1 ? 0 : l],
                                    .aspect_ratios = options_.anchor_aspect_ratios,
                                    .stride = stride,
                                    .offset = options_.anchor_offset,
                                    .height = sizes[l][0],
                                    .width = sizes[l][1],
                                    .rounded = options_.torchvision_anchors},
                                   device));
    first.push_back(first.back() + levels.back().dim(0));
  }
  Tensor boxes = concat(levels, 0);
  grid_ = {std::move(boxes), std::move(first), sizes};
  return grid_;
}

Rpn::Labels Rpn::match(const AnchorGrid& grid, const Tensor& boxes) const {
  const auto [matches, labels, iou] =
      apply(MatchBoxes{.thresholds = options_.iou_thresholds, .labels = options_.iou_labels, .allow_low_quality = true}, boxes,
            grid.boxes);
  return {labels.to(Device{}), matches.to(Device{})};
}

NamedLosses Rpn::losses(const RpnPredictions& predictions, const GroundTruth& truth, Sampler& sampler) {
  const AnchorGrid& grid = anchors(predictions);
  const Device device = grid.boxes.device();
  const int64_t images = predictions.logits[0].dim(0);
  SampledRows scored(predictions.logits.size()), moved(predictions.logits.size());
  positives_ = negatives_ = 0;
  for (int64_t n = 0; n < images; ++n) {
    const int64_t first = truth.first[size_t(n)];
    const Labels labels = match(grid, truth.boxes.slice(first, truth.first[size_t(n) + 1]));
    const BalancedSample sample =
        balanced_sample(sampler, Sampler::Stage::anchors, n, places_of(labels.labels, 1), places_of(labels.labels, 0),
                        options_.batch_size_per_image, options_.positive_fraction);
    for (const int64_t i : sample.positives) {
      scored.add(grid, n, i, 1);
      moved.add(grid, n, i, first + labels.matches.data<int64_t>()[i]);
    }
    for (const int64_t i : sample.negatives) scored.add(grid, n, i, 0);
    positives_ += double(sample.positives.size()) / double(images);
    negatives_ += double(sample.negatives.size()) / double(images);
  }
  const double factor = options_.loss_weight / double(options_.batch_size_per_image * images);

  const std::vector<int64_t> labels = joined(scored.targets);
  const Tensor target = Tensor::from<int64_t>({int64_t(labels.size()), 1}, labels).cast(DType::float32).to(device);
  const Tensor cls = apply(BceWithLogits{Reduction::sum}, gather(predictions.logits, scored.rows, 1), target, Tensor(), Tensor());

  const Tensor from = apply(IndexSelect{}, grid.boxes, index_tensor(joined(moved.anchors), device));
  const Tensor to = apply(IndexSelect{}, truth.boxes, index_tensor(joined(moved.targets), device));
  const Tensor loc = apply(SmoothL1Loss{Reduction::sum, options_.smooth_l1_beta}, gather(predictions.deltas, moved.rows, 4),
                           apply(BoxEncode{options_.bbox_reg_weights}, from, to));
  return {{"loss_rpn_cls", cls * factor}, {"loss_rpn_loc", loc * factor}};
}

std::vector<Proposals> Rpn::proposals(const RpnPredictions& predictions, ImageSizes sizes) const {
  const NoGrad no_grad;
  const AnchorGrid& grid = anchors(predictions);
  const int64_t pre = training() ? options_.pre_nms_topk_train : options_.pre_nms_topk_test;
  const ProposalRule rule{options_.nms_thresh, options_.min_size,
                          training() ? options_.post_nms_topk_train : options_.post_nms_topk_test, training()};
  std::vector<Proposals> all;
  for (int64_t n = 0; n < int64_t(sizes.size()); ++n) {
    std::vector<Tensor> boxes, logits;
    std::vector<int64_t> level;
    for (size_t l = 0; l < predictions.logits.size(); ++l) {
      const int64_t count = grid.first[l + 1] - grid.first[l];
      const Tensor scores = predictions.logits[l].detach().slice(n, n + 1).reshape({count});
      const auto [best, place] = apply(TopK{.k = std::min(pre, count), .axis = 0}, scores);
      const Tensor deltas = apply(IndexSelect{}, predictions.deltas[l].detach().slice(n, n + 1).reshape({count, 4}), place);
      const Tensor from = apply(IndexSelect{}, grid.boxes.slice(grid.first[l], grid.first[l + 1]), place);
      boxes.push_back(apply(BoxDecode{.weights = options_.bbox_reg_weights}, deltas, from));
      logits.push_back(best);
      level.insert(level.end(), size_t(best.dim(0)), int64_t(l));
    }
    all.push_back(select_proposals(rule, concat(boxes, 0).to(Device{}), concat(logits, 0).to(Device{}),
                                   Tensor::from<int64_t>({int64_t(level.size())}, level), sizes[size_t(n)], grid.boxes.device()));
  }
  return all;
}

Proposals select_proposals(const ProposalRule& rule, const Tensor& boxes, const Tensor& logits, const Tensor& level,
                           std::array<int64_t, 2> size, Device device) {
  const NoGrad no_grad;
  const Tensor clipped = apply(BoxClip{size[0], size[1]}, boxes);
  std::vector<int64_t> usable;
  for (int64_t i = 0; i < boxes.dim(0); ++i) {
    const float* raw = boxes.data<float>() + 4 * i;
    const float* b = clipped.data<float>() + 4 * i;
    const bool finite =
        std::isfinite(logits.data<float>()[i]) && std::all_of(raw, raw + 4, [](float x) { return std::isfinite(x); });
    if (!finite && rule.training)
      throw DivergedError("the region proposals have infinities or NaN: the training has diverged (a learning rate too high?)");
    if (finite && b[2] - b[0] > float(rule.min_size) && b[3] - b[1] > float(rule.min_size)) usable.push_back(i);
  }
  const Tensor index = index_tensor(usable, {});
  const Tensor candidates = apply(IndexSelect{}, clipped, index), scores = apply(IndexSelect{}, logits, index);
  const auto [keep, count] = apply(Nms{.threshold = rule.nms_thresh, .max_keep = rule.post_nms_topk}, candidates.to(device),
                                   scores.to(device), apply(IndexSelect{}, level, index).to(device));
  const Tensor kept = keep.to(Device{}).slice(0, int64_t(count.item()));
  return {apply(IndexSelect{}, candidates, kept), apply(IndexSelect{}, scores, kept)};
}

NamedValues Rpn::statistics() const { return {{"rpn/num_pos_anchors", positives_}, {"rpn/num_neg_anchors", negatives_}}; }

}  // namespace glia
