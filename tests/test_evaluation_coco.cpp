// COCO's numbers and curves against a slow and literal implementation on random sets, with LIVECell's variant; overlaps of masks and
// boxes against all pairs.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <list>
#include <map>

#include "data/polygon.h"
#include "data/rle.h"
#include "data/rle_overlaps.h"
#include "tensor/random.h"
#include "train/coco_eval.h"

using namespace glia;

namespace {

struct RandomSet {
  std::list<Rle> masks;  // what the images point to
  std::vector<CocoImage> images;
  int categories = 1;
};

Rle random_mask(Random& random, int64_t size, const Rle* near) {
  Box box{random.uniform(0, double(size)), random.uniform(0, double(size)), random.uniform(1, 18), random.uniform(1, 18)};
  if (near && random.uniform() < .7) {
    box = bounding_box(*near);
    for (double& v : box) v += std::round(random.uniform(-2, 2));
    box[2] = std::max(1., box[2]);
    box[3] = std::max(1., box[3]);
  }
  Rle mask = rle_from_box(box, size, size);
  if (random.uniform() < .3) {  // not every mask is a box
    const Tensor pixels = decode_mask(mask);
    for (int64_t i = 0; i < pixels.size(); ++i)
      if (random.uniform() < .2) pixels.data<uint8_t>()[i] = 0;
    mask = encode_mask(pixels);
  }
  return mask;
}

// Few images of many kinds: empty on one side or both, with crowds, with equal scores, with areas that are not the masks'.
RandomSet random_set(Random& random, IouKind kind) {
  RandomSet set;
  set.categories = 1 + int(random.below(3));
  const bool coarse_scores = random.uniform() < .5, own_areas = random.uniform() < .3;
  const double crowds = random.uniform() < .5 ? .15 : 0;
  for (uint64_t i = 0, images = 1 + random.below(4); i < images; ++i) {
    CocoImage image;
    const uint64_t truths = random.uniform() < .2 ? 0 : random.below(12),
                   detections = random.uniform() < .2 ? 0 : random.below(25);
    for (uint64_t t = 0; t < truths; ++t) {
      set.masks.push_back(random_mask(random, 48, nullptr));
      const Rle& m = set.masks.back();
      const double size = own_areas ? random.uniform(0, 2000) : double(area(m));
      image.truth.push_back({&m, bounding_box(m), int(random.below(uint64_t(set.categories))), random.uniform() < crowds, size});
    }
    for (uint64_t d = 0; d < detections; ++d) {
      const CocoTruth* near = truths ? &image.truth[random.below(truths)] : nullptr;
      set.masks.push_back(random_mask(random, 48, near ? near->mask : nullptr));
      const Rle& m = set.masks.back();
      const int category = near && random.uniform() < .8 ? near->category : int(random.below(uint64_t(set.categories)));
      const double score = coarse_scores ? double(random.below(4)) / 4 : random.uniform();
      const Box box = bounding_box(m);
      image.detections.push_back({&m, box, category, score, kind == IouKind::segm ? double(area(m)) : box[2] * box[3]});
    }
    set.images.push_back(image);
  }
  return set;
}

// pycocotools' rules one by one (COCOeval.evaluateImg, accumulate, summarize): all pairs, no shortcut.
class Literal {
 public:
  Literal(const RandomSet& set, IouKind kind, const CocoProtocol& protocol) : set_(set), kind_(kind), protocol_(protocol) {}

  // Precision at the recall levels, and the last recall; empty where no object counts.
  struct Curve {
    std::vector<double> precision;
    double recall = 0;
  };
  Curve curve(int category, int size, int limit, int t) const {
    struct Entry {
      double score;
      bool hit, ignored;
    };
    std::vector<Entry> entries;
    int64_t positives = 0;
    for (const CocoImage& image : set_.images) {
      const auto range = size == 0 ? std::pair{0., 1e10} : protocol_.sizes[size_t(size - 1)];
      const auto outside = [&](double area) { return area < range.first || area > range.second; };
      std::vector<const CocoTruth*> truth;
      for (const bool ignored : {false, true})
        for (const CocoTruth& g : image.truth)
          if (g.category == category && (g.crowd || outside(g.area)) == ignored) truth.push_back(&g);
      std::vector<const CocoDetection*> detections;
      for (const CocoDetection& d : image.detections)
        if (d.category == category) detections.push_back(&d);
      std::stable_sort(detections.begin(), detections.end(), [](auto* a, auto* b) { return a->score > b->score; });
      detections.resize(std::min(detections.size(), size_t(protocol_.max_detections[2])));
      for (const CocoTruth* g : truth) positives += !(g->crowd || outside(g->area));
      std::vector<bool> taken(truth.size());
      for (size_t k = 0; k < detections.size(); ++k) {
        const CocoDetection& d = *detections[k];
        double best = std::min(t == 9 ? .95 : t * ((.95 - .5) / 9) + .5, 1 - 1e-10);
        int match = -1;
        for (size_t g = 0; g < truth.size(); ++g) {
          const auto ignored = [&](size_t i) { return truth[i]->crowd || outside(truth[i]->area); };
          if (taken[g] && !truth[g]->crowd) continue;
          if (match >= 0 && !ignored(size_t(match)) && ignored(g)) break;
          const double value = kind_ == IouKind::segm ? iou(*d.mask, *truth[g]->mask, truth[g]->crowd)
                                                      : iou(d.box, truth[g]->box, truth[g]->crowd);
          if (value < best) continue;
          best = value;
          match = int(g);
        }
        if (match >= 0) taken[size_t(match)] = true;
        const bool ignored = match >= 0 ? truth[size_t(match)]->crowd || outside(truth[size_t(match)]->area) : outside(d.area);
        if (k < size_t(limit)) entries.push_back({d.score, match >= 0, ignored});
      }
    }
    if (positives == 0) return {};
    std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.score > b.score; });
    Curve c;
    std::vector<double> recall, precision;
    double tp = 0, fp = 0;
    for (const Entry& e : entries) {
      if (!e.ignored) (e.hit ? tp : fp) += 1;
      recall.push_back(tp / double(positives));
      precision.push_back(tp / (tp + fp + std::numeric_limits<double>::epsilon()));
    }
    c.recall = recall.empty() ? 0 : recall.back();
    for (int r = 0; r <= 100; ++r) {
      double best = 0;  // the highest precision from the first place on where the recall is reached
      bool reached = false;
      for (size_t i = 0; i < recall.size(); ++i) {
        reached = reached || recall[i] >= (r == 100 ? 1. : r * .01);
        if (reached) best = std::max(best, precision[i]);
      }
      c.precision.push_back(best);
    }
    return c;
  }

  CocoSummary summary() const {
    const auto mean = [&](int size, size_t limit, int from, int to, bool of_recall) {
      double sum = 0;
      int64_t n = 0;
      for (int c = 0; c < set_.categories; ++c)
        for (int t = from; t < to; ++t) {
          const Curve x = curve(c, size, protocol_.max_detections[limit], t);
          if (x.precision.empty()) continue;
          if (of_recall) {
            sum += x.recall, ++n;
          } else {
            for (const double p : x.precision) sum += p, ++n;
          }
        }
      return n ? sum / double(n) : -1;
    };
    return {mean(0, 2, 0, 10, false), mean(0, 2, 0, 1, false),  mean(0, 2, 5, 6, false), mean(1, 2, 0, 10, false),
            mean(2, 2, 0, 10, false), mean(3, 2, 0, 10, false), mean(0, 0, 0, 10, true), mean(0, 1, 0, 10, true),
            mean(0, 2, 0, 10, true),  mean(1, 2, 0, 10, true),  mean(2, 2, 0, 10, true), mean(3, 2, 0, 10, true)};
  }

 private:
  const RandomSet& set_;
  IouKind kind_;
  CocoProtocol protocol_;
};

std::array<double, 12> numbers(const CocoSummary& s) {
  return {s.ap, s.ap50, s.ap75, s.aps, s.apm, s.apl, s.ar1, s.ar10, s.ar100, s.ars, s.arm, s.arl};
}

}  // namespace

TEST_SUITE_BEGIN("train");

TEST_CASE("COCO: 250 random sets against a literal implementation, both protocols") {
  Random random(11);
  int decided = 0;
  for (int trial = 0; trial < 250; ++trial) {
    const IouKind kind = trial % 2 ? IouKind::segm : IouKind::bbox;
    const RandomSet set = random_set(random, kind);
    CocoProtocol protocol = trial % 3 ? CocoProtocol{} : livecell_protocol;
    if (trial % 5 == 0) protocol.max_detections = {1, 3, 6};
    const CocoEvaluator evaluator(set.images, set.categories, kind, protocol);
    const Literal literal(set, kind, protocol);
    const auto got = numbers(evaluator.summary()), want = numbers(literal.summary());
    INFO("trial ", trial);
    for (size_t i = 0; i < got.size(); ++i) {
      INFO("number ", i);
      REQUIRE(std::abs(got[i] - want[i]) <= 1e-9);
      decided += want[i] > 0 && want[i] < 1;
    }
    const CocoCurves curves = evaluator.curves_of_category(0);
    const auto expected = literal.curve(0, 0, protocol.max_detections[2], 5).precision;
    REQUIRE(curves.precision_75.size() == expected.size());
    for (size_t r = 0; r < expected.size(); ++r) REQUIRE(std::abs(curves.precision_75[r] - expected[r]) <= 1e-12);
  }
  CHECK(decided > 1000);  // the sets are not trivial
}

TEST_CASE("COCO: sizes and limits of LIVECell") {
  CHECK(livecell_protocol.max_detections == std::array<int, 3>{100, 500, 2000});
  // Three cells: 324 pixels are small and medium (both ends count), 325 medium, 961 medium and large. That of 325 is missed.
  CocoImage image;
  for (const double area : {324., 325., 961.}) image.truth.push_back({nullptr, {area, 0, 10, 10}, 0, false, area});
  image.detections.push_back({nullptr, {324, 0, 10, 10}, 0, .9, 324});
  image.detections.push_back({nullptr, {961, 0, 10, 10}, 0, .8, 961});
  const CocoSummary s = CocoEvaluator({&image, 1}, 1, IouKind::bbox, livecell_protocol).summary();
  CHECK(s.ars == 1);
  CHECK(s.arm == doctest::Approx(2. / 3));
  CHECK(s.arl == 1);
  CHECK(CocoEvaluator({&image, 1}, 1, IouKind::bbox).summary().arl == -1);
}

TEST_CASE("F1 against the score threshold: known answers") {
  // By score: right .9, wrong .8, right .8, wrong .2; three objects.
  CocoImage image;
  const auto box = [](double x) { return Box{x, 0, 10, 10}; };
  for (const double x : {0., 20., 40.}) image.truth.push_back({nullptr, box(x), 0, false, 100});
  for (const auto& [x, score] : {std::pair{0., .9}, {70., .8}, {20., .8}, {90., .2}})
    image.detections.push_back({nullptr, box(x), 0, score, 100});
  const CocoCurves c = CocoEvaluator({&image, 1}, 1, IouKind::bbox).curves();
  REQUIRE(c.thresholds.size() == 101);
  CHECK(c.thresholds[0] == 0);
  CHECK(c.thresholds[100] == 1);
  const auto at = [&](size_t k) { return std::array{c.precision[k], c.recall[k], c.f1[k]}; };
  CHECK(at(0) == std::array{2. / 4, 2. / 3, 4. / 7});
  CHECK(at(20) == std::array{2. / 4, 2. / 3, 4. / 7});  // .2 counts at the threshold .2
  CHECK(at(21) == std::array{2. / 3, 2. / 3, 4. / 6});
  CHECK(at(81) == std::array{1., 1. / 3, 2. / 4});
  CHECK(at(95) == std::array{1., 0., 0.});
  CHECK(c.best_f1 == 4. / 6);
  CHECK(c.best_threshold == .8);
  CHECK(c.precision_50[33] == doctest::Approx(1));
  CHECK(c.precision_50[66] == doctest::Approx(2. / 3));
  CHECK(c.precision_50[67] == 0);
  CHECK(c.precision_mean == c.precision_50);  // every match is perfect

  for (CocoDetection& d : image.detections) d.score = 7;  // all equal, beyond 1
  const CocoCurves equal = CocoEvaluator({&image, 1}, 1, IouKind::bbox).curves();
  CHECK(equal.thresholds.back() == 7);
  CHECK(equal.best_f1 == 4. / 7);
  CHECK(equal.best_threshold == 7);
  image.truth.clear();
  const CocoCurves none = CocoEvaluator({&image, 1}, 1, IouKind::bbox).curves();
  CHECK(none.best_f1 == -1);
  CHECK(none.precision_50.empty());
  image.detections[0].score = NAN;
  CHECK_THROWS_WITH_AS(CocoEvaluator({&image, 1}, 1, IouKind::bbox), "COCO evaluation: a detection of image 0 has the score nan",
                       DataError);
}

TEST_CASE("overlaps of masks and boxes: the same as all pairs") {
  Random random(5);
  for (int trial = 0; trial < 60; ++trial) {
    const int64_t size = 20 + int64_t(random.below(30));
    std::vector<Rle> a, b;
    for (auto* list : {&a, &b})
      for (uint64_t i = 0, n = random.below(15); i < n; ++i) list->push_back(random_mask(random, size, nullptr));
    b.push_back(rle_from_box({0, 0, double(size), double(size)}, size, size));  // one run over all columns
    b.push_back(Rle{size, size, {uint32_t(size * size)}});                      // empty
    std::map<std::pair<size_t, size_t>, int64_t> found;
    std::pair<size_t, size_t> last{0, 0};
    for_each_overlap(pointers_to(a), pointers_to(b), [&](size_t i, size_t j, int64_t pixels) {
      CHECK((found.empty() || std::pair(i, j) > last));
      last = {i, j};
      found[last] = pixels;
    });
    for (size_t i = 0; i < a.size(); ++i)
      for (size_t j = 0; j < b.size(); ++j) {
        const auto at = found.find({i, j});
        REQUIRE((at == found.end() ? 0 : at->second) == intersection_area(a[i], b[j]));
      }
    std::vector<Box> boxes_a, boxes_b;
    for (const Rle& m : a) boxes_a.push_back(bounding_box(m));
    for (const Rle& m : b) boxes_b.push_back(bounding_box(m));
    std::vector<std::pair<size_t, size_t>> pairs, want;
    for_each_overlap(boxes_a, boxes_b, [&](size_t i, size_t j) { pairs.emplace_back(i, j); });
    for (size_t i = 0; i < a.size(); ++i)
      for (size_t j = 0; j < b.size(); ++j)
        if (iou(boxes_a[i], boxes_b[j]) > 0) want.emplace_back(i, j);
    REQUIRE(pairs == want);
  }
  const std::vector<Rle> small{rle_from_box({0, 0, 2, 2}, 4, 4)}, large{rle_from_box({0, 0, 2, 2}, 8, 4)};
  CHECK_THROWS_WITH_AS(for_each_overlap(pointers_to(small), pointers_to(large), [](size_t, size_t, int64_t) {}),
                       "overlaps of masks: 4 x 4 and 8 x 4 pixels (height x width), want the same size", DataError);
}

TEST_SUITE_END();
