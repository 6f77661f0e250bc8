// Mask R-CNN as a system: batches, training that repeats to the bit, prediction at the image's own size.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "autograd/tape.h"
#include "data/image_ops.h"
#include "data/rle.h"
#include "models/mask_rcnn_segmenter.h"
#include "tensor/error.h"
#include "tensor/parallel.h"
#include "tensor/random.h"
#include "tests/same_bits.h"
#include "train/trainer.h"

using namespace glia;
using tests::same_bits;

namespace {

namespace b = mask_rcnn_batch;

// A network of all parts, a thousandth as wide, for cells of about 20 pixels in images of 64 x 96.
MaskRcnnSegmenterOptions tiny() {
  MaskRcnnSegmenterOptions o;
  o.network.resnet = {.stem_channels = 8, .res2_channels = 16, .width_per_group = 8, .norm = nn::NormKind::bn, .freeze_at = 0};
  o.network.fpn_channels = 16;
  o.network.rpn.anchor_sizes = {{8}, {16}, {32}, {64}, {128}};
  o.network.rpn.batch_size_per_image = 32;
  o.network.rpn.pre_nms_topk_train = o.network.rpn.pre_nms_topk_test = 100;
  o.network.rpn.post_nms_topk_train = o.network.rpn.post_nms_topk_test = 50;
  o.network.roi_heads.num_classes = 2;
  o.network.roi_heads.batch_size_per_image = 32;
  o.network.roi_heads.score_thresh_test = 0;
  o.network.roi_heads.detections_per_image = -1;
  o.network.roi_heads.box_fc_dim = 32;
  o.network.roi_heads.mask_conv_dim = 8;
  o.network.roi_heads.mask_num_conv = 2;
  o.pixel_mean = {60, 60, 60};
  o.pixel_std = {60, 60, 60};
  o.min_size_test = o.max_size_test = 0;
  return o;
}

// Noise with three bright discs of two classes.
Example cells(int64_t index, int64_t height = 64, int64_t width = 96) {
  Example e;
  e.image = Tensor({height, width, 1}, DType::uint8);
  e.index = index;
  e.id = "cells" + std::to_string(index);
  const Philox random(11, static_cast<uint64_t>(index));
  for (int64_t i = 0; i < e.image.size(); ++i)
    e.image.data<uint8_t>()[i] = static_cast<uint8_t>(random.uniform(uint64_t(i), 0, 60));
  for (int64_t k = 0; k < 3; ++k) {
    const double radius = 8 + double((index + k) % 3), cy = 20 + 10 * double((index + k) % 3), cx = 18 + 28 * double(k);
    const Tensor mask = Tensor::zeros({height, width}, DType::uint8);
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < width; ++x)
        if (std::hypot(double(y) - cy, double(x) - cx) <= radius) {
          mask.data<uint8_t>()[y * width + x] = 1;
          e.image.data<uint8_t>()[y * width + x] = static_cast<uint8_t>(150 + 60 * (k % 2));
        }
    Instance instance{.mask = encode_mask(mask), .category = static_cast<int>(k % 2)};
    instance.box = bounding_box(instance.mask);
    e.instances.push_back(std::move(instance));
  }
  return e;
}

Loader cells_loader(const Segmenter& segmenter) {
  LoaderOptions options;
  options.batch_size = 2;
  options.workers = 0;
  options.endless = true;
  options.detection = DetectionAugment{.short_edge = {64, 96}, .hflip = true};
  options.prepare = [&segmenter](std::span<const Example> examples) { return segmenter.collate(examples); };
  return Loader(
      2, [&segmenter](int64_t i) { return segmenter.fit(cells(i)); }, options);
}

TrainerOptions adam() {
  TrainerOptions o;
  o.optimizer = {.kind = OptimizerKind::adam, .weight_decay = 1e-4, .weight_decay_norm = 0.0};
  o.schedule.lr = 3e-3;
  o.clip_norm = 10;
  o.seed = 3;
  return o;
}

// Cascade R-CNN and Mask Scoring R-CNN at once.
MaskRcnnSegmenterOptions with_all_heads(MaskRcnnSegmenterOptions o) {
  o.network.roi_heads.cascade_ious = {0.5, 0.6, 0.7};
  o.network.roi_heads.cls_agnostic_bbox_reg = true;
  o.network.roi_heads.mask_scoring = true;
  return o;
}

struct Training {
  explicit Training(const MaskRcnnSegmenterOptions& options = tiny()) : segmenter(initialized(options)) {}

  std::unique_ptr<Segmenter> segmenter;
  Loader loader = cells_loader(*segmenter);
  Trainer trainer{segmenter->module(), [this](const Batch& batch) { return segmenter->losses(batch.tensors); }, loader, adam()};

  static std::unique_ptr<Segmenter> initialized(const MaskRcnnSegmenterOptions& options = tiny()) {
    auto made = make_mask_rcnn_segmenter(options);
    made->module().initialize(7);
    return made;
  }
  std::vector<StepRecord> steps(int count) {
    std::vector<StepRecord> records;
    for (int i = 0; i < count; ++i) records.push_back(trainer.step());
    return records;
  }
};

}  // namespace

TEST_SUITE_BEGIN("maskrcnn");

TEST_CASE("a batch: images normalised, in the network's order, padded; instances one after another") {
  MaskRcnnSegmenterOptions options = tiny();
  options.pixel_mean = {1, 2, 3};
  options.pixel_std = {2, 4, 8};
  const auto segmenter = make_mask_rcnn_segmenter(options);
  Example colour = cells(0, 40, 50), gray = cells(1, 64, 32), empty = cells(2, 33, 20);
  colour.image = Tensor::from<uint8_t>({1, 1, 3}, std::vector<uint8_t>{10, 20, 30});
  colour.instances.clear();
  empty.instances.clear();
  const std::vector<Example> examples{segmenter->fit(colour), segmenter->fit(gray), segmenter->fit(empty)};
  const std::vector<Tensor> batch = segmenter->collate(examples);
  REQUIRE(batch.size() == 7);
  CHECK(batch[b::images].shape() == Shape{3, 64, 32, 3});
  const float* first = batch[b::images].data<float>();
  CHECK(std::vector<float>(first, first + 3) == std::vector<float>{(30 - 1) / 2.f, (20 - 2) / 4.f, (10 - 3) / 8.f});
  CHECK(std::vector<float>(first + 3, first + 6) == std::vector<float>{0, 0, 0});  // beyond the image
  const float* second = first + 64 * 32 * 3;
  const auto pixel = static_cast<float>(gray.image.data<uint8_t>()[0]);
  CHECK(std::vector<float>(second, second + 3) == std::vector<float>{(pixel - 1) / 2, (pixel - 2) / 4, (pixel - 3) / 8});
  CHECK(std::vector<int64_t>(batch[b::sizes].data<int64_t>(), batch[b::sizes].data<int64_t>() + 6) ==
        std::vector<int64_t>{1, 1, 64, 32, 33, 20});
  const auto count = static_cast<int64_t>(gray.instances.size());
  CHECK(std::vector<int64_t>(batch[b::first].data<int64_t>(), batch[b::first].data<int64_t>() + 4) ==
        std::vector<int64_t>{0, 0, count, count});
  CHECK(batch[b::boxes].shape() == Shape{count, 4});
  CHECK(batch[b::classes].data<int64_t>()[1] == 1);
  CHECK(batch[b::mask_windows].shape() == Shape{count, 7});
}

TEST_CASE("images of other types and ranges come to 0..255, or to mean 0 and deviation 1") {
  MaskRcnnSegmenterOptions options = tiny();
  const Tensor sixteen = Tensor::from<int32_t>({1, 2, 1}, std::vector<int32_t>{0, 65535});
  Example e;
  e.image = sixteen;
  CHECK(make_mask_rcnn_segmenter(options)->fit(e).image.data<float>()[1] == doctest::Approx(255));
  options.normalization = Normalization::percentile;
  CHECK(make_mask_rcnn_segmenter(options)->fit(e).image.data<float>()[1] == doctest::Approx(255).epsilon(0.05));
  options.normalization = Normalization::standard;
  CHECK(make_mask_rcnn_segmenter(options)->fit(e).image.data<float>()[1] == doctest::Approx(1));
}

TEST_CASE("a class that the network does not have is refused") {
  const auto segmenter = make_mask_rcnn_segmenter(tiny());
  Example e = cells(0);
  e.instances[0].category = 2;
  CHECK_THROWS_AS(segmenter->collate({&e, 1}), DataError);
}

TEST_CASE("the losses fall over 20 steps, each by its name") {
  Training training;
  const std::vector<StepRecord> records = training.steps(20);
  std::vector<std::string> names;
  for (const auto& [name, value] : records[0].terms) names.push_back(name);
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{"loss_box_reg", "loss_cls", "loss_mask", "loss_rpn_cls", "loss_rpn_loc"});
  double start = 0, end = 0;
  for (size_t i = 0; i < 5; ++i) {
    start += records[i].loss;
    end += records[15 + i].loss;
  }
  CAPTURE(start);
  CHECK(end < 0.7 * start);
}

TEST_CASE("the same bits with one thread and two, and after a break") {
  MaskRcnnSegmenterOptions options = tiny();
  SUBCASE("one box head") {}
  SUBCASE("a cascade with mask scoring") { options = with_all_heads(options); }
  const int before = num_threads();
  set_num_threads(1);
  Training whole(options);
  whole.steps(4);
  set_num_threads(2);
  Training two(options);
  two.steps(2);
  Checkpoint saved;
  two.trainer.save(saved);
  two.steps(2);
  Training resumed(options);
  resumed.trainer.load(saved, "saved");
  resumed.steps(2);
  set_num_threads(before);
  CHECK(same_bits(whole.segmenter->module().state_dict(), two.segmenter->module().state_dict()));
  CHECK(same_bits(two.segmenter->module().state_dict(), resumed.segmenter->module().state_dict()));
}

TEST_CASE("images without an instance are background: the step is finite") {
  const auto segmenter = Training::initialized();
  Example one = segmenter->fit(cells(0)), two = segmenter->fit(cells(1));
  one.instances.clear();
  for (const bool both : {false, true}) {
    if (both) two.instances.clear();
    const std::vector<Example> examples{one, two};
    const NamedLosses losses = segmenter->losses(segmenter->collate(examples));
    for (const auto& [name, loss] : losses) CHECK_MESSAGE(std::isfinite(loss.item()), name);
    backward(weighted_sum(losses, {}));
  }
}

TEST_CASE("prediction: at the image's size, without shared pixels, the same alone and among others") {
  MaskRcnnSegmenterOptions options = tiny();
  options.min_size_test = 80;
  options.selection.remove_overlaps = true;
  const auto segmenter = make_mask_rcnn_segmenter(options);
  segmenter->module().initialize(7);
  segmenter->module().eval();
  const NoGrad no_grad;
  const std::vector<Tensor> images{cells(0, 50, 70).image, cells(1, 50, 70).image, cells(2, 44, 60).image};
  const std::vector<Prediction> together = segmenter->predict_batch(images);
  REQUIRE(together.size() == 3);
  for (size_t n = 0; n < images.size(); ++n) {
    const Prediction alone = segmenter->predict(images[n]);
    REQUIRE(alone.instances.size() == together[n].instances.size());
    CHECK(!alone.instances.empty());
    const Tensor taken = Tensor::zeros({images[n].dim(0), images[n].dim(1)}, DType::uint8);
    for (size_t i = 0; i < alone.instances.size(); ++i) {
      const Instance &a = alone.instances[i], &c = together[n].instances[i];
      CHECK(a.mask == c.mask);
      CHECK(a.score == c.score);
      CHECK(a.mask.height == images[n].dim(0));
      CHECK(a.mask.width == images[n].dim(1));
      const Tensor mask = decode_mask(a.mask);
      bool shared = false;
      for (int64_t p = 0; p < mask.size(); ++p) {
        shared = shared || (mask.data<uint8_t>()[p] && taken.data<uint8_t>()[p]);
        taken.data<uint8_t>()[p] |= mask.data<uint8_t>()[p];
      }
      CHECK(!shared);
    }
  }
}

TEST_CASE("prediction: boxes of the resized image come back to the image") {
  MaskRcnnSegmenterOptions options = tiny();
  const auto plain = make_mask_rcnn_segmenter(options);
  options.min_size_test = 100;
  const auto resizes = make_mask_rcnn_segmenter(options);
  const NoGrad no_grad;
  for (Segmenter* segmenter : {plain.get(), resizes.get()}) {
    segmenter->module().initialize(7);
    segmenter->module().eval();
  }
  const Tensor image = cells(0, 64, 99).image;  // to 100 x 155: factors 1.5625 and 1.5657
  const std::vector<Instance> small = resizes->predict(image).instances;
  const std::vector<Instance> large = plain->predict(resize_detection_image(image, 100, 155)).instances;
  REQUIRE(small.size() == large.size());
  REQUIRE(small.size() > 3);
  for (size_t i = 0; i < small.size(); ++i) {
    CHECK(small[i].box[0] == doctest::Approx(large[i].box[0] * 99 / 155).epsilon(1e-4));
    CHECK(small[i].box[1] == doctest::Approx(large[i].box[1] * 64 / 100).epsilon(1e-4));
    CHECK(small[i].box[2] == doctest::Approx(large[i].box[2] * 99 / 155).epsilon(1e-4));
    CHECK(small[i].box[3] == doctest::Approx(large[i].box[3] * 64 / 100).epsilon(1e-4));
  }
}

TEST_CASE("prediction in tiles: each tile's own cells, in their place, and nothing else") {
  MaskRcnnSegmenterOptions options = tiny();
  options.network.roi_heads.nms_thresh_test = 1;  // nothing is suppressed, so every detection can be accounted for
  const auto whole = make_mask_rcnn_segmenter(options);
  options.tile = {64, 96};
  options.overlap = 24;
  const auto tiled = make_mask_rcnn_segmenter(options);
  const NoGrad no_grad;
  for (Segmenter* segmenter : {whole.get(), tiled.get()}) {
    segmenter->module().initialize(7);
    segmenter->module().eval();
  }
  // Periods are the tiles' steps, so that all tiles look alike: 2 rows of tiles, 3 columns.
  const std::array<int64_t, 2> step{40, 72};
  const Tensor cell = cells(0).image;
  Tensor image({64 + step[0], 96 + 2 * step[1], 1}, DType::uint8);
  for (int64_t y = 0; y < image.dim(0); ++y)
    for (int64_t x = 0; x < image.dim(1); ++x)
      image.data<uint8_t>()[y * image.dim(1) + x] = cell.data<uint8_t>()[y % step[0] * 96 + x % step[1]];
  const std::vector<Instance> of_one = whole->predict(crop(image, 0, 0, 64, 96)).instances;
  REQUIRE(of_one.size() > 5);
  const std::vector<Instance> found = tiled->predict(image).instances;
  size_t wanted = 0;
  for (int64_t i = 0; i < 2; ++i) {
    for (int64_t j = 0; j < 3; ++j) {
      for (Instance own : of_one) {
        const double y = own.box[1] + own.box[3] / 2, x = own.box[0] + own.box[2] / 2;
        // A neighbour begins 40 (72) pixels on and shares 24: half-way is at 12 and at 52 (84).
        if ((i > 0 && y < 12) || (i < 1 && y >= 52) || (j > 0 && x < 12) || (j < 2 && x >= 84)) continue;
        ++wanted;
        own.box[0] += double(j * step[1]);
        own.box[1] += double(i * step[0]);
        CHECK(std::any_of(found.begin(), found.end(), [&](const Instance& f) {
          bool same = f.category == own.category && f.score == own.score && f.mask.width == image.dim(1);
          for (size_t k = 0; k < 4; ++k) same = same && std::abs(f.box[k] - own.box[k]) < 1e-3;
          return same && std::abs(area(f.mask) - area(own.mask)) <= 2 + area(own.mask) / 20;
        }));
      }
    }
  }
  CHECK(found.size() == wanted);
  CHECK(wanted > 2 * of_one.size());
  options.network.roi_heads.nms_thresh_test = 0.3;
  const auto suppressing = make_mask_rcnn_segmenter(options);
  suppressing->module().initialize(7);
  suppressing->module().eval();
  const std::vector<Instance> few = suppressing->predict(image).instances;
  for (size_t a = 0; a < few.size(); ++a)
    for (size_t c = 0; c < a; ++c) CHECK((few[a].category != few[c].category || iou(few[a].box, few[c].box) <= 0.3 + 1e-6));
  CHECK(!few.empty());
  const Tensor small = cells(1).image;  // as large as a tile: in one piece
  const std::vector<Instance> alone = tiled->predict(small).instances, same = whole->predict(small).instances;
  REQUIRE(alone.size() == same.size());
  for (size_t i = 0; i < alone.size(); ++i) CHECK(alone[i].mask == same[i].mask);
  options.overlap = 64;
  CHECK_THROWS_AS(make_mask_rcnn_segmenter(options), InternalError);
}

TEST_CASE("prediction with flips: a mirrored image gives the mirrored cells") {
  MaskRcnnSegmenterOptions options = tiny();
  SUBCASE("ranked by class score") {}
  SUBCASE("ranked by class score times IoU") { options.network.roi_heads.mask_scoring = true; }
  Training training(options);
  training.steps(30);  // fresh masks are all about the threshold
  options.flip = true;
  const auto segmenter = make_mask_rcnn_segmenter(options);
  segmenter->module().load_state_dict(training.segmenter->module().state_dict(), "training");
  segmenter->module().eval();
  const NoGrad no_grad;
  const Tensor image = cells(0).image;
  const std::vector<Instance> plain = segmenter->predict(image).instances, mirrored = segmenter->predict(flip_x(image)).instances;
  REQUIRE(plain.size() == mirrored.size());
  REQUIRE(plain.size() > 3);
  int masked = 0;
  for (const Instance& p : plain) {  // scores that are equal but for rounding may come in another order
    CHECK(std::any_of(mirrored.begin(), mirrored.end(), [&](const Instance& m) {
      const Box back{96 - m.box[0] - m.box[2], m.box[1], m.box[2], m.box[3]};
      const Rle mask = encode_mask(flip_x(decode_mask(m.mask)));
      return m.category == p.category && std::abs(m.score - p.score) < 1e-5 && iou(back, p.box) > 0.999 &&
             (mask == p.mask || iou(mask, p.mask) > 0.95);
    }));
    masked += area(p.mask) > 0;
  }
  CHECK(masked > 3);
}

TEST_CASE("with mask scoring an instance's score is class score times IoU") {
  MaskRcnnSegmenterOptions options = tiny();
  const auto plain = make_mask_rcnn_segmenter(options);
  options.network.roi_heads.mask_scoring = true;
  const auto scoring = make_mask_rcnn_segmenter(options);
  const NoGrad no_grad;
  plain->module().initialize(7);
  scoring->module().initialize(7);
  StateDict state = scoring->module().state_dict();
  state.at("roi_heads.maskiou_head.maskiou.weight").fill(0);
  state.at("roi_heads.maskiou_head.maskiou.bias").fill(0.5);
  scoring->module().load_state_dict(state, "test");
  plain->module().eval();
  scoring->module().eval();
  const std::vector<Instance> want = plain->predict(cells(0).image).instances, got = scoring->predict(cells(0).image).instances;
  REQUIRE(want.size() == got.size());
  REQUIRE(!want.empty());
  for (size_t i = 0; i < want.size(); ++i) {
    CHECK(got[i].score == doctest::Approx(want[i].score / 2));
    CHECK(got[i].mask == want[i].mask);
  }
}

TEST_CASE("validation: a prediction, and the losses where asked for") {
  MaskRcnnSegmenterOptions options = tiny();
  options.selection.thresholds = {1};
  const auto plain = make_mask_rcnn_segmenter(options);
  options.validation_losses = true;
  options.loss_weights = {{"loss_mask", 0.5}};
  const auto asked = make_mask_rcnn_segmenter(options);
  const auto cascade = make_mask_rcnn_segmenter(with_all_heads(options));
  const NoGrad no_grad;
  for (Segmenter* segmenter : {plain.get(), asked.get(), cascade.get()}) {
    segmenter->module().initialize(7);
    segmenter->module().eval();
    Prediction prediction;
    const NamedValues values = segmenter->validate(cells(0), prediction);
    CHECK(prediction.instances.empty());
    std::vector<std::string> names, wanted = segmenter->metric_names();
    double sum = 0;
    for (const auto& [name, value] : values) {
      names.push_back(name);
      if (name != "loss") sum += (name == "loss_mask" ? 0.5 : 1.0) * value;
    }
    std::sort(names.begin(), names.end());
    std::sort(wanted.begin(), wanted.end());
    CHECK(names == wanted);
    if (segmenter != plain.get()) CHECK(values[0].second == doctest::Approx(sum));
  }
}

TEST_SUITE_END();
