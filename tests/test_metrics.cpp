// Metrics: hand-computed answers, the reports' JSON, and the faults of predictions.
#include <doctest/doctest.h>
#include <rapidjson/document.h>

#include <algorithm>

#include "data/polygon.h"
#include "data/rle.h"
#include "tensor/random.h"
#include "train/evaluation.h"

using namespace glia;

namespace {

Rle box_mask(double x, double y, double w, double h, int64_t height = 120, int64_t width = 220) {
  return rle_from_box({x, y, w, h}, height, width);
}

Instance instance(double x, double y, double w, double h, int category = 0, double score = 1) {
  Instance i;
  i.mask = box_mask(x, y, w, h);
  i.category = category;
  i.score = score;
  i.box = {x, y, w, h};
  return i;
}

Overlaps of_table(std::vector<int64_t> truth, std::vector<int64_t> predictions, std::vector<Overlaps::Pair> pairs) {
  return {std::move(truth), std::move(predictions), std::move(pairs)};
}

Sample sample(std::string id, std::vector<Instance> instances) {
  Sample s;
  s.id = std::move(id);
  s.height = 120;
  s.width = 220;
  s.instances = std::move(instances);
  return s;
}

Dataset dataset(std::vector<std::string> categories, std::vector<Sample> samples) {
  Dataset d;
  d.categories = std::move(categories);
  d.samples = std::move(samples);
  return d;
}

}  // namespace

TEST_SUITE_BEGIN("train");

TEST_CASE("Kaggle's score: known answers") {
  // IoU .82 and .62: three thresholds with both, four with one.
  const Overlaps two = of_table({100, 100}, {100, 100}, {{0, 0, 90}, {1, 1, 77}});  // 90/110, 77/123
  CHECK(kaggle_score(two).map_iou() == doctest::Approx((3 + 4. / 3) / 10));
  // Three objects, two predictions with IoU 90/110 and exactly .5 on two of them: .5 is not above .5.
  const Overlaps three = of_table({100, 100, 50}, {100, 50}, {{0, 0, 90}, {1, 1, 50}});
  CHECK(kaggle_score(three).map_iou() == doctest::Approx(7 * .25 / 10));
  // Exactly .75 counts up to .70 only.
  const Overlaps exact = of_table({100, 100}, {50, 75}, {{0, 0, 50}, {1, 1, 75}});
  CHECK(kaggle_score(exact).map_iou() == doctest::Approx(5 * (1. / 3) / 10));
  CHECK(kaggle_score(of_table({}, {}, {})).map_iou() == 1);
  CHECK(kaggle_score(of_table({9}, {}, {})).map_iou() == 0);
  CHECK(kaggle_score(of_table({}, {9}, {})).map_iou_compat() == 0);
  CHECK(match_counts(three, 50).f1() == doctest::Approx(2. / 5));
}

TEST_CASE("strict matching finds the largest one-to-one assignment") {
  // Prediction 0 fits truths 0 and 1, prediction 1 only truth 0: taking the first fit would lose one.
  const Overlaps o = of_table({100, 100}, {100, 100}, {{0, 0, 80}, {0, 1, 90}, {1, 0, 80}});
  CHECK(match_counts(o, 50).tp == 2);
  const Matching m = match(o, 50);
  CHECK(m.prediction_of == std::vector<int32_t>{1, 0});
  CHECK(m.truth_of == std::vector<int32_t>{1, 0});
  // The notebooks' count: prediction 0 hits two objects and counts nowhere.
  CHECK(kaggle_score(o).compat[0].tp == 1);
  CHECK(kaggle_score(o).compat[0].fp == 0);
  CHECK(kaggle_score(o).compat[0].fn == 0);
  // A long chain: each prediction takes the next one's object first, and the last one has no other, so all have to move.
  const int n = 3000;
  Overlaps chain;
  for (int32_t i = 0; i < n; ++i) {
    chain.truth_areas.push_back(100);
    chain.prediction_areas.push_back(100);
    if (i + 1 < n) chain.pairs.push_back({i + 1, i, 90});
    chain.pairs.push_back({i, i, 90});
  }
  CHECK(match_counts(chain, 50).tp == n);
  const Matching moved = match(chain, 50);
  for (int32_t i = 0; i < n; ++i) CHECK(moved.truth_of[size_t(i)] == i);
  // Against all assignments of random small tables.
  Random random(7);
  for (int trial = 0; trial < 50; ++trial) {
    Overlaps table = of_table(std::vector<int64_t>(5, 100), std::vector<int64_t>(5, 100), {});
    bool hit[5][5];
    for (int32_t t = 0; t < 5; ++t)
      for (int32_t p = 0; p < 5; ++p)
        if ((hit[t][p] = random.uniform() < 0.3)) table.pairs.push_back({t, p, 90});
    std::array<int, 5> order{0, 1, 2, 3, 4};
    int64_t best = 0;
    do {
      int64_t hits = 0;
      for (size_t t = 0; t < 5; ++t) hits += hit[t][order[t]];
      best = std::max(best, hits);
    } while (std::next_permutation(order.begin(), order.end()));
    REQUIRE(match_counts(table, 50).tp == best);
  }
}

TEST_CASE("label maps and run lengths give the same overlaps") {
  Random random(3);
  Tensor a({40, 50}, DType::int32), b({40, 50}, DType::int32);
  for (int64_t i = 0; i < a.size(); ++i) {
    a.data<int32_t>()[i] = int32_t((i / 7 + random.below(2)) % 9) * 3;
    b.data<int32_t>()[i] = int32_t((i / 9 + random.below(2)) % 7);
  }
  const Overlaps x = overlaps(a, b), y = overlaps(masks_of_labels(a), masks_of_labels(b));
  CHECK(x.truth_areas == y.truth_areas);
  CHECK(x.prediction_areas == y.prediction_areas);
  REQUIRE(x.pairs.size() == y.pairs.size());
  for (size_t i = 0; i < x.pairs.size(); ++i) {
    REQUIRE(x.pairs[i].truth == y.pairs[i].truth);
    REQUIRE(x.pairs[i].prediction == y.pairs[i].prediction);
    REQUIRE(x.pairs[i].intersection == y.pairs[i].intersection);
  }
}

TEST_CASE("semantic scores") {
  const Tensor p = Tensor::from<float>({4}, {0.9f, 0.6f, 0.2f, 0.f});
  const Tensor y = Tensor::from<uint8_t>({4}, {1, 0, 1, 0});
  CHECK(hard_dice(p, y) == doctest::Approx(0.5));
  CHECK(hard_dice(p, y, 0.7) == doctest::Approx(2. / 3));
  CHECK(soft_dice(p, y) == doctest::Approx((2 * 1.1 + 1) / (1.7 + 2 + 1)));
  CHECK(binary_cross_entropy(p, y) == doctest::Approx(-(std::log(.9) + std::log(.4) + std::log(.2) + std::log1p(-1e-7)) / 4));
  const Tensor none = Tensor::zeros({4}, DType::uint8);
  CHECK(hard_dice(Tensor::zeros({4}), none) == 1);
  CHECK(mask_dice(y, none) == 0);
  CHECK_THROWS_AS(hard_dice(p, Tensor::zeros({3}, DType::uint8)), Error);
}

TEST_CASE("COCO: one object missed between two found, and a crowd") {
  // Detections by score: right, wrong, right; two objects: AP = (51 + 50 * 2 / 3) / 101 at every threshold.
  CocoImage image;
  const auto box = [](double x) { return Box{x, 10, 20, 20}; };
  image.truth = {{{}, box(10), 0, false, 400}, {{}, box(60), 0, false, 400}};
  image.detections = {{{}, box(10), 0, .9, 400}, {{}, box(110), 0, .8, 400}, {{}, box(60), 0, .7, 400}};
  const CocoSummary s = CocoEvaluator({&image, 1}, 1, IouKind::bbox).summary();
  CHECK(s.ap == doctest::Approx((51 + 50 * 2. / 3) / 101));
  CHECK(s.aps == doctest::Approx(s.ap));
  CHECK(s.apm == -1);
  CHECK(s.ar1 == doctest::Approx(.5));
  CHECK(s.ar10 == doctest::Approx(1));
  image.truth.push_back({{}, {100, 0, 60, 60}, 0, true, 3600});  // the wrong one lies on a crowd now
  const CocoSummary with_crowd = CocoEvaluator({&image, 1}, 1, IouKind::bbox).summary();
  CHECK(with_crowd.ap == doctest::Approx(1));
  CHECK(with_crowd.ar1 == doctest::Approx(.5));
  CHECK_THROWS_AS(CocoEvaluator({&image, 1}, 0, IouKind::bbox), Error);
}

TEST_CASE("evaluate: classes, images without predictions, the report") {
  Dataset truth = dataset({"astro", "cort"}, {}), predicted = dataset({"cort", "astro"}, {});
  truth.samples = {sample("a", {instance(10, 10, 40, 40, 0), instance(100, 20, 40, 40, 0)}),
                   sample("b", {instance(10, 10, 40, 40, 1)}), sample("c", {})};
  predicted.samples = {sample("a", {instance(10, 10, 40, 40, 1, .9), instance(160, 60, 40, 40, 1, .4)}),
                       sample("b", {instance(10, 10, 40, 40, 0, .8)})};
  const Evaluation e = evaluate(truth, predicted);
  CHECK(e.n_images == 3);
  CHECK(e.n_truth == 3);
  CHECK(e.n_pred == 3);
  CHECK(e.map_iou == doctest::Approx((1. / 3 + 1 + 1) / 3));
  CHECK(e.f1_at_50 == doctest::Approx(2. * 2 / (2 * 2 + 1 + 1)));
  CHECK(e.dice == doctest::Approx((.5 + 1 + 1) / 3));
  CHECK(e.segm.ap == doctest::Approx((51. / 101 + 1) / 2));
  REQUIRE(e.per_class.size() == 2);
  CHECK(e.per_class[0].first == "astro");
  CHECK(e.per_class[0].second.n_images == 1);
  CHECK(e.per_class[0].second.segm.ap == doctest::Approx(51. / 101));
  CHECK(e.per_class[1].second.map_iou == 1);
  REQUIRE(e.per_image.size() == 3);
  CHECK(e.per_image[0].second.map_iou == doctest::Approx(1. / 3));
  CHECK(e.per_image[2].second.segm.ap == -1);
  REQUIRE(e.warnings.size() == 1);
  CHECK(e.warnings[0] == "1 of 3 images have no prediction; they count with zero detections");

  rapidjson::Document json;
  json.Parse(e.to_json().c_str());
  REQUIRE_FALSE(json.HasParseError());
  CHECK(json["map_iou"].GetDouble() == doctest::Approx(e.map_iou));
  CHECK(json["precision_at"].Size() == 10);
  CHECK(json["segm"]["ap50"].GetDouble() == doctest::Approx(e.segm.ap50));
  CHECK(json["bbox"]["apl"].GetDouble() == -1);
  CHECK(json["per_class"]["cort"]["n_truth"].GetInt() == 1);
  CHECK(json["per_image"]["b"]["dice"].GetDouble() == 1);
  CHECK(e.table().find("map_iou                   0.7778") != std::string::npos);

  // A true area from the file decides the size class.
  truth.samples[1].instances[0].area = 100;
  CHECK(e.segm.aps == -1);
  CHECK(evaluate(truth, predicted).segm.aps == doctest::Approx(1));

  // Predictions without classes: one COCO category, images grouped by what they mostly hold.
  Dataset unclassified = predicted;
  unclassified.categories = {"cell"};
  for (Sample& s : unclassified.samples)
    for (Instance& i : s.instances) i.category = 0;
  const Evaluation u = evaluate(truth, unclassified);
  CHECK(u.map_iou == doctest::Approx(e.map_iou));
  CHECK(u.per_class[0].second.map_iou == doctest::Approx(1. / 3));
  CHECK(u.per_class[1].second.n_images == 1);
}

TEST_CASE("evaluate: predictions that don't belong to the truth") {
  const Dataset truth = dataset({"cell"}, {sample("a", {instance(10, 10, 40, 40)})});
  CHECK_THROWS_WITH_AS(evaluate(truth, dataset({"cell"}, {sample("x", {})})),
                       "evaluate: a prediction for image 'x', which is not among the 1 images of the truth (another data set?)",
                       DataError);
  CHECK_THROWS_WITH_AS(evaluate(dataset({"cell", "cat"}, {sample("a", {})}), dataset({"cell", "dog"}, {sample("a", {})})),
                       "evaluate: the predictions have a category 'dog', the truth has cell, cat (another data set?)", DataError);
  const Evaluation unclassified = evaluate(truth, dataset({"dog", "cell"}, {sample("a", {instance(10, 10, 40, 40, 0)})}));
  CHECK(unclassified.segm.ap == doctest::Approx(1));
  REQUIRE(unclassified.warnings.size() == 1);
  CHECK(unclassified.warnings[0] == "the predictions have a category 'dog', the truth only 'cell': all count as unclassified");
  Instance small = instance(1, 1, 5, 5);
  small.mask = box_mask(1, 1, 5, 5, 60, 110);
  CHECK_THROWS_WITH_AS(
      evaluate(truth, dataset({"cell"}, {sample("a", {small})})),
      "evaluate: image 'a' has 120 x 220 pixels (height x width), a predicted mask 60 x 110 (resized predictions?)", DataError);
  CHECK_THROWS_AS(evaluate(truth, truth, {.protocol = {.max_detections = {10, 1, 100}}}), UsageError);
  CHECK(evaluate(truth, truth).segm.ap == doctest::Approx(1));
}

TEST_CASE("partners of instances skip crowds") {
  std::vector<Instance> truth{instance(0, 0, 30, 30), instance(50, 0, 30, 30)}, predicted{instance(50, 0, 30, 30)};
  truth[0].crowd = true;
  const Matching m = match_instances(truth, predicted);
  CHECK(m.prediction_of == std::vector<int32_t>{-1, 0});
  CHECK(m.truth_of == std::vector<int32_t>{1});
}

TEST_SUITE_END();
