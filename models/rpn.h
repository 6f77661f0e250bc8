#pragma once
// Region proposal network (Ren et al. 2015) on a feature pyramid, by detectron2's names: rpn_head.conv, .objectness_logits,
// .anchor_deltas. A = anchors at each place; anchors are numbered by level, y, x, anchor.
#include <deque>

#include "models/detection.h"
#include "models/fpn.h"
#include "models/segmenter.h"

namespace glia {

// Two predictions for each anchor, one tensor for each level of the pyramid.
struct RpnPredictions {
  std::vector<Tensor> logits;  // (N, H, W, A): how much it looks like an object
  std::vector<Tensor> deltas;  // (N, H, W, 4A): how to move it (BoxDecode)
};

class RpnHead : public Module {
 public:
  RpnHead(int64_t channels, int64_t anchors, int64_t num_conv);
  RpnPredictions operator()(const Pyramid& features);

 private:
  std::deque<nn::Conv2d> conv_;
  nn::Conv2d objectness_logits_, anchor_deltas_;
};

class Rpn : public Module {
 public:
  Rpn(const RpnOptions& options, int64_t channels);

  RpnPredictions predict(const Pyramid& features) { return head_(features); }

  // Anchors are matched with the instances' boxes by IoU and a sample of them is scored: loss_rpn_cls (binary cross entropy), loss_rpn_loc
  // (smooth L1 of the deltas of positives). Both are divided by the number of anchors that was asked for.
  NamedLosses losses(const RpnPredictions& predictions, const GroundTruth& truth, Sampler& sampler);

  // Of each image: the best anchors of each level moved, clipped to the image, rid of those that overlap a better one of their level. No
  // gradient goes through them. Throws DivergedError in training where a prediction is not finite; else such boxes are left out.
  std::vector<Proposals> proposals(const RpnPredictions& predictions, ImageSizes sizes) const;

  // Of the last losses(): means over its images.
  NamedValues statistics() const;

  // All anchors of the levels (sum of H W A, 4), and where each level begins in them (levels + 1).
  struct AnchorGrid {
    Tensor boxes;
    std::vector<int64_t> first;
    std::vector<std::array<int64_t, 2>> sizes;
  };
  const AnchorGrid& anchors(const RpnPredictions& predictions) const;

  // Labels of all anchors for one image before sampling: 1 object, 0 background, -1 ignored; and the instance each overlaps most. On the
  // host.
  struct Labels {
    Tensor labels, matches;  // (anchors) int64
  };
  Labels match(const AnchorGrid& grid, const Tensor& boxes) const;

 private:
  RpnOptions options_;
  RpnHead head_;
  mutable AnchorGrid grid_;  // of the last size of features
  double positives_ = 0, negatives_ = 0;
};

// The last part of Rpn::proposals, of one image: boxes already moved, the best of each level, (P, 4); logits (P); level (P) int64. On the
// host.
struct ProposalRule {
  double nms_thresh = 0.7;
  double min_size = 0;
  int64_t post_nms_topk = 1000;
  bool training = false;
};
Proposals select_proposals(const ProposalRule& rule, const Tensor& boxes, const Tensor& logits, const Tensor& level,
                           std::array<int64_t, 2> size, Device device = {});

}  // namespace glia
