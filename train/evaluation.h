#pragma once
// All metrics of a set of predictions against a data set: what `glia evaluate` reports, with its JSON keys as member names.
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "data/instance.h"
#include "train/coco_eval.h"
#include "train/metrics.h"

namespace glia {

struct Scores {
  double map_iou = 0;         // mean over images (per image: over thresholds) of TP / (TP + FP + FN), one-to-one
  double map_iou_compat = 0;  // the same by the public notebooks' counts
  std::array<double, num_iou_thresholds> precision_at{};  // map_iou by threshold
  double f1_at_50 = 0;                                    // 2 TP / (2 TP + FP + FN) at IoU > .5, counts added up over the images
  // Of the foreground (the union of the instances), mean over images. bce takes the predicted masks as probabilities 0 and 1,
  // clipped to 1e-7: a trainer that has the network's probabilities replaces both.
  double dice = 0, bce = 0;
  CocoSummary bbox, segm;
  CocoCurves curves;  // of masks; empty for single images
  int64_t n_images = 0, n_truth = 0, n_pred = 0;
};

struct Evaluation : Scores {
  std::vector<std::pair<std::string, Scores>> per_class;  // by category name; only where the truth has several categories
  std::vector<std::pair<std::string, Scores>> per_image;  // by Sample::id
  CocoProtocol protocol;
  std::vector<std::string> warnings;

  std::string to_json() const;  // one object, indented
  std::string table() const;    // for a terminal: one column for all images, one per class
};

struct EvaluateOptions {
  CocoProtocol protocol;
  bool per_image = true;
};

// Counts exactly the images of `truth`: one without a prediction has zero detections and is counted in a warning. Crowds are left
// out but for COCO's numbers. Categories are matched by name. Predictions of a single category that the truth does not have (a
// submission, label maps of cells), and any where the truth has but one (with a warning), are taken as unclassified: then COCO's numbers are over one category, and per_class groups
// the images by the category of most of their instances.
// Truth without any instance is an answer (n_truth 0) with a warning. Another tells when COCO's numbers leave detections out, because an image has more than the last limit.
// Throws DataError for a prediction of an unknown image, a predicted category that a truth of several lacks, masks of another size, and a
// score that is not a finite number; UsageError for limits that do not ascend from 1.
Evaluation evaluate(const Dataset& truth, const Dataset& predictions, const EvaluateOptions& options = {});

}  // namespace glia
