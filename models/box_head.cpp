#include "models/box_head.h"

#include <algorithm>
#include <cmath>

#include "autograd/operators.h"
#include "autograd/view.h"
#include "kernels/boxes.h"
#include "kernels/index.h"
#include "kernels/loss.h"
#include "kernels/nms.h"

namespace glia {
namespace {

constexpr nn::Initializers score_init{Initializer::normal_0_01, Initializer::zeros};
constexpr nn::Initializers delta_init{Initializer::normal_0_001, Initializer::zeros};

}  // namespace

BoxHead::BoxHead(const RoiHeadsOptions& o, int64_t channels) {
  for (int64_t i = 0; i < o.box_num_conv; ++i) {
    const nn::ConvOptions conv{.in = channels,
                               .out = o.box_conv_dim,
                               .pad = nn::same_pad(3),
                               .bias = o.box_norm == nn::NormKind::none,
                               .activation = Activation::relu,
                               .init = nn::msra_fill};
    add(fmt::format("conv{}", i + 1), conv_.emplace_back(conv, o.box_norm));
    channels = o.box_conv_dim;
  }
  const int64_t pixels = o.box_pooler_resolution * o.box_pooler_resolution;
  for (int64_t i = 0; i < o.box_num_fc; ++i) {
    const bool first = i == 0;
    add(fmt::format("fc{}", i + 1),
        fc_.emplace_back(first ? channels * pixels : o.box_fc_dim, o.box_fc_dim, true, nn::xavier_fill,
                         first ? ParameterLayout::pooled(pixels) : ParameterLayout::same));
  }
}

Tensor BoxHead::operator()(const Tensor& pooled) {
  Tensor x = pooled;
  for (nn::ConvNorm2d& conv : conv_) x = conv(x);
  x = reshape(x, {x.dim(0), x.dim(1) * x.dim(2) * x.dim(3)});
  for (nn::Linear& fc : fc_) x = relu(fc(x));
  return x;
}

BoxPredictor::BoxPredictor(const RoiHeadsOptions& o, const std::array<double, 4>& weights)
    : options_(o),
      weights_(weights),
      cls_score_(o.box_fc_dim, o.num_classes + 1, true, score_init),
      bbox_pred_(o.box_fc_dim, o.cls_agnostic_bbox_reg ? 4 : 4 * o.num_classes, true, delta_init) {
  add("cls_score", cls_score_);
  add("bbox_pred", bbox_pred_);
}

BoxPredictions BoxPredictor::operator()(const Tensor& x) { return {cls_score_(x), bbox_pred_(x)}; }

NamedLosses BoxPredictor::losses(const BoxPredictions& predictions, const LabelledRois& rois, const GroundTruth& truth) const {
  const Device device = predictions.scores.device();
  const Tensor cls = apply(CrossEntropy{}, predictions.scores, index_tensor(rois.classes, device), Tensor(), Tensor())[0];
  std::vector<int64_t> region, row, instance;  // of what is not background; row: of the deltas seen as (.., 4)
  for (size_t r = 0; r < rois.classes.size(); ++r) {
    if (rois.classes[r] == options_.num_classes) continue;
    region.push_back(int64_t(r));
    row.push_back(options_.cls_agnostic_bbox_reg ? int64_t(r) : int64_t(r) * options_.num_classes + rois.classes[r]);
    instance.push_back(rois.instance[r]);
  }
  const Tensor from = apply(IndexSelect{}, rois.boxes, index_tensor(region, device));
  const Tensor to = apply(IndexSelect{}, truth.boxes, index_tensor(instance, device));
  const Tensor deltas = apply(IndexSelect{}, reshape(predictions.deltas, {-1, 4}), index_tensor(row, device));
  const Tensor sum = apply(SmoothL1Loss{Reduction::sum, options_.smooth_l1_beta}, deltas, apply(BoxEncode{weights_}, from, to));
  return {{"loss_cls", cls}, {"loss_box_reg", sum * (1 / std::max(1.0, double(rois.classes.size())))}};
}

Tensor BoxPredictor::boxes(const BoxPredictions& predictions, const Tensor& boxes) const {
  return apply(BoxDecode{.weights = weights_}, predictions.deltas.detach(), boxes);
}

SelectedBoxes select_detections(const DetectionRule& rule, const Tensor& boxes, const Tensor& probabilities,
                                std::array<int64_t, 2> size, Device device) {
  const NoGrad no_grad;
  const int64_t rows = boxes.dim(0), classes = probabilities.dim(1) - 1, per_row = boxes.dim(1) / 4;
  const Tensor clipped = apply(BoxClip{size[0], size[1]}, boxes);
  const auto finite = [](const float* x, int64_t n) { return std::all_of(x, x + n, [](float v) { return std::isfinite(v); }); };
  std::vector<float> box, score;
  std::vector<int64_t> label, row;
  for (int64_t r = 0; r < rows; ++r) {
    const float* p = probabilities.data<float>() + r * (classes + 1);
    if (!finite(p, classes + 1) || !finite(boxes.data<float>() + r * per_row * 4, per_row * 4)) continue;
    for (int64_t k = 0; k < classes; ++k) {
      const float* b = clipped.data<float>() + (r * per_row + (per_row == 1 ? 0 : k)) * 4;
      if (!(p[k] > float(rule.score_thresh)) || b[2] - b[0] < float(rule.min_size) || b[3] - b[1] < float(rule.min_size))
        continue;
      box.insert(box.end(), b, b + 4);
      score.push_back(p[k]);
      label.push_back(k);
      row.push_back(r);
    }
  }
  const auto count = int64_t(score.size());
  const Tensor all = Tensor::from<float>({count, 4}, box), scores = Tensor::from<float>({count}, score),
               labels = Tensor::from<int64_t>({count}, label);
  const auto [keep, kept] = apply(Nms{.threshold = rule.nms_thresh, .max_keep = std::max<int64_t>(-1, rule.detections_per_image)},
                                  all.to(device), scores.to(device), labels.to(device));
  const Tensor best = keep.to(Device{}).slice(0, int64_t(kept.item()));
  SelectedBoxes selected{
      apply(IndexSelect{}, all, best), apply(IndexSelect{}, scores, best), apply(IndexSelect{}, labels, best), {}};
  for (const int64_t i : best.values<int64_t>()) selected.rows.push_back(row[size_t(i)]);
  return selected;
}

NamedValues box_statistics(const Tensor& scores, std::span<const int64_t> classes) {
  const Tensor best = apply(ArgMax{.axis = -1}, scores.to(Device{}));
  const int64_t background = scores.dim(1) - 1;
  double right = 0, foreground = 0, right_foreground = 0, missed = 0;
  for (size_t r = 0; r < classes.size(); ++r) {
    const int64_t got = best.data<int64_t>()[r];
    right += got == classes[r];
    if (classes[r] == background) continue;
    ++foreground;
    right_foreground += got == classes[r];
    missed += got == background;
  }
  if (classes.empty()) return {};
  NamedValues values{{"fast_rcnn/cls_accuracy", right / double(classes.size())}};
  if (foreground > 0) {
    values.push_back({"fast_rcnn/fg_cls_accuracy", right_foreground / foreground});
    values.push_back({"fast_rcnn/false_negative", missed / foreground});
  }
  return values;
}

}  // namespace glia
