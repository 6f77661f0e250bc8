// Weights of pixels by shape: terms by hand and by brute force, and what they do to the losses of UNets and mask heads.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "autograd/operators.h"
#include "data/mask_patches.h"
#include "data/rle.h"
#include "kernels/loss.h"
#include "models/mask_rcnn_segmenter.h"
#include "models/pixel_weights.h"
#include "models/roi_heads.h"
#include "models/unet_segmenter.h"
#include "models/unet_targets.h"
#include "tensor/error.h"
#include "tensor/parallel.h"
#include "tensor/random.h"
#include "tests/same_bits.h"
#include "train/trainer.h"

using namespace glia;
using tests::same_bits;

namespace {

Tensor empty_map(int64_t height, int64_t width) { return Tensor::zeros({height, width}, DType::int32); }

void fill(Tensor& labels, int64_t y0, int64_t x0, int64_t y1, int64_t x1, int32_t label) {
  for (int64_t y = y0; y < y1; ++y)
    for (int64_t x = x0; x < x1; ++x) labels.data<int32_t>()[y * labels.dim(1) + x] = label;
}

void fill_disc(Tensor& labels, double cy, double cx, double radius, int32_t label) {
  for (int64_t y = 0; y < labels.dim(0); ++y)
    for (int64_t x = 0; x < labels.dim(1); ++x)
      if (std::hypot(double(y) - cy, double(x) - cx) <= radius) labels.data<int32_t>()[y * labels.dim(1) + x] = label;
}

float at(const Tensor& map, int64_t y, int64_t x) { return map.data<float>()[y * map.dim(1) + x]; }

bool is_contour(const Tensor& labels, int64_t y, int64_t x) {
  const auto label = [&](int64_t i, int64_t j) { return labels.data<int32_t>()[i * labels.dim(1) + j]; };
  const int32_t own = label(y, x);
  return own != 0 && ((y > 0 && label(y - 1, x) != own) || (y + 1 < labels.dim(0) && label(y + 1, x) != own) ||
                      (x > 0 && label(y, x - 1) != own) || (x + 1 < labels.dim(1) && label(y, x + 1) != own));
}

}  // namespace

TEST_SUITE_BEGIN("pixelweights");

TEST_CASE("the border term between two cells at known distances") {
  for (const auto& [gap, d1, want] :
       {std::tuple{1, 1, 0.92312}, {4, 2, 0.60653}, {9, 5, 0.13534}}) {  // of pixels (1, 1), (2, 3), (5, 5) away
    Tensor labels = empty_map(9, 30);
    fill(labels, 0, 2, 9, 8, 1);
    fill(labels, 0, 8 + gap, 9, 16 + gap, 2);
    const Tensor term = border_term(labels, 5);
    CHECK(at(term, 4, 7 + d1) == doctest::Approx(want).epsilon(1e-4));
    CHECK(at(term, 4, 7 + gap + 1 - d1) == doctest::Approx(want).epsilon(1e-4));
    CHECK(at(term, 4, 5) == 0);  // inside a cell
    CHECK(pixel_weights(labels, {.border = 10}).data<float>()[4 * 30 + 7 + d1] == doctest::Approx(1 + 10 * want).epsilon(1e-4));
  }
  Tensor one = empty_map(9, 30);
  fill(one, 2, 2, 5, 8, 1);
  const Tensor none = border_term(one, 5);
  for (const float v : none.values<float>()) CHECK(v == 0);
}

TEST_CASE("the contour term is a function of the distance to the nearest contour pixel") {
  Tensor labels = empty_map(40, 50);
  fill_disc(labels, 14, 15, 9, 1);
  fill_disc(labels, 20, 30, 8, 5);          // touches the first
  labels.data<int32_t>()[35 * 50 + 3] = 2;  // one pixel
  fill(labels, 30, 40, 40, 50, 3);          // at the image's corner
  const Tensor term = contour_term(labels, 3);
  for (int64_t y = 0; y < 40; ++y) {
    for (int64_t x = 0; x < 50; ++x) {
      int64_t nearest = 1 << 20;
      for (int64_t i = 0; i < 40; ++i)
        for (int64_t j = 0; j < 50; ++j)
          if (is_contour(labels, i, j)) nearest = std::min(nearest, (i - y) * (i - y) + (j - x) * (j - x));
      REQUIRE(at(term, y, x) == doctest::Approx(std::exp(-double(nearest) / 18)));
    }
  }
}

TEST_CASE("the curvature term: 0 along straight edges, larger the tighter the bend, the largest near tips") {
  Tensor straight = empty_map(40, 60);
  fill(straight, 0, 0, 40, 25, 1);
  const Tensor flat = curvature_term(straight, 2, 5);
  for (const float v : flat.values<float>()) CHECK(v < 1e-6F);

  // Smallest and largest along a circle: about 1 / radius, without the jumps of its pixels.
  const auto of_disc = [](double radius) {
    Tensor labels = empty_map(80, 80);
    fill_disc(labels, 40, 40, radius, 1);
    const Tensor own = curvature_term(labels, 1e-3, 5);
    double low = 1, high = 0;
    for (int64_t i = 0; i < own.size(); ++i) {
      if (!is_contour(labels, i / 80, i % 80)) continue;
      low = std::min(low, double(own.data<float>()[i]));
      high = std::max(high, double(own.data<float>()[i]));
    }
    return std::pair{low, high};
  };
  CHECK(of_disc(4).first > 0.28);
  CHECK(of_disc(4).second < 0.32);
  CHECK(of_disc(8).first > 0.11);
  CHECK(of_disc(8).second < 0.16);
  CHECK(of_disc(24).first > 0);
  CHECK(of_disc(24).second < 0.1);

  Tensor square = empty_map(60, 60);  // corners against the middle of sides
  fill(square, 15, 15, 45, 45, 1);
  const Tensor term = curvature_term(square, 2, 5);
  CHECK(at(term, 15, 15) == doctest::Approx(0.1621).epsilon(0.01));
  CHECK(at(term, 15, 30) < 1e-3);
  Tensor notch = empty_map(60, 60);  // the inside of a corner bends the other way
  fill(notch, 10, 10, 50, 50, 1);
  fill(notch, 10, 30, 30, 50, 0);
  CHECK(at(curvature_term(notch, 2, 5), 29, 29) == doctest::Approx(0.2057).epsilon(0.01));
}

TEST_CASE("the curvature term spreads as the largest of all contour pixels, each by its distance") {
  Tensor labels = empty_map(24, 26);
  fill(labels, 8, 9, 13, 18, 1);
  const double sigma = 2;
  const Tensor alone = curvature_term(labels, 1e-3, 3);  // does not spread: each contour pixel's own
  const Tensor term = curvature_term(labels, sigma, 3);
  for (int64_t y = 0; y < 24; ++y) {
    for (int64_t x = 0; x < 26; ++x) {
      double want = 0;
      for (int64_t i = 0; i < 24; ++i)
        for (int64_t j = 0; j < 26; ++j)
          want = std::max(
              want, double(at(alone, i, j)) * std::exp(-double((i - y) * (i - y) + (j - x) * (j - x)) / (2 * sigma * sigma)));
      REQUIRE(at(term, y, x) == doctest::Approx(want).epsilon(2e-3));
    }
  }
}

TEST_CASE("odd label maps: no cell, one, one cut in two, one of a pixel, all cell; weights stay finite and above 0") {
  std::vector<Tensor> maps;
  for (int i = 0; i < 5; ++i) maps.push_back(empty_map(17, 13));
  fill(maps[1], 0, 0, 9, 6, 4);
  fill(maps[2], 0, 0, 4, 13, 1);
  fill(maps[2], 10, 0, 17, 13, 1);
  maps[3].data<int32_t>()[40] = 9;
  fill(maps[4], 0, 0, 17, 13, 1);
  for (const Tensor& labels : maps) {
    for (const bool normalize : {false, true}) {
      const Tensor w =
          pixel_weights(labels, {.border = 10, .contour = 2, .curvature = 3, .balance = true, .normalize = normalize});
      double sum = 0;
      for (const float v : w.values<float>()) {
        REQUIRE(std::isfinite(v));
        REQUIRE(v > 0);
        sum += double(v);
      }
      if (normalize) CHECK(sum / double(w.size()) == doctest::Approx(1));
    }
  }
  CHECK(!PixelWeights{}.any());
  const Tensor balanced = pixel_weights(maps[1], {.balance = true});  // 54 of 221 pixels are cell
  CHECK(at(balanced, 0, 0) == 1);
  CHECK(at(balanced, 16, 12) == doctest::Approx(54.0 / (221 - 54)));
}

TEST_CASE("instances keep apart in the mask of the binary target, which stays what it was") {
  Tensor mask = Tensor::from<int32_t>({1, 9}, {0, 1, 1, 1, 1, 1, 0, 0, 1});
  const Tensor labels = Tensor::from<int32_t>({1, 9}, {0, 0, 7, 7, 2, 0, 0, 0, 0});
  name_instances(mask, labels);
  const std::vector<int32_t> got(mask.data<int32_t>(), mask.data<int32_t>() + 9);
  CHECK(got == std::vector<int32_t>{0, 7, 7, 7, 2, 2, 0, 0, 8});
}

namespace {

// Noisy images with two touching cells each.
Example two_cells(int64_t index) {
  Example e{
      .image = Tensor({32, 32, 1}, DType::uint8), .labels = empty_map(32, 32), .categories = {0, 0}, .index = index, .id = "two"};
  fill(e.labels, 4 + index, 3, 20 + index, 14, 1);
  fill(e.labels, 6, 15, 26, 27, 2);
  const Philox random(3, static_cast<uint64_t>(index));
  for (int64_t i = 0; i < e.labels.size(); ++i)
    e.image.data<uint8_t>()[i] =
        static_cast<uint8_t>(random.uniform(uint64_t(i), 0, 100) + (e.labels.data<int32_t>()[i] ? 120 : 0));
  return e;
}

UnetSegmenterOptions tiny(const char* name, UnetTarget target) {
  UnetSegmenterOptions o;
  o.network = {.name = name, .base_channels = 4, .depth = 2};
  o.target = target;
  o.image_size = {32, 32};
  o.losses = {target == UnetTarget::binary ? "bce" : "cross_entropy"};
  return o;
}

struct Training {
  std::unique_ptr<Segmenter> segmenter;
  Loader loader;
  Trainer trainer;

  explicit Training(const UnetSegmenterOptions& options)
      : segmenter(make(options)),
        loader(
            4, [this](int64_t i) { return segmenter->fit(two_cells(i)); }, loader_options()),
        trainer(
            segmenter->module(), [this](const Batch& b) { return segmenter->losses(b.tensors); }, loader, adam()) {}

  static std::unique_ptr<Segmenter> make(const UnetSegmenterOptions& options) {
    auto made = make_unet_segmenter(options);
    made->module().initialize(5);
    return made;
  }
  LoaderOptions loader_options() {
    LoaderOptions o;
    o.batch_size = 2;
    o.workers = 0;
    o.augment.hflip = true;
    o.prepare = [this](std::span<const Example> examples) { return segmenter->collate(examples); };
    return o;
  }
  static TrainerOptions adam() {
    TrainerOptions o;
    o.optimizer = {.kind = OptimizerKind::adam};
    o.schedule.lr = 1e-3;
    o.seed = 3;
    return o;
  }
  void steps(int count) {
    for (int i = 0; i < count; ++i) CHECK(std::isfinite(trainer.step().loss));
  }
};

}  // namespace

TEST_CASE("UNet++ and weighted losses: the same bits with one thread and two, and after a break") {
  UnetSegmenterOptions options;
  SUBCASE("UNet++, bilinear, binary") {
    options = tiny("unet_plus_plus", UnetTarget::binary);
    options.network.bilinear = true;
  }
  SUBCASE("UNet++, transposed with dropout, border") { options = tiny("unet_plus_plus", UnetTarget::border); }
  SUBCASE("binary with weights") {
    options = tiny("unet_keras", UnetTarget::binary);
    options.pixel_weights = {.border = 10, .contour = 1, .curvature = 2};
  }
  SUBCASE("border with weights") {
    options = tiny("unet_milesial", UnetTarget::border);
    options.class_weights = {1, 1, 2};
    options.pixel_weights = {.border = 10, .balance = true, .normalize = true};
  }
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

TEST_CASE("UNet++: losses and probabilities are the means over the heads") {
  const NoGrad no_grad;
  for (const UnetTarget target : {UnetTarget::binary, UnetTarget::border}) {
    UnetSegmenterOptions options = tiny("unet_plus_plus", target);
    const auto all = Training::make(options);
    all->module().eval();
    const Example example = all->fit(two_cells(0));
    double loss = 0;
    Tensor foreground;
    for (const int64_t column : {1, 2}) {  // each head by itself
      options.network.prune = column;
      const auto one = Training::make(options);
      one->module().load_state_dict(all->module().state_dict(), "all");
      one->module().eval();
      loss += one->losses(one->collate({&example, 1}))[0].second.item() / 2;
      const Tensor p = 0.5 * one->predict(two_cells(0).image).foreground;
      foreground = foreground ? foreground + p : p;
    }
    CHECK(all->losses(all->collate({&example, 1}))[0].second.item() == doctest::Approx(loss).epsilon(1e-5));
    const Tensor got = all->predict(two_cells(0).image).foreground;
    REQUIRE(same_shape(got, foreground));
    for (int64_t i = 0; i < got.size(); ++i) REQUIRE(std::abs(got.data<float>()[i] - foreground.data<float>()[i]) < 1e-5);
  }
}

TEST_CASE("weights reach the losses of UNets, of training and validation alike") {
  for (const UnetTarget target : {UnetTarget::binary, UnetTarget::border}) {
    UnetSegmenterOptions options = tiny("unet_keras", target);
    const auto plain = Training::make(options);
    options.pixel_weights = {.border = 10, .contour = 1};
    const auto weighted = Training::make(options);
    plain->module().eval();  // no dropout
    weighted->module().eval();
    const NoGrad no_grad;
    const Example p = plain->fit(two_cells(0)), w = weighted->fit(two_cells(0));
    const std::vector<Tensor> batch = weighted->collate({&w, 1}), unweighted = plain->collate({&p, 1});
    REQUIRE(batch.size() == 3);
    CHECK(unweighted.size() == 2);
    for (size_t i = 0; i < 2; ++i)
      CHECK(std::memcmp(batch[i].raw(), unweighted[i].raw(), batch[i].bytes()) == 0);  // same targets
    const Tensor map = pixel_weights(two_cells(0).labels, options.pixel_weights);
    CHECK(std::memcmp(batch[2].raw(), map.raw(), map.bytes()) == 0);
    const double loss = weighted->losses(batch)[0].second.item(), without = plain->losses(unweighted)[0].second.item();
    CHECK(loss > 1.2 * without);
    Prediction prediction;
    CHECK(weighted->validate(two_cells(0), prediction)[0].second == doctest::Approx(loss).epsilon(1e-4));
    CHECK(plain->validate(two_cells(0), prediction)[0].second == doctest::Approx(without).epsilon(1e-4));
  }
  UnetSegmenterOptions dice = tiny("unet_keras", UnetTarget::binary);
  dice.losses = {"dice"};
  dice.pixel_weights = {.border = 10};
  CHECK_THROWS_WITH_AS(make_unet_segmenter(dice), doctest::Contains("loss.weights"), UsageError);
}

TEST_CASE("weights reach the mask loss through the crop of each region") {
  RoiHeadsOptions options;
  options.num_classes = 1;
  options.box_fc_dim = 8;
  options.mask_conv_dim = 4;
  options.mask_num_conv = 1;
  Pyramid features;
  for (size_t l = 0; l < 5; ++l) features[l] = Tensor::full({1, 64 / pyramid_strides[l], 64 / pyramid_strides[l], 4}, 0.5);
  const std::vector<std::array<int64_t, 2>> sizes{{64, 64}};
  const Tensor mask = Tensor::zeros({64, 64}, DType::uint8);
  for (int64_t y = 10; y < 40; ++y) std::fill_n(mask.data<uint8_t>() + y * 64 + 12, 20, uint8_t{1});
  const std::vector<Rle> masks{encode_mask(mask)};
  GroundTruth truth{{0, 1}, Tensor::from<float>({1, 4}, {12, 10, 32, 40}), Tensor::zeros({1}, DType::int64), to_patches(masks)};
  LabelledRois rois;
  rois.boxes = Tensor::from<float>({1, 4}, {12, 10, 40, 38});  // 28 x 28: a pixel of the mask is one of the image
  rois.image = {0};
  rois.classes = {0};
  rois.instance = {0};
  const auto mask_loss = [&](const Tensor& weights, bool normalize) {
    options.mask_weights_normalize = normalize;
    RoiHeads heads(options, 4);
    heads.initialize(3);
    truth.pixel_weights = weights;
    return heads.losses(features, rois, truth, sizes).back().second.item();
  };
  const double plain = mask_loss({}, false);
  CHECK(mask_loss(Tensor::full({1, 64, 64, 1}, 3), false) == doctest::Approx(3 * plain));
  CHECK(mask_loss(Tensor::full({1, 64, 64, 1}, 3), true) == doctest::Approx(plain));
  // Weight outside of the region alone does nothing; on one half of its columns it counts for that half.
  const Tensor left = Tensor::zeros({1, 64, 64, 1}), right = Tensor::zeros({1, 64, 64, 1}),
               around = Tensor::full({1, 64, 64, 1}, 1);
  for (int64_t y = 10; y < 38; ++y) {
    for (int64_t x = 12; x < 40; ++x) {
      around.data<float>()[y * 64 + x] = 0;
      (x < 26 ? left : right).data<float>()[y * 64 + x] = 1;
    }
  }
  CHECK(mask_loss(around, false) == doctest::Approx(0));
  CHECK(mask_loss(left, false) + mask_loss(right, false) == doctest::Approx(plain));
  CHECK(mask_loss(left, false) > 0);
}

TEST_CASE("a batch of Mask R-CNN carries the weights of its images, padded") {
  MaskRcnnSegmenterOptions options;
  options.network.resnet = {.stem_channels = 4, .res2_channels = 8, .width_per_group = 4};
  options.network.fpn_channels = 8;
  options.network.roi_heads.num_classes = 1;
  options.network.roi_heads.box_fc_dim = 8;
  options.network.roi_heads.mask_conv_dim = 4;
  options.pixel_weights = {.contour = 2, .normalize = true};  // the heads normalise
  const auto segmenter = make_mask_rcnn_segmenter(options);
  Example e;
  e.image = Tensor::zeros({40, 50, 1}, DType::uint8);
  Tensor labels = empty_map(40, 50);
  fill_disc(labels, 20, 22, 9, 1);
  for (Rle& rle : masks_of_labels(labels)) {
    Instance instance{.mask = rle};
    instance.box = bounding_box(rle);
    e.instances.push_back(instance);
  }
  const Example fitted = segmenter->fit(e);
  const std::vector<Tensor> batch = segmenter->collate({&fitted, 1});
  REQUIRE(batch.size() == 8);
  const Tensor& map = batch[mask_rcnn_batch::pixel_weights];
  CHECK(map.shape() == Shape{1, 64, 64, 1});
  const Tensor want = pixel_weights(labels, {.contour = 2});
  for (int64_t y = 0; y < 40; ++y)
    for (int64_t x = 0; x < 50; ++x) REQUIRE(map.data<float>()[y * 64 + x] == at(want, y, x));
  CHECK(map.data<float>()[63 * 64 + 63] == 1);
  for (const auto& [name, loss] : segmenter->losses(batch)) CHECK_MESSAGE(std::isfinite(loss.item()), name);
}

TEST_SUITE_END();
