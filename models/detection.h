#pragma once
// What the parts of a detector hand to each other. Boxes are x1, y1, x2, y2 in pixels of the network's input.
#include <array>
#include <span>
#include <vector>

#include "kernels/masks.h"

namespace glia {

using ImageSizes = std::span<const std::array<int64_t, 2>>;  // height and width of each image, before padding

// The instances of a batch; those of image n are [first[n], first[n + 1]).
struct GroundTruth {
  std::vector<int64_t> first;  // N + 1
  Tensor boxes;                // (G, 4) float32
  Tensor classes;              // (G) int64 in [0, K)
  MaskPatches masks;           // of G instances
  Tensor pixel_weights{};      // (N, H, W, 1) float32, of the images after padding, for loss_mask; absent: all 1
};

// Boxes of one image that may hold an object, best first, on the host.
struct Proposals {
  Tensor boxes;   // (P, 4) float32
  Tensor logits;  // (P) float32
};

// What was found in one image, best first, on the host.
struct Detections {
  Tensor boxes;       // (D, 4) float32
  Tensor scores;      // (D) float32
  Tensor classes;     // (D) int64
  Tensor mask_probs;  // (D, 28, 28) float32: probability of the box's own class; absent without a mask head
  // (D) float32: what masks are ranked by, scores x the predicted IoU, of which less than 0 counts as 0 and more than 1 as 1; absent without
  // mask scoring.
  Tensor mask_scores{};
};

// The same detections in an image of another size (height, width), clipped to it; boxes without area are left out (detectron2's
// detector_postprocess). Masks are pasted afterwards (paste_masks, data/mask_patches.h).
Detections rescaled(const Detections& detections, std::array<int64_t, 2> from, std::array<int64_t, 2> to);

// Which candidates a training step looks at.
class Sampler {
 public:
  enum class Stage { anchors, rois };
  virtual ~Sampler() = default;
  // `count` of the candidates, which are ascending indices into the anchors, or into the proposals and the instances after them.
  virtual std::vector<int64_t> pick(Stage stage, int64_t image, std::span<const int64_t> candidates, int64_t count) = 0;
};

// Uniform, without repetition: a function of (seed, stream, stage, image).
class RandomSampler : public Sampler {
 public:
  RandomSampler(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}
  std::vector<int64_t> pick(Stage stage, int64_t image, std::span<const int64_t> candidates, int64_t count) override;

 private:
  uint64_t seed_, stream_;
};

// Candidates by their label: positives, at most fraction batch_size of them, and negatives for the rest of batch_size.
struct BalancedSample {
  std::vector<int64_t> positives, negatives;
};
BalancedSample balanced_sample(Sampler& sampler, Sampler::Stage stage, int64_t image, std::span<const int64_t> positives,
                               std::span<const int64_t> negatives, int64_t batch_size, double fraction);

// Indices on the host as an int64 tensor on the device.
Tensor index_tensor(std::span<const int64_t> indices, Device device);

}  // namespace glia
