#include "train/coco_eval.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "data/rle.h"
#include "data/rle_overlaps.h"
#include "tensor/parallel.h"

namespace glia {
namespace {

constexpr int T = CocoEvaluator::thresholds, R = CocoCurves::recall_levels;

// The doubles of numpy.linspace(.5, .95, 10) and linspace(0, 1, 101).
double iou_threshold(int i) { return i == T - 1 ? .95 : i * ((.95 - .5) / (T - 1)) + .5; }
double recall_level(int i) { return i == R - 1 ? 1. : i * .01; }

// By detection, the objects whose IoU reaches the lowest threshold, in the order of `truth`: the others can't change a match.
struct Candidate {
  size_t truth;
  double iou;
};
class Candidates {
 public:
  Candidates(std::span<const CocoTruth* const> truth, std::span<const CocoDetection* const> detections, IouKind kind) {
    first_.reserve(detections.size() + 1);
    if (kind == IouKind::segm) {
      of_masks(truth, detections);
    } else {
      of_boxes(truth, detections);
    }
    while (first_.size() <= detections.size()) first_.push_back(list_.size());
  }
  std::span<const Candidate> of(size_t detection) const {
    return std::span(list_).subspan(first_[detection], first_[detection + 1] - first_[detection]);
  }

 private:
  void of_masks(std::span<const CocoTruth* const> truth, std::span<const CocoDetection* const> detections) {
    MaskList t, d;
    std::vector<int64_t> t_area, d_area;
    for (const CocoTruth* x : truth) t.push_back(x->mask), t_area.push_back(area(*x->mask));
    for (const CocoDetection* x : detections) d.push_back(x->mask), d_area.push_back(area(*x->mask));
    for_each_overlap(d, t, [&](size_t i, size_t j, int64_t pixels) {
      add(i, j, double(pixels) / double(truth[j]->crowd ? d_area[i] : d_area[i] + t_area[j] - pixels));
    });
  }
  void of_boxes(std::span<const CocoTruth* const> truth, std::span<const CocoDetection* const> detections) {
    std::vector<Box> t, d;
    for (const CocoTruth* x : truth) t.push_back(x->box);
    for (const CocoDetection* x : detections) d.push_back(x->box);
    for_each_overlap(d, t, [&](size_t i, size_t j) { add(i, j, iou(d[i], t[j], truth[j]->crowd)); });
  }
  void add(size_t detection, size_t truth, double iou) {
    if (iou < iou_threshold(0)) return;
    while (first_.size() <= detection) first_.push_back(list_.size());
    list_.push_back({truth, iou});
  }

  std::vector<Candidate> list_;
  std::vector<size_t> first_;  // by detection; one more at the end
};

struct Mean {
  double sum = 0;
  int64_t n = 0;
  void add(double x) { sum += x, ++n; }
  double value() const { return n ? sum / double(n) : -1; }
};

// Precision at the recall levels, from the right never falling, and the recall of all entries together, at threshold t.
template <class Entry>
double precision_by_recall(const std::vector<Entry>& entries, int64_t positives, int t, std::array<double, R>& precision) {
  thread_local std::vector<double> recalls, precisions;
  recalls.clear();
  precisions.clear();
  double tp = 0, fp = 0;
  for (const Entry& e : entries) {
    if (!(e.ignored >> t & 1)) (e.matched >> t & 1 ? tp : fp) += 1;
    recalls.push_back(tp / double(positives));
    precisions.push_back(tp / (tp + fp + std::numeric_limits<double>::epsilon()));
  }
  for (size_t i = precisions.size(); i-- > 1;) precisions[i - 1] = std::max(precisions[i - 1], precisions[i]);
  size_t at = 0;
  for (int r = 0; r < R; ++r) {
    while (at < recalls.size() && recalls[at] < recall_level(r)) ++at;
    precision[size_t(r)] = at < precisions.size() ? precisions[at] : 0;
  }
  return recalls.empty() ? 0 : recalls.back();
}

double mean_of(const std::array<double, R>& values) { return std::accumulate(values.begin(), values.end(), 0.) / R; }

}  // namespace

CocoEvaluator::CocoEvaluator(std::span<const CocoImage> images, int num_categories, IouKind kind, const CocoProtocol& protocol)
    : images_(int(images.size())), categories_(num_categories), kind_(kind), protocol_(protocol) {
  matches_.resize(images.size() * size_t(categories_) * areas);
  all_.resize(images.size());
  std::iota(all_.begin(), all_.end(), 0);
  parallel_for(images_, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) match_image(images[size_t(i)], size_t(i));
  });
}

void CocoEvaluator::match_image(const CocoImage& image, size_t index) {
  std::vector<std::vector<const CocoTruth*>> truth(static_cast<size_t>(categories_));
  std::vector<std::vector<const CocoDetection*>> detections(static_cast<size_t>(categories_));
  const auto check = [&](int category) {
    GLIA_CHECK(category >= 0 && category < categories_, "COCO evaluation: category {} of {}", category, categories_);
    return size_t(category);
  };
  for (const CocoTruth& t : image.truth) truth[check(t.category)].push_back(&t);
  for (const CocoDetection& d : image.detections) {
    if (!std::isfinite(d.score)) throw DataError("COCO evaluation: a detection of image {} has the score {}", index, d.score);
    detections[check(d.category)].push_back(&d);
  }
  const auto limit = size_t(protocol_.max_detections[2]);
  for (size_t c = 0; c < size_t(categories_); ++c) {
    auto& list = detections[c];
    std::stable_sort(list.begin(), list.end(), [](const auto* a, const auto* b) { return a->score > b->score; });
    if (list.size() > limit) list.resize(limit);
    match_category(truth[c], list, &matches_[(index * size_t(categories_) + c) * areas]);
  }
}

// For each threshold, detections in the order of their scores take the free object of highest IoU; objects that count come before
// ignored ones, and a crowd is never used up.
void CocoEvaluator::match_category(std::span<const CocoTruth* const> truth, std::span<const CocoDetection* const> detections,
                                   Matches* results) const {
  if (truth.empty() && detections.empty()) return;
  const Candidates near(truth, detections, kind_);
  std::vector<uint8_t> ignore(truth.size()), taken(truth.size());
  for (size_t a = 0; a < areas; ++a) {
    const auto [low, high] = a == 0 ? std::pair{0., 1e10} : protocol_.sizes[a - 1];
    Matches& m = results[a];
    for (size_t t = 0; t < truth.size(); ++t) {
      ignore[t] = truth[t]->crowd || truth[t]->area < low || truth[t]->area > high;
      m.positives += !ignore[t];
    }
    m.matched.assign(detections.size(), 0);
    m.ignored.assign(detections.size(), 0);
    for (const CocoDetection* d : detections) m.scores.push_back(d->score);
    for (int i = 0; i < T; ++i) {
      std::fill(taken.begin(), taken.end(), uint8_t(0));
      for (size_t d = 0; d < detections.size(); ++d) {
        double best = std::min(iou_threshold(i), 1 - 1e-10);
        const Candidate* match = nullptr;
        for (const bool ignored : {false, true}) {  // the objects that count first
          if (ignored && match) break;
          for (const Candidate& c : near.of(d)) {
            if (bool(ignore[c.truth]) != ignored || (taken[c.truth] && !truth[c.truth]->crowd) || c.iou < best) continue;
            best = c.iou;
            match = &c;
          }
        }
        const auto bit = uint16_t(1u << i);
        if (match) {
          taken[match->truth] = 1;
          m.matched[d] |= bit;
          if (ignore[match->truth]) m.ignored[d] |= bit;
        } else if (detections[d]->area < low || detections[d]->area > high) {
          m.ignored[d] |= bit;
        }
      }
    }
  }
}

void CocoEvaluator::rank(Ranking& ranking, std::span<const int> images, int category, int area, int limit) const {
  ranking.positives = 0;
  ranking.entries.clear();
  for (const int i : images) {
    const Matches& m = at(i, category, area);
    ranking.positives += m.positives;
    for (size_t d = 0; d < std::min(m.scores.size(), size_t(limit)); ++d)
      ranking.entries.push_back({m.scores[d], m.matched[d], m.ignored[d]});
  }
  std::stable_sort(ranking.entries.begin(), ranking.entries.end(),
                   [](const Entry& x, const Entry& y) { return x.score > y.score; });
}

CocoSummary CocoEvaluator::summarize(const Selection& of) const {
  // Means over categories and thresholds of the precision (over the recall grid) and of the final recall.
  std::array<Mean, areas> precision, recall;  // by area, at the last limit
  std::array<Mean, 3> recall_at;              // by limit, all areas
  Mean precision_50, precision_75;
  Ranking ranking;
  std::array<double, R> levels{};
  for (int c = of.first_category; c < of.last_category; ++c) {
    for (int a = 0; a < areas; ++a) {
      for (size_t l = a > 0 ? 2 : 0; l < 3; ++l) {
        rank(ranking, of.images, c, a, protocol_.max_detections[l]);
        if (ranking.positives == 0) continue;
        for (int t = 0; t < T; ++t) {
          const double final_recall = precision_by_recall(ranking.entries, ranking.positives, t, levels);
          if (a == 0) recall_at[l].add(final_recall);
          if (l < 2) continue;
          recall[size_t(a)].add(final_recall);
          precision[size_t(a)].add(mean_of(levels));
          if (a == 0 && t == 0) precision_50.add(mean_of(levels));
          if (a == 0 && t == 5) precision_75.add(mean_of(levels));
        }
      }
    }
  }
  return {precision[0].value(), precision_50.value(), precision_75.value(), precision[1].value(),
          precision[2].value(), precision[3].value(), recall_at[0].value(), recall_at[1].value(),
          recall_at[2].value(), recall[1].value(),    recall[2].value(),    recall[3].value()};
}

CocoSummary CocoEvaluator::summary() const { return summarize({all_, 0, categories_}); }
CocoSummary CocoEvaluator::of_category(int category) const { return summarize({all_, category, category + 1}); }
CocoSummary CocoEvaluator::of_images(std::span<const int> images) const { return summarize({images, 0, categories_}); }

CocoCurves CocoEvaluator::draw(const Selection& of) const {
  CocoCurves curves;
  Ranking ranking, pooled;
  std::array<double, R> levels{};
  int counted = 0;
  for (int c = of.first_category; c < of.last_category; ++c) {
    rank(ranking, of.images, c, 0, protocol_.max_detections[2]);
    pooled.positives += ranking.positives;
    pooled.entries.insert(pooled.entries.end(), ranking.entries.begin(), ranking.entries.end());
    if (ranking.positives == 0) continue;
    ++counted;
    for (auto* curve : {&curves.precision_50, &curves.precision_75, &curves.precision_mean}) curve->resize(R);
    for (int t = 0; t < T; ++t) {
      precision_by_recall(ranking.entries, ranking.positives, t, levels);
      for (size_t r = 0; r < size_t(R); ++r) {
        if (t == 0) curves.precision_50[r] += levels[r];
        if (t == 5) curves.precision_75[r] += levels[r];
        curves.precision_mean[r] += levels[r] / T;
      }
    }
  }
  for (auto* curve : {&curves.precision_50, &curves.precision_75, &curves.precision_mean})
    for (double& value : *curve) value /= counted;

  auto& entries = pooled.entries;
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& x, const Entry& y) { return x.score > y.score; });
  const bool in_unit = entries.empty() || (entries.back().score >= 0 && entries.front().score <= 1);
  const double low = in_unit ? 0 : entries.back().score, high = in_unit ? 1 : entries.front().score;
  // Counts of the entries whose score is above a threshold; they stay as they are until the next score.
  struct Point {
    double score, precision, recall, f1;
  };
  std::vector<Point> points;  // by descending score
  double tp = 0, fp = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!(entries[i].ignored & 1)) (entries[i].matched & 1 ? tp : fp) += 1;
    if (i + 1 < entries.size() && entries[i + 1].score == entries[i].score) continue;
    const auto positives = double(pooled.positives);
    points.push_back({entries[i].score, tp + fp > 0 ? tp / (tp + fp) : 1, positives > 0 ? tp / positives : 0,
                      tp + fp + positives > 0 ? 2 * tp / (tp + fp + positives) : 0});
    if (pooled.positives && points.back().f1 > curves.best_f1)
      curves.best_f1 = points.back().f1, curves.best_threshold = points.back().score;
  }
  for (int k = 0; k <= 100; ++k) {
    const double threshold = k == 100 ? high : low + k * (high - low) / 100;
    const auto beyond = std::partition_point(points.begin(), points.end(), [&](const Point& p) { return p.score >= threshold; });
    const Point p = beyond == points.begin() ? Point{threshold, 1, 0, 0} : beyond[-1];
    curves.thresholds.push_back(threshold);
    curves.precision.push_back(p.precision);
    curves.recall.push_back(p.recall);
    curves.f1.push_back(p.f1);
  }
  return curves;
}

CocoCurves CocoEvaluator::curves() const { return draw({all_, 0, categories_}); }
CocoCurves CocoEvaluator::curves_of_category(int category) const { return draw({all_, category, category + 1}); }
CocoCurves CocoEvaluator::curves_of_images(std::span<const int> images) const { return draw({images, 0, categories_}); }

}  // namespace glia
