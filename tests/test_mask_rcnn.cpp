// Mask R-CNN apart from what the parity fixtures show: names and sizes, drawing of samples, images without anything, errors.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>
#include <set>
#include <sstream>

#include "autograd/operators.h"
#include "data/mask_patches.h"
#include "data/rle.h"
#include "models/mask_rcnn.h"
#include "models/mask_rcnn_torchvision.h"
#include "models/weight_names.h"
#include "tensor/random.h"
#include "tests/paths.h"

namespace glia::tests {
namespace {

// detectron2's state dict of mask_rcnn_R_50_FPN for 80 classes, in its order: name and dimensions on each line.
std::vector<std::pair<std::string, Shape>> detectron2_state() {
  std::ifstream file(fixtures_folder() / "mask_rcnn_r50_fpn_names.txt");
  std::vector<std::pair<std::string, Shape>> state;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    words >> name;
    std::vector<int64_t> dims;
    for (int64_t d; words >> d;) dims.push_back(d);
    state.emplace_back(name, Shape(std::span<const int64_t>(dims)));
  }
  return state;
}

bool is_norm(const std::string& name) { return name.find(".norm.") != std::string::npos; }

int64_t numbers(Module& net, bool norms) {
  int64_t n = 0;
  for (const auto& [name, t] : net.state_dict()) n += is_norm(name) == norms ? t.size() : 0;
  return n;
}

int64_t trainable(Module& net) {
  int64_t n = 0;
  for (const NamedTensor& p : net.parameters()) n += wants_grad(*p.tensor) ? p.tensor->size() : 0;
  return n;
}

MaskRcnnOptions tiny() {
  MaskRcnnOptions o;
  o.resnet = {.stem_channels = 4, .res2_channels = 8, .width_per_group = 4};
  o.fpn_channels = 8;
  o.rpn.pre_nms_topk_train = o.rpn.pre_nms_topk_test = 50;
  o.rpn.post_nms_topk_train = o.rpn.post_nms_topk_test = 20;
  o.rpn.batch_size_per_image = 16;
  o.rpn.anchor_sizes = {{8}, {16}, {32}, {64}, {128}};
  o.roi_heads.num_classes = 2;
  o.roi_heads.batch_size_per_image = 16;
  o.roi_heads.box_fc_dim = 16;
  o.roi_heads.mask_conv_dim = 8;
  o.roi_heads.mask_num_conv = 1;
  return o;
}

// Cascade R-CNN and Mask Scoring R-CNN at once.
MaskRcnnOptions with_all_heads(MaskRcnnOptions o) {
  o.roi_heads.cascade_ious = {0.5, 0.6, 0.7};
  o.roi_heads.cls_agnostic_bbox_reg = true;
  o.roi_heads.mask_scoring = true;
  return o;
}

struct Batch {
  Tensor images;
  std::vector<std::array<int64_t, 2>> sizes{{50, 60}, {64, 40}};
  GroundTruth truth;
};

// Two images of noise; `instances` squares in the first.
Batch batch_of(int64_t instances) {
  Batch b;
  b.images = Tensor({2, 64, 64, 3});
  for (int64_t i = 0; i < b.images.size(); ++i) b.images.data<float>()[i] = float(Philox(5, 1).normal(uint64_t(i)) * 50);
  std::vector<float> boxes;
  std::vector<int64_t> classes;
  std::vector<Rle> masks;
  for (int64_t i = 0; i < instances; ++i) {
    const int64_t at = 5 + 10 * i, side = 8 + 2 * i;
    for (const int64_t x : {at, at, at + side, at + side}) boxes.push_back(float(x));
    classes.push_back(i % 2);
    const Tensor mask = Tensor::zeros({50, 60}, DType::uint8);
    for (int64_t y = at; y < at + side; ++y) std::fill_n(mask.data<uint8_t>() + y * 60 + at, side, uint8_t(1));
    masks.push_back(encode_mask(mask));
  }
  b.truth.first = {0, instances, instances};
  b.truth.boxes = Tensor::from<float>({instances, 4}, boxes);
  b.truth.classes = Tensor::from<int64_t>({instances}, classes);
  b.truth.masks = to_patches(masks);
  return b;
}

Tensor total(const NamedLosses& losses) {
  Tensor sum;
  for (const auto& [name, loss] : losses) sum = sum ? sum + loss : loss;
  return sum;
}

}  // namespace

TEST_SUITE_BEGIN("models");

TEST_CASE("Mask R-CNN: names, shapes and numbers of detectron2's state dict") {
  MaskRcnn net(MaskRcnnOptions{});
  const StateDict state = net.state_dict();
  const auto wanted = detectron2_state();
  CHECK(wanted.size() == 307);
  CHECK(state.size() == 307);
  for (const auto& [name, shape] : wanted) {
    INFO(name);
    REQUIRE(state.contains(name));
    CHECK(state.at(name).shape() == shape);
  }
  CHECK(numbers(net, false) == 44'343'216);
  CHECK(numbers(net, true) == 106'240);
  CHECK(trainable(net) == 44'120'816);
  // What optimizers number: the order of PyTorch's parameters().
  std::vector<std::string> order, wanted_order;
  for (const NamedTensor& p : net.parameters()) order.push_back(p.name);
  for (const auto& [name, shape] : wanted)
    if (!is_norm(name)) wanted_order.push_back(name);
  CHECK(order == wanted_order);
}

TEST_CASE("Mask R-CNN: numbers for other heads") {
  MaskRcnnOptions options;
  options.roi_heads.num_classes = 3;
  {
    MaskRcnn net(options);
    CHECK(numbers(net, false) == 43'928'802);
    CHECK(trainable(net) == 43'706'402);
  }
  options.roi_heads.cascade_ious = {0.5, 0.6, 0.7};
  CHECK_THROWS_AS(MaskRcnn{options}, UsageError);  // deltas by class
  options.roi_heads.cls_agnostic_bbox_reg = true;
  MaskRcnn net(options);
  const StateDict state = net.state_dict();
  CHECK(state.size() == 323);
  CHECK(numbers(net, false) == 71'728'362);
  CHECK(state.at("roi_heads.box_head.2.fc1.weight").shape() == Shape({1024, 12544}));
  CHECK(state.at("roi_heads.box_predictor.1.bbox_pred.weight").shape() == Shape({4, 1024}));
}

TEST_CASE("Mask R-CNN: initial values have the deviations of detectron2's") {
  MaskRcnnOptions options;
  options.roi_heads.num_classes = 3;
  MaskRcnn net(options);
  net.initialize(11);
  const StateDict state = net.state_dict();
  const auto deviation = [&](const char* name) {
    double squares = 0;
    for (const float x : state.at(name).values<float>()) squares += double(x) * double(x);
    return std::sqrt(squares / double(state.at(name).size()));
  };
  const auto near = [](double x) { return doctest::Approx(x).epsilon(0.03); };
  CHECK(deviation("backbone.bottom_up.res4.2.conv2.weight") == near(std::sqrt(2.0 / (256 * 9))));
  CHECK(deviation("backbone.fpn_output3.weight") == near(std::sqrt(1.0 / (256 * 9))));  // U(+-sqrt(3 / fan_in))
  CHECK(deviation("roi_heads.box_head.fc1.weight") == near(std::sqrt(1.0 / 12544)));
  CHECK(deviation("roi_heads.mask_head.mask_fcn2.weight") == near(std::sqrt(2.0 / (256 * 9))));
  CHECK(deviation("roi_heads.mask_head.deconv.weight") == near(0.0442));
  CHECK(deviation("proposal_generator.rpn_head.conv.weight") == near(0.01));
  CHECK(deviation("roi_heads.box_predictor.cls_score.weight") == near(0.01));
  CHECK(deviation("roi_heads.box_predictor.bbox_pred.weight") == near(0.001));
  CHECK(deviation("roi_heads.mask_head.predictor.weight") == doctest::Approx(0.001).epsilon(0.1));
  CHECK(deviation("roi_heads.mask_head.deconv.bias") == 0);
}

TEST_CASE("random samples: of the right size, without repetition, uniform, a function of seed, stream and image") {
  std::vector<int64_t> candidates(100);
  std::iota(candidates.begin(), candidates.end(), 1000);
  RandomSampler sampler(3, 4), again(3, 4), other(3, 5);
  const auto picked = sampler.pick(Sampler::Stage::anchors, 0, candidates, 10);
  CHECK(picked.size() == 10);
  CHECK(std::is_sorted(picked.begin(), picked.end()));
  CHECK(std::set<int64_t>(picked.begin(), picked.end()).size() == 10);
  CHECK(picked == again.pick(Sampler::Stage::anchors, 0, candidates, 10));
  CHECK(picked != other.pick(Sampler::Stage::anchors, 0, candidates, 10));
  CHECK(picked != sampler.pick(Sampler::Stage::rois, 0, candidates, 10));
  CHECK(picked != sampler.pick(Sampler::Stage::anchors, 1, candidates, 10));
  CHECK(sampler.pick(Sampler::Stage::anchors, 0, candidates, 200) == candidates);
  std::vector<int> count(100);
  for (int64_t image = 0; image < 4000; ++image)
    for (const int64_t i : sampler.pick(Sampler::Stage::anchors, image, candidates, 10)) ++count[size_t(i - 1000)];
  for (const int n : count) CHECK(std::abs(n - 400) < 100);  // 5 deviations

  const BalancedSample few = balanced_sample(sampler, Sampler::Stage::rois, 0, std::vector<int64_t>{1, 2}, candidates, 16, 0.25);
  CHECK(few.positives.size() == 2);
  CHECK(few.negatives.size() == 14);
  const BalancedSample many = balanced_sample(sampler, Sampler::Stage::rois, 0, candidates, std::vector<int64_t>{1, 2}, 16, 0.25);
  CHECK(many.positives.size() == 4);
  CHECK(many.negatives.size() == 2);
}

TEST_CASE("Mask R-CNN: a step with and without instances; the step's number draws the sample") {
  MaskRcnnOptions options = tiny();
  size_t wanted = 5;
  SUBCASE("one box head") {}
  SUBCASE("a cascade with mask scoring") {
    options = with_all_heads(options);
    wanted = 10;
  }
  MaskRcnn net(options);
  net.initialize(1);
  for (const int64_t instances : {0, 3}) {
    const Batch b = batch_of(instances);
    net.set_random(7, 0);
    const NamedLosses losses = net.losses(b.images, b.sizes, b.truth);
    CHECK(losses.size() == wanted);
    for (const auto& [name, loss] : losses) {
      INFO(name);
      CHECK(std::isfinite(loss.item()));
      // What fresh weights make of the boxes may leave a cascade's later stages without a positive one.
      const bool later_stage = name == "loss_box_reg_stage1" || name == "loss_box_reg_stage2";
      const bool about_instances = name.starts_with("loss_mask") || name.starts_with("loss_box_reg") || name == "loss_rpn_loc";
      if (about_instances && !(later_stage && instances > 0)) CHECK((loss.item() > 0) == (instances > 0));
    }
    backward(total(losses));
    for (const NamedTensor& p : net.parameters()) {
      const Tensor gradient = wants_grad(*p.tensor) ? grad_of(*p.tensor) : Tensor();
      if (gradient)
        for (const float g : gradient.values<float>()) REQUIRE(std::isfinite(g));
      INFO(p.name);
      if (instances > 0 && wants_grad(*p.tensor)) CHECK(gradient);
      zero_grad(*p.tensor);
    }
  }
  const Batch b = batch_of(3);
  const auto loss_of_step = [&](int64_t step) {
    net.set_random(7, step);
    return net.losses(b.images, b.sizes, b.truth)[0].second.item();
  };
  CHECK(loss_of_step(0) == loss_of_step(0));
  CHECK(loss_of_step(0) != loss_of_step(1));
  for (const auto& [name, value] : net.statistics()) CHECK(std::isfinite(value));
}

TEST_CASE("Mask R-CNN: detections lie in their images, best first; none is no error") {
  MaskRcnnOptions options = tiny();
  options.roi_heads.score_thresh_test = 0;
  MaskRcnn net(options);
  net.initialize(2);
  net.eval();
  const NoGrad no_grad;
  const Batch b = batch_of(0);
  const auto found = net.detect(b.images, b.sizes);
  REQUIRE(found.size() == 2);
  for (size_t n = 0; n < 2; ++n) {
    const Detections& d = found[n];
    CHECK(d.boxes.dim(0) > 0);
    CHECK(d.mask_probs.shape() == Shape({d.boxes.dim(0), 28, 28}));
    for (int64_t i = 0; i < d.boxes.dim(0); ++i) {
      const float* box = d.boxes.data<float>() + 4 * i;
      CHECK((box[0] >= 0 && box[1] >= 0 && box[2] <= float(b.sizes[n][1]) && box[3] <= float(b.sizes[n][0])));
      if (i > 0) CHECK(d.scores.data<float>()[i] <= d.scores.data<float>()[i - 1]);
    }
  }
  options.roi_heads.score_thresh_test = 0.99;
  MaskRcnn strict(options);
  strict.initialize(2);
  strict.eval();
  for (const Detections& d : strict.detect(b.images, b.sizes)) {
    CHECK(d.boxes.dim(0) == 0);
    CHECK(d.mask_probs.shape() == Shape({0, 28, 28}));
  }
}

TEST_CASE("ROI heads: images without a proposal") {
  RoiHeads heads(tiny().roi_heads, 8);
  heads.initialize(1);
  Pyramid features;
  for (size_t l = 0; l < 5; ++l) features[l] = Tensor::zeros({1, 64 / pyramid_strides[l], 64 / pyramid_strides[l], 8});
  const std::vector<std::array<int64_t, 2>> sizes{{64, 64}};
  const std::vector<Proposals> none{{Tensor::zeros({0, 4}), Tensor::zeros({0})}};
  const Batch b = batch_of(0);
  RandomSampler sampler(1, 1);
  const GroundTruth nothing{{0, 0}, b.truth.boxes, b.truth.classes, b.truth.masks};
  for (const auto& [name, loss] : heads.losses(features, heads.sample(none, nothing, sampler), nothing, sizes))
    CHECK(loss.item() == 0);
  const NoGrad no_grad;
  CHECK(heads.detect(features, none, sizes)[0].boxes.dim(0) == 0);
}

TEST_CASE("Mask R-CNN: proposals that are not finite end a training, and are left out else") {
  const Tensor boxes = Tensor::from<float>({3, 4}, {0, 0, 10, 10, 20, 20, NAN, 30, 5, 5, 5, 9});  // good, NaN, no width
  const Tensor logits = Tensor::from<float>({3}, {1, 2, 3}), level = Tensor::zeros({3}, DType::int64);
  const Proposals kept = select_proposals({.training = false}, boxes, logits, level, {32, 32});
  CHECK(kept.boxes.dim(0) == 1);
  CHECK(kept.logits.item() == 1);
  CHECK_THROWS_AS(select_proposals({.training = true}, boxes, logits, level, {32, 32}), DivergedError);
}

TEST_CASE("rescaled detections: clipped to the image, those without area left out") {
  const Detections d{Tensor::from<float>({2, 4}, {10, 20, 30, 60, 95, 0, 100, 10}), Tensor::from<float>({2}, {0.9F, 0.8F}),
                     Tensor::from<int64_t>({2}, {1, 0}), Tensor::zeros({2, 28, 28})};
  const Detections r = rescaled(d, {100, 100}, {50, 200});  // half as high, twice as wide
  REQUIRE(r.boxes.dim(0) == 2);
  CHECK(r.boxes.data<float>()[0] == 20);
  CHECK(r.boxes.data<float>()[1] == 10);
  CHECK(r.boxes.data<float>()[2] == 60);
  CHECK(r.boxes.data<float>()[3] == 30);
  const Detections flat = rescaled(
      {Tensor::from<float>({1, 4}, {5, 120, 9, 130}), d.scores.slice(0, 1), d.classes.slice(0, 1), {}}, {100, 100}, {100, 100});
  CHECK(flat.boxes.dim(0) == 0);
}

TEST_CASE("Mask R-CNN on the emulated device: losses, gradients and detections of the CPU") {
  const Device emulated{DeviceKind::emulated};
  MaskRcnnOptions options = tiny();
  SUBCASE("one box head") {}
  SUBCASE("a cascade with mask scoring") { options = with_all_heads(options); }
  options.roi_heads.score_thresh_test = 0.3;
  MaskRcnn host(options), device(options);
  host.initialize(4);
  device.initialize(4);
  device.to(emulated);
  const Batch b = batch_of(3);
  GroundTruth truth = b.truth;
  for (Tensor* t : {&truth.boxes, &truth.classes, &truth.masks.bits, &truth.masks.windows}) *t = t->to(emulated);
  const NamedLosses want = host.losses(b.images, b.sizes, b.truth), got = device.losses(b.images.to(emulated), b.sizes, truth);
  for (size_t i = 0; i < want.size(); ++i) {
    INFO(want[i].first);
    CHECK(got[i].second.item() == doctest::Approx(want[i].second.item()).epsilon(1e-4));
  }
  backward(total(want));
  backward(total(got));
  const auto parameters = host.parameters(), same = device.parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (!wants_grad(*parameters[i].tensor)) continue;
    const Tensor a = grad_of(*parameters[i].tensor), d = grad_of(*same[i].tensor).to(Device{});
    double squares = 0, apart = 0;
    for (int64_t k = 0; k < a.size(); ++k) {
      squares += std::pow(a.data<float>()[k], 2);
      apart += std::pow(a.data<float>()[k] - d.data<float>()[k], 2);
    }
    INFO(parameters[i].name);
    CHECK(std::sqrt(apart) <= 1e-3 * std::sqrt(squares) + 1e-7);
  }
  const NoGrad no_grad;
  host.eval();
  device.eval();
  const auto found = host.detect(b.images, b.sizes), there = device.detect(b.images.to(emulated), b.sizes);
  for (size_t n = 0; n < 2; ++n) {
    REQUIRE(found[n].boxes.dim(0) == there[n].boxes.dim(0));
    for (int64_t i = 0; i < found[n].boxes.size(); ++i)
      CHECK(there[n].boxes.data<float>()[i] == doctest::Approx(found[n].boxes.data<float>()[i]).epsilon(1e-3));
    REQUIRE(bool(found[n].mask_scores) == bool(there[n].mask_scores));
    for (int64_t i = 0; found[n].mask_scores && i < found[n].mask_scores.size(); ++i)
      CHECK(there[n].mask_scores.data<float>()[i] == doctest::Approx(found[n].mask_scores.data<float>()[i]).epsilon(1e-3));
    for (int64_t i = 0; i < found[n].mask_probs.size(); ++i)
      REQUIRE(there[n].mask_probs.data<float>()[i] == doctest::Approx(found[n].mask_probs.data<float>()[i]).epsilon(1e-3));
  }
}

TEST_CASE("torchvision's state dict: names of old and new files, background from the first row to the last") {
  const Tensor scores = Tensor::from<float>({3, 1}, {9, 1, 2}), deltas = Tensor::from<float>({8, 1}, {9, 9, 9, 9, 1, 2, 3, 4});
  const StateDict old{{"backbone.body.layer2.0.downsample.1.bias", Tensor::zeros({1})},
                      {"backbone.fpn.inner_blocks.3.weight", Tensor::zeros({1})},
                      {"rpn.head.conv.bias", Tensor::zeros({1})},
                      {"roi_heads.mask_head.mask_fcn2.bias", Tensor::zeros({1})},
                      {"roi_heads.box_predictor.cls_score.weight", scores},
                      {"roi_heads.box_predictor.bbox_pred.weight", deltas}};
  const StateDict got = from_torchvision(old, TorchvisionModel::v1);
  CHECK(got.contains("backbone.bottom_up.res3.0.shortcut.norm.bias"));
  CHECK(got.contains("backbone.fpn_lateral5.weight"));
  CHECK(got.contains("proposal_generator.rpn_head.conv.bias"));
  CHECK(got.contains("roi_heads.mask_head.mask_fcn2.bias"));
  const Tensor rows = got.at("roi_heads.box_predictor.cls_score.weight");
  CHECK((rows.data<float>()[0] == 1 && rows.data<float>()[1] == 2 && rows.data<float>()[2] == 9));
  CHECK(got.at("roi_heads.box_predictor.bbox_pred.weight").shape() == Shape({4, 1}));
  const StateDict v2 = from_torchvision({{"roi_heads.box_head.5.bias", Tensor::zeros({1})},
                                         {"roi_heads.box_head.3.1.running_mean", Tensor::zeros({1})},
                                         {"rpn.head.conv.1.0.bias", Tensor::zeros({1})}},
                                        TorchvisionModel::v2);
  CHECK(v2.contains("roi_heads.box_head.fc1.bias"));
  CHECK(v2.contains("roi_heads.box_head.conv4.norm.running_mean"));
  CHECK(v2.contains("proposal_generator.rpn_head.conv.conv1.bias"));
}

TEST_CASE("Mask R-CNN: errors name what does not fit") {
  MaskRcnnOptions options = tiny();
  options.rpn.anchor_sizes = {{8}, {16}};
  CHECK_THROWS_AS(MaskRcnn{options}, UsageError);
  MaskRcnn net(tiny());
  const std::vector<std::array<int64_t, 2>> sizes{{40, 40}};
  CHECK_THROWS_AS(net.detect(Tensor::zeros({1, 48, 64, 3}), sizes), UsageError);
}

}  // namespace glia::tests

TEST_SUITE_END();
