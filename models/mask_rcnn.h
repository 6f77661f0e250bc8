#pragma once
// Mask R-CNN (He, Gkioxari, Dollar and Girshick 2017) on a feature pyramid (Lin et al. 2017), by detectron2's layers, names and
// numbers. Three parts: backbone (images -> features p2..p6), proposal_generator (features -> boxes that may hold an object),
// roi_heads (boxes -> classes, better boxes, masks).
#include <array>
#include <memory>
#include <span>
#include <vector>

#include "data/mask_patches.h"
#include "models/mask_rcnn_options.h"
#include "models/segmenter.h"
#include "nn/module.h"

namespace glia {

// The instances of a batch; those of image n are [first[n], first[n + 1]). Boxes and masks in pixels of the network's input.
struct GroundTruth {
  std::vector<int64_t> first;  // N + 1
  Tensor boxes;                // (G, 4) float32: x1, y1, x2, y2
  Tensor classes;              // (G) int64 in [0, K)
  MaskPatches masks;           // of G instances
};

// What was found in one image, best first, on the host and in pixels of the network's input.
struct Detections {
  Tensor boxes;       // (D, 4) float32
  Tensor scores;      // (D) float32
  Tensor classes;     // (D) int64
  Tensor mask_probs;  // (D, 28, 28) float32: probability of the box's own class; absent without a mask head
};

// Which candidates a training step looks at. The model's own sampler draws by Module::set_random's (seed, step).
class Sampler {
 public:
  enum class Stage { anchors, rois };
  virtual ~Sampler() = default;
  // `count` of the candidates (ascending indices into the anchors, or into the proposals with the instances' boxes after them).
  virtual std::vector<int64_t> pick(Stage stage, int64_t image, std::span<const int64_t> candidates, int64_t count) = 0;
};

struct MaskRcnnParts;  // backbone, proposal_generator, roi_heads

class MaskRcnn : public Module {
 public:
  explicit MaskRcnn(const MaskRcnnOptions& options);
  ~MaskRcnn() override;

  // images (N, H, W, 3) float32: normalised, then padded with zeros at the bottom and the right to multiples of 32; sizes: height
  // and width of each before padding. Losses loss_cls, loss_box_reg, loss_mask, loss_rpn_cls, loss_rpn_loc, each a scalar. Throws
  // UsageError for sizes that are no multiples of 32, DataError where predictions are not finite.
  NamedLosses losses(const Tensor& images, std::span<const std::array<int64_t, 2>> sizes, const GroundTruth& truth,
                     Sampler* sampler = nullptr);
  // Eval mode and NoGrad are the caller's.
  std::vector<Detections> detect(const Tensor& images, std::span<const std::array<int64_t, 2>> sizes);

  // What detectron2 logs of a training step, by its names (rpn/num_pos_anchors, fast_rcnn/cls_accuracy, ...): of the last call of
  // losses(). Computed here, so that a step pays nothing when nobody asks.
  NamedValues statistics() const;

  const MaskRcnnOptions& options() const { return options_; }
  MaskRcnnParts& parts() { return *parts_; }

 private:
  MaskRcnnOptions options_;
  std::unique_ptr<MaskRcnnParts> parts_;
};

}  // namespace glia
