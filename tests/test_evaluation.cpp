// Evaluation and tuning: the search of thresholds against trying by hand, hostile and crowded inputs, charts.
#include <doctest/doctest.h>
#include <rapidjson/document.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>

#include "data/polygon.h"
#include "data/rle.h"
#include "data/selection.h"
#include "tensor/random.h"
#include "train/config.h"
#include "train/evaluation.h"
#include "train/evaluation_plots.h"
#include "train/overlap_layers.h"
#include "train/threshold_search.h"

using namespace glia;

namespace {

Instance instance(const Box& box, int64_t size, int category = 0, double score = 1) {
  Instance i;
  i.mask = rle_from_box(box, size, size);
  i.box = box;
  i.category = category;
  i.score = score;
  return i;
}

Sample sample(std::string id, int64_t size, std::vector<Instance> instances) {
  Sample s;
  s.id = std::move(id);
  s.height = s.width = size;
  s.instances = std::move(instances);
  return s;
}

// Images of `size` pixels with true cells, and detections that lie near them or nowhere; good ones tend to high scores.
struct Pair {
  Dataset truth, predictions;
};
Pair random_pair(Random& random, int images, int classes, int64_t size) {
  Pair p;
  for (int c = 0; c < classes; ++c) p.truth.categories.push_back(std::string(1, char('a' + c)));
  p.predictions.categories = p.truth.categories;
  for (int i = 0; i < images; ++i) {
    p.truth.samples.push_back(sample(std::to_string(i), size, {}));
    p.predictions.samples.push_back(sample(std::to_string(i), size, {}));
    for (int t = 0; t < 12; ++t) {
      const Box box{random.uniform(0, double(size) - 16), random.uniform(0, double(size) - 16), random.uniform(5, 15),
                    random.uniform(5, 15)};
      const int category = int(random.below(uint64_t(classes)));
      p.truth.samples.back().instances.push_back(instance(box, size, category));
      for (uint64_t d = 0, n = random.below(3); d < n; ++d) {
        const double off = random.uniform(0, 5);
        const Box near{box[0] + off, box[1], box[2], box[3] + random.uniform(-2, 2)};
        p.predictions.samples.back().instances.push_back(
            instance(near, size, category, std::clamp(.9 - off / (5 + category) + random.uniform(-.2, .2), 0., 1.)));
      }
      if (random.uniform() < .3)
        p.predictions.samples.back().instances.push_back(instance(
            {random.uniform(0, double(size)), random.uniform(0, double(size)), 4, 4}, size, category, random.uniform(0, .6)));
    }
  }
  return p;
}

// The score of what select_instances keeps: the slow way of what the search does.
double selected_map_iou(const Pair& p, const Selection& selection, int64_t* count = nullptr) {
  double sum = 0;
  for (size_t i = 0; i < p.truth.samples.size(); ++i) {
    const std::vector<Instance> kept = select_instances(p.predictions.samples[i].instances, selection);
    if (count) *count += int64_t(kept.size());
    sum += kaggle_score(overlaps(p.truth.samples[i].instances, kept)).map_iou();
  }
  return sum / double(p.truth.samples.size());
}

Selection selection_of(const std::vector<OverlapLayers::Rule>& rules, bool class_of_image = false) {
  Selection s{.class_of_image = class_of_image, .remove_overlaps = true};
  for (const auto& r : rules) {
    s.thresholds.push_back(r.score_threshold);
    s.min_sizes.push_back(r.min_size);
  }
  return s;
}

// Round cells on a jittered grid, about `count` of them.
Tensor many_cells(int64_t size, int64_t count, uint64_t seed) {
  Random random(seed);
  const auto pitch = int64_t(std::sqrt(double(size * size) / double(count)));
  Tensor labels = Tensor::zeros({size, size}, DType::int32);
  int32_t label = 0;
  for (int64_t cy = pitch / 2; cy + pitch / 2 <= size; cy += pitch)
    for (int64_t cx = pitch / 2; cx + pitch / 2 <= size; cx += pitch) {
      const double y0 = double(cy) + random.uniform(-2, 2), x0 = double(cx) + random.uniform(-2, 2), r = .38 * double(pitch);
      ++label;
      for (int64_t y = std::max<int64_t>(0, cy - pitch); y < std::min(size, cy + pitch); ++y)
        for (int64_t x = std::max<int64_t>(0, cx - pitch); x < std::min(size, cx + pitch); ++x)
          if (std::hypot(double(y) - y0, double(x) - x0) < r) labels.data<int32_t>()[y * size + x] = label;
    }
  return labels;
}

Dataset dataset_of(const Tensor& labels, uint64_t seed) {
  Random random(seed);
  Dataset d{{"cell"}, {sample("big", labels.dim(0), {})}, {}};
  for (const Rle& mask : masks_of_labels(labels)) {
    Instance i;
    i.mask = mask;
    i.box = bounding_box(mask);
    i.score = random.uniform();
    d.samples[0].instances.push_back(std::move(i));
  }
  return d;
}

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TEST_SUITE_BEGIN("train");

TEST_CASE("layers of overlaps keep what select_instances keeps, for any setting") {
  Random random(21);
  for (int trial = 0; trial < 20; ++trial) {
    const int classes = 1 + int(random.below(3));
    const bool class_of_image = trial % 3 == 0;
    const Pair p = random_pair(random, 1, classes, 70);
    const auto &truth = p.truth.samples[0].instances, &predicted = p.predictions.samples[0].instances;
    const OverlapLayers layers(truth, predicted, class_of_image);
    for (int k = 0; k < 10; ++k) {
      std::vector<OverlapLayers::Rule> rules;
      for (int c = 0; c < classes; ++c) rules.push_back({random.uniform(), int64_t(random.below(120))});
      std::vector<uint8_t> kept;
      const Overlaps got = layers.remaining(rules, kept);
      const std::vector<Instance> want = select_instances(predicted, selection_of(rules, class_of_image));
      REQUIRE(got.prediction_areas.size() == want.size());
      for (size_t i = 0; i < want.size(); ++i) REQUIRE(got.prediction_areas[i] == area(want[i].mask));
      REQUIRE(std::count(kept.begin(), kept.end(), 1) == int64_t(want.size()));
      const KaggleScore a = kaggle_score(got), b = kaggle_score(overlaps(truth, want));
      REQUIRE(a.map_iou() == b.map_iou());
      REQUIRE(a.map_iou_compat() == b.map_iou_compat());
    }
  }
  // 300 detections on one another: the first takes all.
  std::vector<Instance> pile;
  for (int i = 0; i < 300; ++i) pile.push_back(instance({0, 0, 20, 20}, 32, 0, 1. / (i + 1)));
  std::vector<uint8_t> kept;
  const OverlapLayers layers({&pile[0], 1}, pile);
  CHECK(layers.pieces() == 1);
  CHECK(layers.remaining(std::vector<OverlapLayers::Rule>(1), kept).prediction_areas == std::vector<int64_t>{400});
}

TEST_CASE("tuning finds the best of all combinations where classes do not share images, and says what predict will do") {
  Random random(8);
  Pair p = random_pair(random, 12, 2, 90);
  for (size_t i = 0; i < p.truth.samples.size(); ++i)
    for (auto* s : {&p.truth.samples[i], &p.predictions.samples[i]})
      for (Instance& x : s->instances) x.category = int(i % 2);
  const ThresholdSearchOptions options{.thresholds = {.1, .3, .5, .7}, .min_sizes = {0, 20, 60}};
  const ThresholdSearch got = search_thresholds(p.truth, p.predictions, options);
  double best = 0;
  for (const double t0 : options.thresholds)
    for (const double t1 : options.thresholds)
      for (const int64_t s0 : options.min_sizes)
        for (const int64_t s1 : options.min_sizes) best = std::max(best, selected_map_iou(p, selection_of({{t0, s0}, {t1, s1}})));
  REQUIRE(got.rows.size() == 3);
  CHECK(got.rows[2].map_iou == doctest::Approx(best).epsilon(1e-12));
  CHECK(got.rows[2].map_iou > got.rows[0].map_iou + .01);
  CHECK(got.rows[0].map_iou == doctest::Approx(selected_map_iou(p, {.remove_overlaps = true})).epsilon(1e-12));
  CHECK(got.rows[1].map_iou ==
        doctest::Approx(selected_map_iou(p, {.thresholds = {.5}, .remove_overlaps = true})).epsilon(1e-12));

  // The file is a part of a recipe, and predict with it comes to the promised score.
  Config config;
  set_value(config, "model.name", "mask_rcnn", "test");
  read_toml(config, got.to_toml(), "tuned.toml");
  Selection selection{.thresholds = config.eval.class_thresholds,
                      .class_of_image = config.eval.class_of_image,
                      .remove_overlaps = config.eval.remove_overlaps};
  for (const double size : config.eval.min_sizes) selection.min_sizes.push_back(int64_t(size));
  int64_t count = 0;
  CHECK(selected_map_iou(p, selection, &count) == doctest::Approx(best).epsilon(1e-12));
  CHECK(count == got.rows[2].instances);
  CHECK(got.kept[0] + got.kept[1] == count);
  CHECK(got.to_toml().find("classes = [\"a\", \"b\"]") != std::string::npos);
  CHECK(got.table().find("tuned by map_iou on 12 images") != std::string::npos);

  // By default the grid is finer, and no worse.
  const ThresholdSearch fine = search_thresholds(p.truth, p.predictions);
  CHECK(fine.rows[2].map_iou >= got.rows[2].map_iou - .01);
  for (const ClassSettings& s : fine.settings)
    CHECK(s.score_threshold * 100 == doctest::Approx(std::round(s.score_threshold * 100)));
  const ThresholdSearch f1 = search_thresholds(p.truth, p.predictions, {.metric = "f1_at_50"});
  CHECK(f1.rows[2].f1_at_50 >= fine.rows[2].f1_at_50);
}

TEST_CASE("tuning: by the class of the image") {
  // Two cells of class b are found, and nothing is wrongly called a, with a score between theirs: only settings of a's own part them.
  Pair p;
  p.truth = {{"a", "b"}, {sample("x", 64, {instance({0, 0, 10, 10}, 64, 1), instance({20, 0, 10, 10}, 64, 1)})}, {}};
  p.predictions = p.truth;
  auto& found = p.predictions.samples[0].instances;
  found[0].score = .3, found[1].score = .4;
  found.push_back(instance({40, 40, 10, 10}, 64, 0, .35));
  ThresholdSearchOptions options{.thresholds = {.3, .5}, .min_sizes = {0}};
  CHECK(search_thresholds(p.truth, p.predictions, options).rows[2].map_iou == 1);
  options.class_of_image = true;
  const ThresholdSearch s = search_thresholds(p.truth, p.predictions, options);
  CHECK(s.rows[2].map_iou == doctest::Approx(2. / 3));
  CHECK(s.settings[1].score_threshold == .3);
  CHECK(s.kept == std::vector<int64_t>{1, 2});
  CHECK(s.to_toml().find("class_of_image = true") != std::string::npos);
}

TEST_CASE("tuning: inputs that cannot be tuned") {
  Dataset truth{{"cell"}, {sample("x", 32, {instance({0, 0, 8, 8}, 32)})}, {}}, predictions = truth;
  const ThresholdSearch s = search_thresholds(truth, predictions);
  CHECK(s.rows[2].map_iou == 1);
  REQUIRE(s.warnings.size() == 1);
  CHECK(s.warnings[0] == "all predictions have the score 1: only their sizes can be tuned");
  Dataset high = predictions;
  high.samples[0].instances.push_back(instance({10, 10, 4, 4}, 32, 0, .6));
  CHECK(search_thresholds(truth, high).warnings[0].starts_with("the lowest score is 0.60"));
  CHECK_THROWS_WITH_AS(search_thresholds(truth, predictions, {.metric = "ap"}),
                       "tuning by 'ap': want map_iou, map_iou_compat or f1_at_50", UsageError);
  predictions.samples[0].instances[0].score = NAN;
  CHECK_THROWS_AS(search_thresholds(truth, predictions), DataError);
  predictions.samples[0].instances.clear();
  CHECK_THROWS_WITH_AS(search_thresholds(truth, predictions), "tuning: no predictions for the 1 images; nothing can be tuned",
                       DataError);
  CHECK_THROWS_WITH_AS(search_thresholds(predictions, truth), "tuning: the 1 images have no true instance; nothing can be tuned",
                       DataError);
}

TEST_CASE("evaluate: nothing true, nothing found, equal scores, scores that are no numbers") {
  const Dataset empty{{"cell"}, {sample("a", 32, {}), sample("b", 32, {})}, {}};
  Dataset cells{{"cell"}, {sample("a", 32, {instance({2, 2, 10, 10}, 32)}), sample("b", 32, {})}, {}};
  const Evaluation neither = evaluate(empty, empty);
  CHECK(neither.map_iou == 1);
  CHECK(neither.segm.ap == -1);
  CHECK(neither.curves.best_f1 == -1);
  const Evaluation no_truth = evaluate(empty, cells);
  CHECK(no_truth.map_iou == .5);
  CHECK(no_truth.segm.ap == -1);
  CHECK(no_truth.f1_at_50 == 0);
  CHECK(evaluation_plots(no_truth).empty());
  CHECK(no_truth.n_truth == 0);
  CHECK(no_truth.warnings == std::vector<std::string>{"the truth has no instance: metrics that need truth say nothing"});
  const Evaluation no_detection = evaluate(cells, empty);
  CHECK(no_detection.segm.ap == 0);
  CHECK(no_detection.segm.ar100 == 0);
  CHECK(no_detection.curves.best_f1 == -1);
  CHECK(evaluation_plots(no_detection).size() == 1);
  for (const Evaluation* e : {&neither, &no_truth, &no_detection}) {
    rapidjson::Document json;
    json.Parse(e->to_json().c_str());
    REQUIRE_FALSE(json.HasParseError());
    CHECK(json["by_score_threshold"]["f1"].Size() == 101);
    CHECK_FALSE(e->table().empty());
  }

  Dataset bad = cells;
  for (const double score : {double(NAN), double(INFINITY)}) {
    bad.samples[0].instances[0].score = score;
    CHECK_THROWS_WITH_AS(
        evaluate(cells, bad),
        fmt::format("evaluate: image 'a': a predicted instance has the score {}, want a finite number (a diverged "
                    "training?)",
                    score)
            .c_str(),
        DataError);
  }
}

TEST_CASE("evaluate: what an image claims to measure costs nothing") {
  constexpr int64_t side = 60'000;
  Dataset truth{{"cell"}, {{"a", {}, side, side, {}, "1"}}, {1}}, found = truth;
  const auto add = [](Dataset& d, int64_t begin, int64_t end) {
    Instance i;
    i.mask = {side, side, {uint32_t(begin), uint32_t(end - begin), uint32_t(side * side - end)}};
    i.score = 0.9;
    i.box = bounding_box(i.mask);
    d.samples[0].instances.push_back(i);
  };
  CHECK(evaluate(truth, found).dice == 1);
  add(truth, 10, 30), add(truth, 20, 50);                     // 40 pixels
  add(found, 0, 15), add(found, 40, 45), add(found, 44, 46);  // 15 + 6, of which 5 + 6 are true
  CHECK(evaluate(truth, found).dice == doctest::Approx(2. * 11 / (40 + 21)));
}

TEST_CASE("evaluate: curves per class, the warning of the limit, charts") {
  Random random(4);
  const Pair p = random_pair(random, 5, 3, 100);
  const Evaluation e = evaluate(p.truth, p.predictions, {.protocol = {.max_detections = {1, 2, 3}}});
  REQUIRE(e.warnings.size() == 1);
  int64_t above = 0;
  for (const Sample& sample : p.predictions.samples) {
    std::array<int, 3> counts{};
    for (const Instance& i : sample.instances) ++counts[size_t(i.category)];
    above += *std::max_element(counts.begin(), counts.end()) > 3;
  }
  CHECK(e.warnings[0].starts_with(fmt::format("{} of 5 images have more than 3 detections of a class", above)));
  CHECK(evaluate(p.truth, p.predictions).warnings.empty());
  const Evaluation all = evaluate(p.truth, p.predictions, {.protocol = livecell_protocol});
  rapidjson::Document json;
  json.Parse(all.to_json().c_str());
  REQUIRE_FALSE(json.HasParseError());
  CHECK(json["size_ranges"][0][1].GetDouble() == 324);
  CHECK(json["max_detections"][2].GetInt() == 2000);
  // The mean of a curve over the recall levels is the AP.
  for (const auto& [curve, ap] : {std::pair{"iou_50", "ap50"}, {"iou_75", "ap75"}, {"mean", "ap"}}) {
    for (const rapidjson::Value* scores : std::initializer_list<const rapidjson::Value*>{&json, &json["per_class"]["b"]}) {
      double sum = 0;
      for (const auto& v : (*scores)["precision_by_recall"][curve].GetArray()) sum += v.GetDouble() / 101;
      CHECK(sum == doctest::Approx((*scores)["segm"][ap].GetDouble()));
    }
  }
  CHECK_FALSE(json["per_image"]["0"].HasMember("precision_by_recall"));
  CHECK(all.table().find("best f1 by score") != std::string::npos);
  const auto plots = evaluation_plots(all);
  REQUIRE(plots.size() == 4);
  CHECK(plots[0].first == "precision_recall");
  CHECK(plots[1].first == "f1_by_score");
  CHECK(plots[2].second.series.size() == 3);
  for (const auto& [name, plot] : plots) {
    const Tensor picture = plot_picture(plot);
    CHECK(picture.dim(1) == plot.width);
    const auto* pixels = picture.data<uint8_t>();
    CHECK(std::count_if(pixels, pixels + picture.size(), [](uint8_t v) { return v < 128; }) > 1000);
  }
}

TEST_CASE("10,000 instances in an image: time and memory stay in proportion") {
  const Dataset truth = dataset_of(many_cells(2000, 10'000, 1), 1), predictions = dataset_of(many_cells(2000, 10'000, 2), 2);
  const size_t n = truth.samples[0].instances.size();
  CHECK(n > 9'500);
  Overlaps o;
  CHECK(seconds([&] { o = overlaps(truth.samples[0].instances, predictions.samples[0].instances); }) < 3);
  CHECK(o.pairs.size() < 4 * n);
  Evaluation e;
  const auto protocol = CocoProtocol{.max_detections = {100, 1000, 20'000}};
  CHECK(seconds([&] { e = evaluate(truth, predictions, {.protocol = protocol}); }) < 15);
  CHECK(e.n_truth == int64_t(n));
  CHECK(e.segm.ap50 > .5);
  CHECK(e.f1_at_50 > .5);
  CHECK(seconds([&] {
          CHECK(search_thresholds(truth, predictions, {.thresholds = {.1, .5}, .min_sizes = {0, 50}}).rows.size() == 3);
        }) < 15);
}

TEST_CASE("5,000 detections that overlap much") {
  Random random(3);
  std::vector<Instance> truth, predicted;
  for (int i = 0; i < 5000; ++i) {
    const Box box{random.uniform(0, 980), random.uniform(0, 980), 20, 20};
    if (i % 10 == 0) truth.push_back(instance(box, 1000));
    predicted.push_back(instance(box, 1000, 0, random.uniform()));
  }
  const Dataset t{{"cell"}, {sample("x", 1000, truth)}, {}}, p{{"cell"}, {sample("x", 1000, predicted)}, {}};
  Evaluation e;
  CHECK(seconds([&] { e = evaluate(t, p, {.protocol = {.max_detections = {1, 10, 5000}}}); }) < 15);
  CHECK(e.segm.ar100 == 1);
  CHECK(e.curves.recall[0] == 1);
}

TEST_SUITE_END();
