#pragma once
// Score thresholds and minimum sizes per class that suit a validation set: `glia evaluate --tune`.
//
// What is searched is what `predict` does with its detections: those of a class below the class's score threshold are dropped; the rest,
// by falling score, each lose the pixels that an earlier one has, and are dropped where fewer remain than the class's minimum
// size. (The usual post-processing of the Sartorius competition; the detections come from a run with a low score threshold.)
#include <cstdint>
#include <string>
#include <vector>

#include "data/instance.h"

namespace glia {

struct ThresholdSearchOptions {
  std::string metric = "map_iou";    // or map_iou_compat, f1_at_50
  std::vector<double> thresholds{};  // to try; empty: .05, .10, ... .95, then the best by steps of .01
  std::vector<int64_t> min_sizes{};  // pixels, to try; empty: shares of the median size of the class's true masks, 0 to a half
  bool class_of_image = false;       // the settings that count are those of the class that most predictions of the image have
};

struct ClassSettings {
  double score_threshold = 0;
  int64_t min_size = 0;
  bool operator==(const ClassSettings&) const = default;
};

struct ThresholdSearch {
  struct Row {
    std::string name;  // "as predicted", "score >= 0.5", "tuned"
    double map_iou = 0, map_iou_compat = 0, f1_at_50 = 0;
    int64_t instances = 0;
  };
  std::string metric;
  std::vector<std::string> classes;      // of the predictions
  std::vector<ClassSettings> settings;   // the best, by class
  std::vector<int64_t> predicted, kept;  // instances by class of their own, before and after
  bool class_of_image = false;
  std::vector<Row> rows;          // all with overlaps removed
  int64_t images = 0, tried = 0;  // tried: settings
  std::vector<std::string> warnings;

  std::string table() const;    // for a terminal
  std::string to_toml() const;  // settings of a recipe, for predict: [eval] class_thresholds, min_sizes, ...
};

// One class: all combinations. Several: the best settings common to all, then each class in turn over all of its combinations while the others
// stay, until nothing improves; where every image holds one class and the metric is a mean over images that is the best of all combinations.
// Of equal settings the first that was tried stays. Predictions for the samples of `truth`, in its order (as
// open_predictions gives them). Throws UsageError for an unknown metric, DataError as evaluate() does and where there is nothing
// to tune: no true instance, or no prediction.
ThresholdSearch search_thresholds(const Dataset& truth, const Dataset& predictions, const ThresholdSearchOptions& options = {});

}  // namespace glia
