// Mask R-CNN's predictions: at the image's own size, in tiles, with flips, with scores of masks.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "autograd/tape.h"
#include "data/image_ops.h"
#include "kernels/op.h"
#include "tensor/error.h"
#include "tests/mask_rcnn_training.h"

using namespace glia;
using namespace glia::tests;

TEST_SUITE_BEGIN("maskrcnn");

TEST_CASE("prediction: at the image's size, without shared pixels, the same alone and among others") {
  MaskRcnnSegmenterOptions options = tiny_mask_rcnn();
  options.min_size_test = 80;
  options.selection.remove_overlaps = true;
  const auto segmenter = make_mask_rcnn_segmenter(options);
  segmenter->module().initialize(7);
  segmenter->module().eval();
  const NoGrad no_grad;
  const PrecisionScope direct(
      Precision::exact);  // whether Winograd's algorithm pays, and so the rounding, depends on the number of images
  const std::vector<Tensor> images{disc_cells(0, 50, 70).image, disc_cells(1, 50, 70).image, disc_cells(2, 44, 60).image};
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
  MaskRcnnSegmenterOptions options = tiny_mask_rcnn();
  const auto plain = make_mask_rcnn_segmenter(options);
  options.min_size_test = 100;
  const auto resizes = make_mask_rcnn_segmenter(options);
  const NoGrad no_grad;
  for (Segmenter* segmenter : {plain.get(), resizes.get()}) {
    segmenter->module().initialize(7);
    segmenter->module().eval();
  }
  const Tensor image = disc_cells(0, 64, 99).image;  // to 100 x 155: factors 1.5625 and 1.5657
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
  MaskRcnnSegmenterOptions options = tiny_mask_rcnn();
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
  const Tensor cell = disc_cells(0).image;
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
  const Tensor small = disc_cells(1).image;  // as large as a tile: in one piece
  const std::vector<Instance> alone = tiled->predict(small).instances, same = whole->predict(small).instances;
  REQUIRE(alone.size() == same.size());
  for (size_t i = 0; i < alone.size(); ++i) CHECK(alone[i].mask == same[i].mask);
  options.overlap = 64;
  CHECK_THROWS_AS(make_mask_rcnn_segmenter(options), InternalError);
}

TEST_CASE("prediction with flips: a mirrored image gives the mirrored cells") {
  MaskRcnnSegmenterOptions options = tiny_mask_rcnn();
  SUBCASE("ranked by class score") {}
  SUBCASE("ranked by class score times IoU") { options.network.roi_heads.mask_scoring = true; }
  MaskRcnnTraining training(options);
  training.steps(30);  // fresh masks are all about the threshold
  options.flip = true;
  const auto segmenter = make_mask_rcnn_segmenter(options);
  segmenter->module().load_state_dict(training.segmenter->module().state_dict(), "training");
  segmenter->module().eval();
  const NoGrad no_grad;
  const Tensor image = disc_cells(0).image;
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
  MaskRcnnSegmenterOptions options = tiny_mask_rcnn();
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
  const std::vector<Instance> want = plain->predict(disc_cells(0).image).instances,
                              got = scoring->predict(disc_cells(0).image).instances;
  REQUIRE(want.size() == got.size());
  REQUIRE(!want.empty());
  for (size_t i = 0; i < want.size(); ++i) {
    CHECK(got[i].score == doctest::Approx(want[i].score / 2));
    CHECK(got[i].mask == want[i].mask);
  }
}

TEST_SUITE_END();
