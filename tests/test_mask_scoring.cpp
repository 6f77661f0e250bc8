// Mask Scoring R-CNN: the MaskIoU head against PyTorch's layers (tests/peers/make_mask_scoring_fixture.py), targets by hand, scores of
// detections.
#include <doctest/doctest.h>

#include <algorithm>

#include "autograd/operators.h"
#include "data/mask_patches.h"
#include "data/rle.h"
#include "models/mask_iou_head.h"
#include "models/roi_heads.h"
#include "tests/parity.h"

namespace glia::tests {
namespace {

PARITY_MODEL(mask_iou_head) {
  RoiHeadsOptions options;
  options.num_classes = c.integer("num_classes", 0);
  options.mask_conv_dim = c.integer("mask_conv_dim", 0);
  options.box_fc_dim = c.integer("fc_dim", 0);
  options.mask_pooler_resolution = c.integer("size", 0);
  const Tensor pooled = c.grad_input("pooled", to_nhwc), logits = c.grad_input("logits"), targets = c.input("targets");
  MaskIouHead head(options, pooled.dim(3));
  StateDict state;
  for (const NamedTensor& p : head.parameters()) state[p.name] = c.input("param." + p.name);
  head.load_state_dict(state, c.name());
  const Tensor classes = c.input("classes"), inside = c.input("inside").cast(DType::float64);

  const Tensor ious = head(pooled, logits, classes.values<int64_t>());
  c.check("ious", ious);
  const Tensor target = mask_iou_targets(logits, targets, inside.values<double>());
  c.check("target", target);
  const Tensor loss = mask_iou_loss(ious, target);
  c.check("loss", loss);
  backward(loss);
  c.check_grad("pooled", pooled, to_nchw);
  c.check_grad("logits", logits);
  for (const NamedTensor& p : head.parameters())
    c.check_key("gin/param." + p.name, to_checkpoint(grad_of(*p.tensor), p.rule.layout));
}

// A square of `side` pixels at (x, y) in an image of 20 x 30.
Rle square(int64_t y, int64_t x, int64_t side) {
  const Tensor mask = Tensor::zeros({20, 30}, DType::uint8);
  for (int64_t i = y; i < y + side; ++i)
    for (int64_t j = x; j < x + side; ++j) mask.data<uint8_t>()[i * 30 + j] = 1;
  return encode_mask(mask);
}

}  // namespace

TEST_SUITE_BEGIN("maskscoring");

TEST_CASE("the part of an instance inside a box: whole pixels, parts of pixels, nothing") {
  const std::vector<Rle> masks{square(4, 6, 4), square(0, 0, 2), Rle{20, 30, {600}}};
  const Tensor boxes = Tensor::from<float>({6, 4}, {6,   4,  10, 8,     // all of the first
                                                    0,   0,  8,  20,    // its left half
                                                    6.5, 4,  10, 5.25,  // 3.5 by 1.25 of 4 by 4 pixels
                                                    20,  10, 25, 15,    // beside it
                                                    -3,  -3, 1,  1,     // a quarter of the second
                                                    0,   0,  30, 20});  // an instance without pixels
  const std::vector<int64_t> instance{0, 0, 0, 0, 1, 2};
  const std::vector<double> parts = part_inside(to_patches(masks), boxes, instance);
  CHECK(parts == std::vector<double>{1, 0.5, 3.5 * 1.25 / 16, 0, 0.25, 0});
}

TEST_CASE("targets of the IoU: of the whole instance, not of the part that the region shows") {
  // 2 x 2 pixels; the target's left column is set.
  const Tensor target = Tensor::from<float>({1, 2, 2}, {1, 0, 1, 0});
  const auto iou = [&](std::vector<float> logits, double inside) {
    return mask_iou_targets(Tensor::from<float>({1, 2, 2}, logits), target, std::vector<double>{inside}).item();
  };
  CHECK(iou({1, -1, 1, -1}, 1) == 1);
  CHECK(iou({1, -1, 1, -1}, 0.5) == 0.5);  // half of the instance is elsewhere
  CHECK(iou({1, 1, 1, 1}, 1) == 0.5);
  CHECK(iou({1, -1, -1, 1}, 1) == doctest::Approx(1.0 / 3));
  CHECK(iou({-1, -1, -1, -1}, 1) == 0);
  CHECK(iou({1, 1, 1, 1}, 0) == doctest::Approx(2 / (4 + 2e10 - 2)));
  CHECK(iou({0, -1, 1, -1}, 1) == 0.5);  // a logit of 0 is outside
}

TEST_CASE("the loss leaves out regions without an IoU; none at all is 0, with a gradient of 0") {
  Tensor predicted = Tensor::from<float>({3}, {0.5F, 0.25F, 9});
  require_grad(predicted);
  const Tensor loss = mask_iou_loss(predicted, Tensor::from<float>({3}, {1, 0.75F, 0}));
  CHECK(loss.item() == doctest::Approx(0.5 * (0.25 + 0.25) / 2));
  backward(loss);
  CHECK(grad_of(predicted).data<float>()[0] == doctest::Approx(-0.25));
  CHECK(grad_of(predicted).data<float>()[1] == doctest::Approx(-0.25));
  CHECK(grad_of(predicted).data<float>()[2] == 0);
  zero_grad(predicted);
  const Tensor none = mask_iou_loss(predicted, Tensor::zeros({3}));
  CHECK(none.item() == 0);
  backward(none);
  for (int64_t i = 0; i < 3; ++i) CHECK(grad_of(predicted).data<float>()[i] == 0);
}

TEST_CASE("masks are ranked by class score times predicted IoU, boxes by class score") {
  RoiHeadsOptions options;
  options.num_classes = 2;
  options.box_fc_dim = 8;
  options.mask_conv_dim = 4;
  options.mask_num_conv = 1;
  options.score_thresh_test = 0;
  options.mask_scoring = true;
  RoiHeads heads(options, 4);
  heads.initialize(3);
  heads.eval();
  const NoGrad no_grad;
  Pyramid features;
  for (size_t l = 0; l < 5; ++l) features[l] = Tensor::full({1, 64 / pyramid_strides[l], 64 / pyramid_strides[l], 4}, 0.5);
  const std::vector<std::array<int64_t, 2>> sizes{{64, 64}};
  const std::vector<Proposals> proposals{{Tensor::from<float>({2, 4}, {2, 3, 30, 40, 20, 20, 60, 50}), Tensor::zeros({2})}};
  StateDict state = heads.state_dict();
  for (const double iou : {0.25, 0.75, 1.5, -0.5}) {
    state.at("maskiou_head.maskiou.weight").fill(0);  // the same IoU for all
    state.at("maskiou_head.maskiou.bias").fill(iou);
    heads.load_state_dict(state, "test");
    const Detections found = heads.detect(features, proposals, sizes)[0];
    REQUIRE(found.boxes.dim(0) > 0);
    REQUIRE(found.mask_scores.dim(0) == found.boxes.dim(0));
    for (int64_t i = 0; i < found.scores.size(); ++i)
      CHECK(found.mask_scores.data<float>()[i] ==
            doctest::Approx(double(found.scores.data<float>()[i]) * std::clamp(iou, 0.0, 1.0)));
    const Detections half = rescaled(found, {64, 64}, {32, 32});
    CHECK(half.mask_scores.dim(0) == half.boxes.dim(0));
  }
  options.mask_scoring = false;
  RoiHeads plain(options, 4);
  plain.load_state_dict(state, "test", false);
  plain.eval();
  CHECK(!plain.detect(features, proposals, sizes)[0].mask_scores);
}

TEST_SUITE_END();

}  // namespace glia::tests
