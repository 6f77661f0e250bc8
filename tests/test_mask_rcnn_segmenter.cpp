// Mask R-CNN as a system: batches, training that repeats to the bit, validation.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "autograd/tape.h"
#include "tensor/error.h"
#include "tensor/parallel.h"
#include "tests/mask_rcnn_training.h"
#include "tests/same_bits.h"

using namespace glia;
using namespace glia::tests;
namespace b = mask_rcnn_batch;

namespace {

// Cascade R-CNN and Mask Scoring R-CNN at once.
MaskRcnnSegmenterOptions with_all_heads(MaskRcnnSegmenterOptions o) {
  o.network.roi_heads.cascade_ious = {0.5, 0.6, 0.7};
  o.network.roi_heads.cls_agnostic_bbox_reg = true;
  o.network.roi_heads.mask_scoring = true;
  return o;
}

}  // namespace

TEST_SUITE_BEGIN("maskrcnn");

TEST_CASE("a batch: images normalised, in the network's order, padded; instances one after another") {
  MaskRcnnSegmenterOptions options = tiny_mask_rcnn();
  options.pixel_mean = {1, 2, 3};
  options.pixel_std = {2, 4, 8};
  const auto segmenter = make_mask_rcnn_segmenter(options);
  Example colour = disc_cells(0, 40, 50), gray = disc_cells(1, 64, 32), empty = disc_cells(2, 33, 20);
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
  MaskRcnnSegmenterOptions options = tiny_mask_rcnn();
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
  const auto segmenter = make_mask_rcnn_segmenter(tiny_mask_rcnn());
  Example e = disc_cells(0);
  e.instances[0].category = 2;
  CHECK_THROWS_AS(segmenter->collate({&e, 1}), DataError);
}

TEST_CASE("the losses fall over 20 steps, each by its name") {
  MaskRcnnTraining training;
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

TEST_CASE("the same bits with 1, 2 and 8 threads, and after a break") {
  MaskRcnnSegmenterOptions options = tiny_mask_rcnn();
  SUBCASE("one box head") {}
  SUBCASE("a cascade with mask scoring") { options = with_all_heads(options); }
  SUBCASE("a mask loss weighted by shape") { options.pixel_weights = {.border = 10, .contour = 1, .curvature = 2}; }
  const int before = num_threads();
  set_num_threads(1);
  MaskRcnnTraining whole(options);
  whole.steps(4);
  for (const int threads : {2, 8}) {
    INFO(threads, " threads");
    set_num_threads(threads);
    MaskRcnnTraining other(options);
    other.steps(2);
    Checkpoint saved;
    other.trainer.save(saved);
    other.steps(2);
    MaskRcnnTraining resumed(options);
    resumed.trainer.load(saved, "saved");
    resumed.steps(2);
    CHECK(same_bits(whole.segmenter->module().state_dict(), other.segmenter->module().state_dict()));
    CHECK(same_bits(other.segmenter->module().state_dict(), resumed.segmenter->module().state_dict()));
  }
  set_num_threads(before);
}

TEST_CASE("images without an instance are background: the step is finite") {
  const auto segmenter = MaskRcnnTraining::initialized();
  Example one = segmenter->fit(disc_cells(0)), two = segmenter->fit(disc_cells(1));
  one.instances.clear();
  for (const bool both : {false, true}) {
    if (both) two.instances.clear();
    const std::vector<Example> examples{one, two};
    const NamedLosses losses = segmenter->losses(segmenter->collate(examples));
    for (const auto& [name, loss] : losses) CHECK_MESSAGE(std::isfinite(loss.item()), name);
    backward(weighted_sum(losses, {}));
  }
}

TEST_CASE("validation: a prediction, and the losses where asked for") {
  MaskRcnnSegmenterOptions options = tiny_mask_rcnn();
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
    const NamedValues values = segmenter->validate(disc_cells(0), prediction);
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
