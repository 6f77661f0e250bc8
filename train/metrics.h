#pragma once
// Metrics of masks: Kaggle's mean precision over IoU thresholds (Sartorius), dice, binary cross entropy, F1. Names are those of
// `glia evaluate`.
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "data/rle_overlaps.h"

namespace glia {

inline constexpr int num_iou_thresholds = 10;  // .50, .55, ... .95: threshold i is (50 + 5 i) percent

// Which true and predicted masks overlap, and by how much: all that the scores below need. Sparse: pairs without a common pixel
// are left out.
struct Overlaps {
  struct Pair {
    int32_t truth, prediction;  // indices
    int64_t intersection;       // pixels
  };
  std::vector<int64_t> truth_areas, prediction_areas;
  std::vector<Pair> pairs;  // by truth, then prediction
};
Overlaps overlaps(const Tensor& truth, const Tensor& prediction);  // label maps (H, W) int32; absent labels are left out
Overlaps overlaps(const MaskList& truth, const MaskList& prediction);
Overlaps overlaps(std::span<const Rle> truth, std::span<const Rle> prediction);
Overlaps overlaps(std::span<const Instance> truth, std::span<const Instance> prediction);  // crowds of the truth left out

struct MatchCounts {
  int64_t tp = 0, fp = 0, fn = 0;
  double precision() const { return tp + fp + fn ? double(tp) / double(tp + fp + fn) : 1; }  // Kaggle's: FN counted too
  double f1() const { return tp + fp + fn ? 2. * double(tp) / double(2 * tp + fp + fn) : 1; }
  MatchCounts& operator+=(const MatchCounts& o) {
    tp += o.tp, fp += o.fp, fn += o.fn;
    return *this;
  }
};

// A pair matches where IoU > t, decided in integers: 100 intersection > percent union.
// strict: the largest one-to-one matching. compat (the common public notebooks): TP = predictions with exactly one match, FP =
// predictions without any, FN = true masks without any.
struct KaggleScore {
  std::array<MatchCounts, num_iou_thresholds> strict, compat;
  double map_iou() const;  // mean of TP / (TP + FP + FN) over the thresholds; 1 where there is nothing to find nor found
  double map_iou_compat() const;
};
KaggleScore kaggle_score(const Overlaps& overlaps);
KaggleScore kaggle_score(const Tensor& truth, const Tensor& prediction);  // label maps
// strict, at one threshold; or_equal: IoU >= t, as Cellpose's and StarDist's average precision (which is precision()).
MatchCounts match_counts(const Overlaps& overlaps, int percent, bool or_equal = false);

// What becomes of each mask at one threshold: for pictures.
struct Matching {
  std::vector<int32_t> prediction_of;  // by truth: index or -1
  std::vector<int32_t> truth_of;       // by prediction
};
Matching match(const Overlaps& overlaps, int percent);
// By index into the given lists; crowds have no partner.
Matching match_instances(std::span<const Instance> truth, std::span<const Instance> predictions, int percent = 50);

// Semantic scores of one image: probability (any shape) float32, target uint8 of the same size. Both empty: dice 1.
double hard_dice(const Tensor& probability, const Tensor& target, double threshold = 0.5);  // p > threshold
double soft_dice(const Tensor& probability, const Tensor& target, double smooth = 1);  // (2 sum(p y) + s) / (sum p + sum y + s)
double binary_cross_entropy(const Tensor& probability, const Tensor& target, double clip = 1e-7);  // mean; Keras' clip
double mask_dice(const Tensor& a, const Tensor& b);                                                // two masks, uint8

}  // namespace glia
