#pragma once
// What is in a region and where exactly its box is: the second stage of Faster R-CNN (Ren et al. 2015), by detectron2's names: box_head.fc1,
// box_predictor.cls_score, ... K = num_classes; label K is background.
#include <deque>

#include "models/detection.h"
#include "models/mask_rcnn_options.h"
#include "models/segmenter.h"

namespace glia {

// Regions of a batch, image by image.
struct Rois {
  Tensor boxes;                // (R, 4) on the network's device
  std::vector<int64_t> image;  // (R)
};
// With what they are compared with in training.
struct LabelledRois : Rois {
  std::vector<int64_t> classes;   // (R), K: background
  std::vector<int64_t> instance;  // (R) row of the GroundTruth; of no meaning for background
};

struct BoxPredictions {
  Tensor scores;  // (R, K + 1) logits
  Tensor deltas;  // (R, 4K), or (R, 4) when they do not depend on the class
};

// Convolutions (none by default), then linear layers, each with a ReLU. (R, size, size, C) -> (R, fc_dim).
class BoxHead : public Module {
 public:
  BoxHead(const RoiHeadsOptions& options, int64_t channels);
  Tensor operator()(const Tensor& pooled);

 private:
  std::deque<nn::ConvNorm2d> conv_;
  std::deque<nn::Linear> fc_;
};

class BoxPredictor : public Module {
 public:
  BoxPredictor(const RoiHeadsOptions& options, const std::array<double, 4>& weights);
  BoxPredictions operator()(const Tensor& x);

  // loss_cls: mean cross entropy over all regions. loss_box_reg: smooth L1 of the deltas of the region's class, summed over those that
  // are not background and divided by the number of all.
  NamedLosses losses(const BoxPredictions& predictions, const LabelledRois& rois, const GroundTruth& truth) const;
  // (R, 4K) or (R, 4)
  Tensor boxes(const BoxPredictions& predictions, const Tensor& boxes) const;

 private:
  RoiHeadsOptions options_;
  std::array<double, 4> weights_;
  nn::Linear cls_score_, bbox_pred_;
};

// Boxes of one image above a score, rid of those that overlap a better one of their class. boxes (R, 4K) or (R, 4), probabilities
// (R, K + 1), both on the host. Rows that are not finite are left out.
struct DetectionRule {
  double score_thresh = 0.05;
  double nms_thresh = 0.5;
  int64_t detections_per_image = 100;  // negative: all
  double min_size = 0;                 // boxes have to be at least as wide and high
};
struct SelectedBoxes {
  Tensor boxes, scores, classes;  // (D, 4), (D), (D) int64
  std::vector<int64_t> rows;      // (D): of the input
};
SelectedBoxes select_detections(const DetectionRule& rule, const Tensor& boxes, const Tensor& probabilities,
                                std::array<int64_t, 2> size, Device device = {});

// detectron2's fast_rcnn/... of scores (R, K + 1) and the true classes.
NamedValues box_statistics(const Tensor& scores, std::span<const int64_t> classes);

}  // namespace glia
