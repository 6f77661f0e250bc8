#include "train/metrics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "data/rle.h"
#include "kernels/labels.h"

namespace glia {
namespace {

bool matches(const Overlaps& o, const Overlaps::Pair& pair, int percent, bool or_equal = false) {
  const int64_t united = o.truth_areas[size_t(pair.truth)] + o.prediction_areas[size_t(pair.prediction)] - pair.intersection;
  return 100 * pair.intersection + (or_equal ? 1 : 0) > percent * united;
}

// Maximum bipartite matching by augmenting paths. Above IoU .5 and without overlaps on either side every mask has at most one
// candidate, and nothing is ever augmented.
class Matcher {
 public:
  Matcher(const Overlaps& o, int percent, bool or_equal = false) : first_(o.prediction_areas.size() + 1) {
    result_.prediction_of.assign(o.truth_areas.size(), -1);
    result_.truth_of.assign(o.prediction_areas.size(), -1);
    // The candidates of each prediction, one list after the other: counted, then filled from the back.
    for (const Overlaps::Pair& p : o.pairs)
      if (matches(o, p, percent, or_equal)) ++first_[size_t(p.prediction)];
    std::partial_sum(first_.begin(), first_.end(), first_.begin());
    truths_.resize(size_t(first_.back()));
    for (size_t i = o.pairs.size(); i-- > 0;)
      if (matches(o, o.pairs[i], percent, or_equal)) truths_[size_t(--first_[size_t(o.pairs[i].prediction)])] = o.pairs[i].truth;
    visited_.assign(o.truth_areas.size(), -1);
    for (size_t p = 0; p + 1 < first_.size(); ++p)
      if (first_[p] < first_[p + 1]) augment(int32_t(p), int32_t(p));
  }
  Matching result() && { return std::move(result_); }

 private:
  // Depth first with an explicit stack: crowded images make long paths.
  void augment(int32_t start, int32_t round) {
    path_.assign(1, {start, first_[size_t(start)]});
    taken_.clear();
    while (!path_.empty()) {
      Frame& f = path_.back();
      if (f.next == first_[size_t(f.prediction) + 1]) {
        path_.pop_back();
        if (!taken_.empty()) taken_.pop_back();
        continue;
      }
      const int32_t t = truths_[size_t(f.next++)];
      if (visited_[size_t(t)] == round) continue;
      visited_[size_t(t)] = round;
      taken_.push_back(t);
      const int32_t owner = result_.prediction_of[size_t(t)];
      if (owner >= 0) {
        path_.push_back({owner, first_[size_t(owner)]});
        continue;
      }
      for (size_t i = 0; i < path_.size(); ++i) {
        result_.prediction_of[size_t(taken_[i])] = path_[i].prediction;
        result_.truth_of[size_t(path_[i].prediction)] = taken_[i];
      }
      return;
    }
  }

  struct Frame {
    int32_t prediction;
    int64_t next;  // of its candidates
  };
  std::vector<int64_t> first_;    // by prediction: where its candidates begin; one more at the end
  std::vector<int32_t> truths_;   // the candidates
  std::vector<int32_t> visited_;  // by truth: the last round that came here
  std::vector<Frame> path_;
  std::vector<int32_t> taken_;  // truth through which each frame went on
  Matching result_;
};

double mean_precision(const std::array<MatchCounts, num_iou_thresholds>& counts) {
  double sum = 0;
  for (const MatchCounts& c : counts) sum += c.precision();
  return sum / num_iou_thresholds;
}

MaskList masks_of(std::span<const Instance> instances) {
  MaskList masks;
  for (const Instance& i : instances)
    if (!i.crowd) masks.push_back(&i.mask);
  return masks;
}

// The pairs that match at the lowest threshold. Nothing else can match at any.
Overlaps strong_pairs(const Overlaps& o) {
  Overlaps strong{o.truth_areas, o.prediction_areas, {}};
  for (const Overlaps::Pair& p : o.pairs)
    if (matches(o, p, 50)) strong.pairs.push_back(p);
  return strong;
}

bool one_to_one(const Overlaps& o) {
  std::vector<uint8_t> truth(o.truth_areas.size()), prediction(o.prediction_areas.size());
  for (const Overlaps::Pair& p : o.pairs)
    if (truth[size_t(p.truth)]++ || prediction[size_t(p.prediction)]++) return false;
  return true;
}

template <class F>
void for_each_pixel(const Tensor& probability, const Tensor& target, const char* what, F&& f) {
  GLIA_CHECK(probability.size() == target.size(), "{}: probability {}, target {}", what, probability.shape(), target.shape());
  const float* p = probability.data<float>();
  const uint8_t* y = target.data<uint8_t>();
  for (int64_t i = 0; i < target.size(); ++i) f(double(p[i]), y[i] != 0);
}

}  // namespace

Overlaps overlaps(const Tensor& truth, const Tensor& prediction) {
  GLIA_CHECK(same_shape(truth, prediction), "overlaps: true labels {}, predicted labels {}", truth.shape(), prediction.shape());
  int64_t nt = 0, np = 0;
  const Tensor t = relabel(truth, &nt), p = relabel(prediction, &np);
  Overlaps result;
  result.truth_areas.assign(size_t(nt), 0);
  result.prediction_areas.assign(size_t(np), 0);
  // Stretches of equal labels first; then those of one pair are added up.
  std::vector<Overlaps::Pair>& pairs = result.pairs;
  const int32_t *a = t.data<int32_t>(), *b = p.data<int32_t>();
  for (int64_t i = 0; i < t.size();) {
    const int64_t begin = i;
    while (i < t.size() && a[i] == a[begin] && b[i] == b[begin]) ++i;
    const int64_t n = i - begin;
    if (a[begin]) result.truth_areas[size_t(a[begin] - 1)] += n;
    if (b[begin]) result.prediction_areas[size_t(b[begin] - 1)] += n;
    if (a[begin] && b[begin]) pairs.push_back({a[begin] - 1, b[begin] - 1, n});
  }
  const auto key = [](const Overlaps::Pair& x) { return int64_t(x.truth) << 32 | x.prediction; };
  std::sort(pairs.begin(), pairs.end(), [&](const auto& x, const auto& y) { return key(x) < key(y); });
  size_t kept = 0;
  for (const Overlaps::Pair pair : pairs) {
    if (kept && key(pairs[kept - 1]) == key(pair)) {
      pairs[kept - 1].intersection += pair.intersection;
    } else {
      pairs[kept++] = pair;
    }
  }
  pairs.resize(kept);
  return result;
}

Overlaps overlaps(const MaskList& truth, const MaskList& prediction) {
  Overlaps result;
  for (const Rle* t : truth) result.truth_areas.push_back(area(*t));
  for (const Rle* p : prediction) result.prediction_areas.push_back(area(*p));
  for_each_overlap(truth, prediction, [&](size_t i, size_t j, int64_t pixels) {
    result.pairs.push_back({int32_t(i), int32_t(j), pixels});
  });
  return result;
}

Overlaps overlaps(std::span<const Rle> truth, std::span<const Rle> prediction) {
  return overlaps(pointers_to(truth), pointers_to(prediction));
}

Overlaps overlaps(std::span<const Instance> truth, std::span<const Instance> prediction) {
  return overlaps(masks_of(truth), masks_of(prediction));
}

double KaggleScore::map_iou() const { return mean_precision(strict); }
double KaggleScore::map_iou_compat() const { return mean_precision(compat); }

Matching match(const Overlaps& o, int percent) { return Matcher(o, percent).result(); }

Matching match_instances(std::span<const Instance> truth, std::span<const Instance> predictions, int percent) {
  const Matching without_crowds = match(overlaps(truth, predictions), percent);
  const auto places = [](std::span<const Instance> list) {
    std::vector<int32_t> at;
    for (size_t i = 0; i < list.size(); ++i)
      if (!list[i].crowd) at.push_back(int32_t(i));
    return at;
  };
  const std::vector<int32_t> truth_at = places(truth), prediction_at = places(predictions);
  Matching result{std::vector<int32_t>(truth.size(), -1), std::vector<int32_t>(predictions.size(), -1)};
  for (size_t t = 0; t < truth_at.size(); ++t) {
    if (without_crowds.prediction_of[t] < 0) continue;
    const int32_t p = prediction_at[size_t(without_crowds.prediction_of[t])];
    result.prediction_of[size_t(truth_at[t])] = p;
    result.truth_of[size_t(p)] = truth_at[t];
  }
  return result;
}

MatchCounts match_counts(const Overlaps& o, int percent, bool or_equal) {
  const Matching m = Matcher(o, percent, or_equal).result();
  const auto tp = int64_t(std::count_if(m.truth_of.begin(), m.truth_of.end(), [](int32_t t) { return t >= 0; }));
  return {tp, int64_t(m.truth_of.size()) - tp, int64_t(m.prediction_of.size()) - tp};
}

KaggleScore kaggle_score(const Overlaps& all) {
  const Overlaps o = strong_pairs(all);
  const auto truths = int64_t(o.truth_areas.size()), predictions = int64_t(o.prediction_areas.size());
  const bool plain = one_to_one(o);  // the rule, not the exception: there is nothing to choose then, and both scores count alike
  KaggleScore score;
  std::vector<int32_t> by_truth(o.truth_areas.size()), by_prediction(o.prediction_areas.size());
  for (int i = 0; i < num_iou_thresholds; ++i) {
    const int percent = 50 + 5 * i;
    if (plain) {
      const auto tp = std::count_if(o.pairs.begin(), o.pairs.end(), [&](const auto& p) { return matches(o, p, percent); });
      score.strict[size_t(i)] = score.compat[size_t(i)] = {tp, predictions - tp, truths - tp};
      continue;
    }
    score.strict[size_t(i)] = match_counts(o, percent);
    std::fill(by_truth.begin(), by_truth.end(), 0);
    std::fill(by_prediction.begin(), by_prediction.end(), 0);
    for (const Overlaps::Pair& p : o.pairs) {
      if (!matches(o, p, percent)) continue;
      ++by_truth[size_t(p.truth)];
      ++by_prediction[size_t(p.prediction)];
    }
    score.compat[size_t(i)] = {int64_t(std::count(by_prediction.begin(), by_prediction.end(), 1)),
                               int64_t(std::count(by_prediction.begin(), by_prediction.end(), 0)),
                               int64_t(std::count(by_truth.begin(), by_truth.end(), 0))};
  }
  return score;
}

KaggleScore kaggle_score(const Tensor& truth, const Tensor& prediction) { return kaggle_score(overlaps(truth, prediction)); }

double hard_dice(const Tensor& probability, const Tensor& target, double threshold) {
  int64_t both = 0, sum = 0;
  for_each_pixel(probability, target, "hard_dice", [&](double p, bool y) {
    both += p > threshold && y;
    sum += int64_t(p > threshold) + int64_t(y);
  });
  return sum ? 2. * double(both) / double(sum) : 1;
}

double soft_dice(const Tensor& probability, const Tensor& target, double smooth) {
  double both = 0, sum = 0;
  for_each_pixel(probability, target, "soft_dice", [&](double p, bool y) {
    both += y ? p : 0;
    sum += p + double(y);
  });
  return sum + smooth == 0 ? 1 : (2 * both + smooth) / (sum + smooth);
}

double binary_cross_entropy(const Tensor& probability, const Tensor& target, double clip) {
  double sum = 0;
  for_each_pixel(probability, target, "binary_cross_entropy", [&](double p, bool y) {
    p = std::clamp(p, clip, 1 - clip);
    sum -= std::log(y ? p : 1 - p);
  });
  return target.size() ? sum / double(target.size()) : 0;
}

double mask_dice(const Tensor& a, const Tensor& b) {
  GLIA_CHECK(a.size() == b.size(), "mask_dice: masks {} and {}", a.shape(), b.shape());
  int64_t both = 0, sum = 0;
  for (int64_t i = 0; i < a.size(); ++i) {
    const bool x = a.data<uint8_t>()[i] != 0, y = b.data<uint8_t>()[i] != 0;
    both += x && y;
    sum += int64_t(x) + int64_t(y);
  }
  return sum ? 2. * double(both) / double(sum) : 1;
}

}  // namespace glia
