// Box head and mask head on given pooled features, against detectron2.
#include <doctest/doctest.h>

#include "autograd/operators.h"
#include "data/mask_patches.h"
#include "data/rle.h"
#include "kernels/boxes.h"
#include "kernels/loss.h"
#include "models/box_head.h"
#include "models/mask_head.h"
#include "tests/mask_rcnn_fixture.h"

namespace glia::tests {
namespace {

RoiHeadsOptions head_options(const ParityCase& c, int64_t channels) {
  RoiHeadsOptions o;
  o.num_classes = c.integer("num_classes", 0);
  o.smooth_l1_beta = c.number("smooth_l1_beta", 0);
  o.cls_agnostic_bbox_reg = c.flag("cls_agnostic_bbox_reg", false);
  o.box_fc_dim = c.params().HasMember("fc_dims") ? c.params()["fc_dims"][0].GetInt64() : 0;
  o.mask_conv_dim = channels;
  return o;
}

std::vector<int64_t> values(const Tensor& t) { return {t.values<int64_t>().begin(), t.values<int64_t>().end()}; }

PARITY_MODEL(box_head_train) {
  const Tensor pooled = formula_tensors(c, "formula_inputs", true)[0].tensor;
  const RoiHeadsOptions options = head_options(c, 0);
  BoxHead head(options, pooled.dim(3));
  BoxPredictor predictor(options, options.bbox_reg_weights);
  struct Root : Module {
    Root(Module& a, Module& b) {
      add("roi_heads.box_head", a);
      add("roi_heads.box_predictor", b);
    }
  } root(head, predictor);
  load_formula_weights(c, root);
  LabelledRois rois;  // each with an instance of its own
  rois.boxes = concat({c.input("proposals.0"), c.input("proposals.1")}, 0);
  rois.classes = values(concat({c.input("gt_classes.0"), c.input("gt_classes.1")}, 0));
  for (size_t i = 0; i < rois.classes.size(); ++i) rois.instance.push_back(int64_t(i));
  GroundTruth truth;
  truth.boxes = concat({c.input("gt_boxes.0"), c.input("gt_boxes.1")}, 0);

  const BoxPredictions out = predictor(head(pooled));
  c.check("scores", out.scores);
  c.check("deltas", out.deltas);
  const NamedLosses losses = predictor.losses(out, rois, truth);
  for (const auto& [name, loss] : losses) c.check(name, loss);
  check_storage(c, box_statistics(out.scores, rois.classes));
  backward(losses[0].second + losses[1].second);
  c.check_grad("pooled", pooled, to_nchw);
  check_parameter_gradients(c, root);
}

PARITY_OP(box_inference) {
  const Tensor probabilities = softmax(c.input("scores"));
  const DetectionRule rule{c.number("score_thresh", 0), c.number("nms_thresh", 0), c.integer("detections_per_image", 0)};
  int64_t first = 0;
  for (int64_t n = 0; n < 2; ++n) {
    const Tensor proposals = c.input(fmt::format("proposals.{}", n));
    const int64_t last = first + proposals.dim(0);
    const Tensor boxes = apply(BoxDecode{.weights = {10, 10, 5, 5}}, c.input("deltas").slice(first, last), proposals);
    const SelectedBoxes got = select_detections(rule, boxes, probabilities.slice(first, last), image_sizes(c)[size_t(n)]);
    c.check(fmt::format("boxes.{}", n), got.boxes);
    c.check(fmt::format("scores.{}", n), got.scores);
    c.check(fmt::format("classes.{}", n), got.classes);
    c.check(fmt::format("rows.{}", n), Tensor::from<int64_t>({int64_t(got.rows.size())}, got.rows));
    first = last;
  }
}

// The case's targets from its masks, as bitmaps or polygons.
Tensor targets_of(const ParityCase& c, const Tensor& boxes) {
  if (c.text("gt_kind", "") == "bitmask") {
    const Tensor labels = c.input("labels").cast(DType::int32);
    return mask_targets(to_patches(masks_of_labels(labels)), boxes, values(c.input("instance")), 28);
  }
  std::vector<std::vector<Polygon>> instances;
  std::vector<int64_t> own;
  for (const auto& instance : c.params()["polygons"].GetArray()) {
    own.push_back(int64_t(instances.size()));
    instances.emplace_back();
    for (const auto& polygon : instance.GetArray()) {
      instances.back().emplace_back();
      for (const auto& x : polygon.GetArray()) instances.back().back().push_back(x.GetDouble());
    }
  }
  return crop_polygons(instances, boxes, index_tensor(own, {}), 28).cast(DType::float32);
}

PARITY_MODEL(mask_head_train) {
  const Tensor pooled = formula_tensors(c, "formula_inputs", true)[0].tensor;
  MaskHead head(head_options(c, pooled.dim(3)), pooled.dim(3));
  Part root("roi_heads.mask_head", head);
  load_formula_weights(c, root);
  const Tensor targets = targets_of(c, c.input("proposals"));
  c.check("targets", targets);
  const Tensor all = head(pooled);
  c.check("logits", all, to_nchw);
  const Tensor logits = class_logits(all, values(c.input("gt_classes")));
  const Tensor loss = apply(BceWithLogits{}, logits, targets, Tensor(), Tensor());
  c.check("loss_mask", loss);
  check_storage(c, mask_statistics(logits, targets));
  backward(loss);
  c.check_grad("pooled", pooled, to_nchw);
  check_parameter_gradients(c, root);
  c.check("mask_probs", sigmoid(logits.detach()));
}

}  // namespace
}  // namespace glia::tests
