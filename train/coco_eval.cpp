#include "train/coco_eval.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "data/rle.h"
#include "tensor/parallel.h"

namespace glia {
namespace {

constexpr int T = CocoEvaluator::thresholds;
constexpr std::array<std::pair<double, double>, CocoEvaluator::areas> area_ranges{
    {{0, 1e10}, {0, 32. * 32}, {32. * 32, 96. * 96}, {96. * 96, 1e10}}};

// The doubles of numpy.linspace(.5, .95, 10) and linspace(0, 1, 101).
double iou_threshold(int i) { return i == T - 1 ? .95 : i * ((.95 - .5) / (T - 1)) + .5; }
double recall_level(int i) { return i == 100 ? 1. : i * .01; }

struct Candidate {
  size_t truth;
  double iou;
};

bool apart(const Box& a, const Box& b) {
  return a[0] + a[2] <= b[0] || b[0] + b[2] <= a[0] || a[1] + a[3] <= b[1] || b[1] + b[3] <= a[1];
}

// By detection, the objects whose IoU reaches the lowest threshold, in the order of `truth`: the others can't change a match.
std::vector<std::vector<Candidate>> candidates(std::span<const CocoTruth* const> truth,
                                               std::span<const CocoDetection* const> detections, IouKind kind) {
  std::vector<std::vector<Candidate>> result(detections.size());
  std::vector<Box> boxes;
  for (const CocoTruth* t : truth) boxes.push_back(kind == IouKind::segm ? bounding_box(t->mask) : t->box);
  for (size_t d = 0; d < detections.size(); ++d) {
    const Box box = kind == IouKind::segm ? bounding_box(detections[d]->mask) : detections[d]->box;
    for (size_t t = 0; t < truth.size(); ++t) {
      if (apart(box, boxes[t])) continue;
      const bool crowd = truth[t]->crowd;
      const double value = kind == IouKind::segm ? iou(detections[d]->mask, truth[t]->mask, crowd) : iou(box, boxes[t], crowd);
      if (value >= iou_threshold(0)) result[d].push_back({t, value});
    }
  }
  return result;
}

struct Mean {
  double sum = 0;
  int64_t n = 0;
  void add(double x) { sum += x, ++n; }
  double value() const { return n ? sum / double(n) : -1; }
};

}  // namespace

CocoEvaluator::CocoEvaluator(std::span<const CocoImage> images, int num_categories, IouKind kind,
                             std::array<int, 3> max_detections)
    : images_(int(images.size())), categories_(num_categories), kind_(kind), limits_(max_detections) {
  matches_.resize(images.size() * size_t(categories_) * areas);
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
  for (const CocoDetection& d : image.detections) detections[check(d.category)].push_back(&d);
  const auto limit = size_t(*std::max_element(limits_.begin(), limits_.end()));
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
  const auto near = candidates(truth, detections, kind_);
  std::vector<uint8_t> ignore(truth.size()), taken(truth.size());
  for (int a = 0; a < areas; ++a) {
    const auto [low, high] = area_ranges[size_t(a)];
    Matches& m = results[a];
    m.empty = false;
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
          for (const Candidate& c : near[d]) {
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

CocoSummary CocoEvaluator::summarize(std::span<const int> images, int first_category, int last_category) const {
  // Means over categories and thresholds of the precision (over the recall grid) and of the final recall.
  std::array<Mean, areas> precision, recall;  // by area, at the last limit
  std::array<Mean, 3> recall_at;              // by limit, all areas
  Mean precision_50, precision_75;
  struct Entry {
    double score;
    uint16_t matched, ignored;
  };
  std::vector<Entry> entries;
  std::vector<double> rc, pr;
  for (int c = first_category; c < last_category; ++c) {
    for (int a = 0; a < areas; ++a) {
      for (size_t l = 0; l < 3; ++l) {
        if (a > 0 && l < 2) continue;
        int64_t positives = 0;
        entries.clear();
        for (const int i : images) {
          const Matches& m = at(i, c, a);
          positives += m.positives;
          for (size_t d = 0; d < std::min(m.scores.size(), size_t(limits_[l])); ++d)
            entries.push_back({m.scores[d], m.matched[d], m.ignored[d]});
        }
        if (positives == 0) continue;
        std::stable_sort(entries.begin(), entries.end(), [](const Entry& x, const Entry& y) { return x.score > y.score; });
        for (int t = 0; t < T; ++t) {
          rc.clear();
          pr.clear();
          double tp = 0, fp = 0;
          for (const Entry& e : entries) {
            if (!(e.ignored >> t & 1)) (e.matched >> t & 1 ? tp : fp) += 1;
            rc.push_back(tp / double(positives));
            pr.push_back(tp / (tp + fp + std::numeric_limits<double>::epsilon()));
          }
          const double final_recall = rc.empty() ? 0 : rc.back();
          if (a == 0) recall_at[l].add(final_recall);
          if (l < 2) continue;
          recall[size_t(a)].add(final_recall);
          for (size_t i = pr.size(); i-- > 1;) pr[i - 1] = std::max(pr[i - 1], pr[i]);
          double sum = 0;
          for (int r = 0; r <= 100; ++r) {
            const auto at = size_t(std::lower_bound(rc.begin(), rc.end(), recall_level(r)) - rc.begin());
            if (at < pr.size()) sum += pr[at];
          }
          precision[size_t(a)].add(sum / 101);
          if (a == 0 && t == 0) precision_50.add(sum / 101);
          if (a == 0 && t == 5) precision_75.add(sum / 101);
        }
      }
    }
  }
  return {precision[0].value(), precision_50.value(), precision_75.value(), precision[1].value(),
          precision[2].value(), precision[3].value(), recall_at[0].value(), recall_at[1].value(),
          recall_at[2].value(), recall[1].value(),    recall[2].value(),    recall[3].value()};
}

CocoSummary CocoEvaluator::summary() const {
  std::vector<int> all(static_cast<size_t>(images_));
  std::iota(all.begin(), all.end(), 0);
  return summarize(all, 0, categories_);
}

CocoSummary CocoEvaluator::of_category(int category) const {
  std::vector<int> all(static_cast<size_t>(images_));
  std::iota(all.begin(), all.end(), 0);
  return summarize(all, category, category + 1);
}

CocoSummary CocoEvaluator::of_images(std::span<const int> images) const { return summarize(images, 0, categories_); }

}  // namespace glia
