// The whole of Mask R-CNN, and of its cascade, against detectron2: training steps and inference.
#include <doctest/doctest.h>

#include <cmath>

#include "autograd/operators.h"
#include "data/mask_patches.h"
#include "data/rle.h"
#include "kernels/index.h"
#include "models/mask_rcnn.h"
#include "nn/optimizer.h"
#include "tests/mask_rcnn_fixture.h"

namespace glia::tests {
namespace {

MaskRcnnOptions options_of(const ParityCase& c) {
  MaskRcnnOptions o = mask_rcnn_options(c.params()["config"]);
  if (std::string(c.params()["config"]["MODEL.ROI_HEADS.NAME"].GetString()) == "CascadeROIHeads") {
    o.roi_heads.cascade_ious = {0.5, 0.6, 0.7};
  }
  return o;
}

std::vector<int64_t> values(const Tensor& t) { return {t.values<int64_t>().begin(), t.values<int64_t>().end()}; }

struct Batch {
  Tensor images;
  std::vector<std::array<int64_t, 2>> sizes;
  GroundTruth truth;
};

Batch training_batch(const ParityCase& c) {
  Batch batch;
  batch.sizes = image_sizes(c);
  std::vector<Tensor> images, boxes, classes;
  std::vector<Rle> masks;
  batch.truth.first = {0};
  for (size_t n = 0; n < batch.sizes.size(); ++n) {
    images.push_back(c.input(fmt::format("image.{}", n)));
    boxes.push_back(c.input(fmt::format("gt_boxes.{}", n)));
    classes.push_back(c.input(fmt::format("gt_classes.{}", n)));
    batch.truth.first.push_back(batch.truth.first.back() + boxes.back().dim(0));
    for (Rle& mask : masks_of_labels(c.input(fmt::format("labels.{}", n)).cast(DType::int32))) masks.push_back(std::move(mask));
  }
  batch.images = gray_batch(images, c.params()["config"]);
  batch.truth.boxes = concat(boxes, 0);
  batch.truth.classes = concat(classes, 0);
  batch.truth.masks = to_patches(masks);
  return batch;
}

// The regions that the fixture's step sampled.
LabelledRois given_rois(const ParityCase& c, const Batch& batch, int64_t step) {
  LabelledRois rois;
  std::vector<Tensor> boxes;
  for (size_t n = 0; n < batch.sizes.size(); ++n) {
    boxes.push_back(c.input(fmt::format("rois.{}.step{}", n, step)));
    rois.image.insert(rois.image.end(), size_t(boxes.back().dim(0)), int64_t(n));
    for (const int64_t k : values(c.input(fmt::format("roi_classes.{}.step{}", n, step)))) rois.classes.push_back(k);
    for (const int64_t i : values(c.input(fmt::format("roi_gt.{}.step{}", n, step))))
      rois.instance.push_back(batch.truth.first[n] + i);
  }
  rois.boxes = concat(boxes, 0);
  return rois;
}

// What the sampler is to make of the fixture's own proposals.
void check_sampling(const ParityCase& c, RoiHeads& heads, const Batch& batch) {
  std::vector<Proposals> proposals;
  for (size_t n = 0; n < batch.sizes.size(); ++n)
    proposals.push_back({c.load(fmt::format("out/proposals.{}", n)), c.load(fmt::format("out/objectness.{}", n))});
  EvenSampler sampler(c);
  const LabelledRois got = heads.sample(proposals, batch.truth, sampler), want = given_rois(c, batch, 0);
  CHECK(got.classes == want.classes);
  CHECK(got.image == want.image);
  REQUIRE(same_shape(got.boxes, want.boxes));
  for (int64_t i = 0; i < got.boxes.size(); ++i) CHECK(got.boxes.data<float>()[i] == want.boxes.data<float>()[i]);
  for (size_t i = 0; i < got.classes.size(); ++i)
    if (got.classes[i] != heads.options().num_classes) CHECK(got.instance[i] == want.instance[i]);
}

Tensor in_order(const ParityCase& c, const NamedLosses& losses) {
  std::vector<double> list;
  for (const auto& name : c.params()["losses"].GetArray()) {
    const auto found = std::find_if(losses.begin(), losses.end(), [&](const auto& l) { return l.first == name.GetString(); });
    INFO(std::string(name.GetString()));
    REQUIRE(found != losses.end());
    list.push_back(found->second.item());
  }
  CHECK(list.size() == losses.size());
  return Tensor::from<double>({int64_t(list.size())}, list);
}

Tensor sum(const NamedLosses& losses) {
  Tensor total;
  for (const auto& [name, loss] : losses) total = total ? total + loss : loss;
  return total;
}

// Rounding grows with the steps, and jumps where it moves a ReLU to the other side of zero. In train_small's fourth step that happens
// to some orders of sums. Largest errors of res3.0.conv1.weight after five steps, against the same steps in double: PyTorch's 5e-7, direct
// sums 1.5e-7 (AVX-512), 4e-7 (scalar) and 3.2e-5 (AVX2), Winograd's 4.8e-5, 2.1e-5 and 2e-6; after one step all are below 2e-8. AVX2's errors
// and those of scalar Winograd have a correlation of .95 (of .999 in the last losses): it is one event, and no fault of either. The
// fixture's tolerance is from two runs that have it alike.
//
// Winograd's rounding, of about 3e-6, can do there what images moved by 3e-6 of their values do to direct sums too: the fifth step's loss_cls
// is 1.2953 then, not 1.2903 (moved by 1e-7 to 1e-6: 1.2902 to 1.2903). Which of the two it is depends on the compiler's flags.
double jump(const ParityCase& c, const std::string& name, int64_t step) {
  if (c.name() != "train_small" || step == 0) return 0;
  if (precision() == Precision::fp32) return name == "losses" ? 0.01 : 0.03;
  return name.starts_with("backbone.bottom_up.") ? 6e-5 : 0;
}

void check_parameters(const ParityCase& c, Module& net, int64_t step) {
  for (const auto& [name, value] : net.state_dict()) {
    const std::string key = fmt::format("out/param.step{}.{}", step, name);
    if (c.has(key)) c.check_key(key, value, jump(c, name, step));
  }
}

void check_training(const ParityCase& c) {
  MaskRcnn net(options_of(c));
  load_formula_weights(c, net);
  const Batch batch = training_batch(c);
  const auto& solver = c.params()["solver"];
  Optimizer optimizer({.kind = OptimizerKind::sgd,
                       .momentum = solver["momentum"].GetDouble(),
                       .weight_decay = solver["weight_decay"].GetDouble()},
                      net.parameters());
  {
    // Step 0 as a training calls it.
    EvenSampler sampler(c);
    c.check("losses.step0", in_order(c, net.losses(batch.images, batch.sizes, batch.truth, &sampler)));
    check_storage(c, net.statistics());
    check_sampling(c, net.roi_heads, batch);
  }
  const int64_t steps = c.integer("steps", 0);
  for (int64_t t = 0; t < steps; ++t) {
    INFO("step ", t);
    optimizer.zero_grad();
    EvenSampler sampler(c);
    const Pyramid features = net.backbone(batch.images);
    const RpnPredictions predictions = net.proposal_generator.predict(features);
    NamedLosses losses = net.proposal_generator.losses(predictions, batch.truth, sampler);
    for (auto& loss : net.roi_heads.losses(features, given_rois(c, batch, t), batch.truth, batch.sizes)) losses.push_back(loss);
    c.check_key(fmt::format("out/losses.step{}", t), in_order(c, losses), jump(c, "losses", t + 1 < steps ? 0 : t));
    if (t == 0) {
      const auto proposals = net.proposal_generator.proposals(predictions, batch.sizes);
      for (size_t n = 0; n < proposals.size(); ++n) {
        c.check(fmt::format("proposals.{}", n), proposals[n].boxes);
        c.check(fmt::format("objectness.{}", n), proposals[n].logits);
      }
    }
    backward(sum(losses));
    // A ReLU on either side of rounding noise moves single elements: those of oneDNN's and our convolutions differ by up to 1% of the
    // root mean square here, more than the two runs that the fixture's tolerance comes from. The norms stay within it.
    if (t == 0) check_parameter_gradients(c, net, 0.02);
    optimizer.step(solver["lr"].GetDouble());
    if (t == 0 || t + 1 == steps) check_parameters(c, net, t);
  }
}

// The detections in the order of the wanted ones: scores that are nearly equal may be swapped.
Detections matched(const Detections& got, const Tensor& boxes, const Tensor& classes) {
  REQUIRE(got.boxes.dim(0) == boxes.dim(0));
  std::vector<int64_t> order;
  for (int64_t i = 0; i < boxes.dim(0); ++i) {
    int64_t best = -1;
    float nearest = INFINITY;
    for (int64_t j = 0; j < boxes.dim(0); ++j) {
      if (got.classes.data<int64_t>()[j] != classes.data<int64_t>()[i] || std::find(order.begin(), order.end(), j) != order.end())
        continue;
      float distance = 0;
      for (int64_t k = 0; k < 4; ++k)
        distance = std::max(distance, std::abs(got.boxes.data<float>()[4 * j + k] - boxes.data<float>()[4 * i + k]));
      if (distance < nearest) {
        nearest = distance;
        best = j;
      }
    }
    REQUIRE(best >= 0);
    order.push_back(best);
  }
  const Tensor index = index_tensor(order, {});
  return {apply(IndexSelect{}, got.boxes, index), apply(IndexSelect{}, got.scores, index),
          apply(IndexSelect{}, got.classes, index), apply(IndexSelect{}, got.mask_probs, index)};
}

// Pasted masks against the case's run lengths: at most as many pixels differ as lie within 1e-3 of the threshold.
void check_masks(const ParityCase& c, size_t n, const Detections& got, std::array<int64_t, 2> size) {
  const auto masks = paste_masks(got.mask_probs, got.boxes, size[0], size[1]);
  const auto& want = c.params()["rle"][unsigned(n)];
  const auto& near = c.params()["mask_pixels_within_1e_3_of_threshold"][unsigned(n)];
  REQUIRE(want.Size() == masks.size());
  for (unsigned i = 0; i < want.Size(); ++i) {
    const Rle mask = rle_from_coco_string(want[i].GetString(), size[0], size[1]);
    const int64_t differ = area(mask) + area(masks[i]) - 2 * intersection_area(mask, masks[i]);
    INFO("mask ", i, " of image ", n);
    CHECK(differ <= near[i].GetInt64());
  }
}

void check_inference(const ParityCase& c) {
  MaskRcnn net(options_of(c));
  load_formula_weights(c, net);
  net.eval();
  const NoGrad no_grad;
  std::vector<Tensor> images;
  std::vector<std::array<int64_t, 2>> sizes;
  for (size_t n = 0; c.has(fmt::format("in/resized.{}", n)); ++n) {
    images.push_back(c.input(fmt::format("resized.{}", n)));
    sizes.push_back({images.back().dim(0), images.back().dim(1)});
  }
  const Tensor batch = gray_batch(images, c.params()["config"]);
  const Pyramid features = net.backbone(batch);
  for (size_t l = 0; l < 4; ++l) c.check(fmt::format("p{}", l + 2), features[l], to_nchw);
  const auto proposals = net.proposal_generator.proposals(net.proposal_generator.predict(features), sizes);
  const auto detections = net.detect(batch, sizes);
  for (size_t n = 0; n < images.size(); ++n) {
    c.check(fmt::format("proposals.{}", n), proposals[n].boxes);
    c.check(fmt::format("objectness.{}", n), proposals[n].logits);
    const Tensor original = c.input(fmt::format("image.{}", n));
    const Detections at_size = rescaled(detections[n], sizes[n], {original.dim(0), original.dim(1)});
    const Detections got = matched(at_size, c.load(fmt::format("out/boxes.{}", n)), c.load(fmt::format("out/classes.{}", n)));
    c.check(fmt::format("boxes.{}", n), got.boxes);
    c.check(fmt::format("network_boxes.{}", n), got.boxes);  // stored after detectron2's post-processing had scaled them in place
    c.check(fmt::format("scores.{}", n), got.scores);
    c.check(fmt::format("classes.{}", n), got.classes);
    c.check(fmt::format("mask_probs.{}", n), got.mask_probs);
    check_masks(c, n, got, {original.dim(0), original.dim(1)});
  }
}

PARITY_MODEL(mask_rcnn_train) { check_training(c); }
PARITY_MODEL(cascade_mask_rcnn_train) { check_training(c); }
PARITY_MODEL(mask_rcnn_inference) { check_inference(c); }
PARITY_MODEL(cascade_mask_rcnn_inference) { check_inference(c); }

}  // namespace
}  // namespace glia::tests
