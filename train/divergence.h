#pragma once
// What to say when a loss or a gradient is not finite: the step is run again on the same batches with every op looked at.
#include <string>
#include <vector>

#include "train/trainer.h"

namespace glia {

// Image n of a batch (N, H, W, C) as a picture (H, W, 3), pixels of which a channel is not finite in red.
Tensor picture_with_bad_pixels(const Tensor& images, int64_t n);

class Divergence {
 public:
  Divergence(Trainer& trainer, const StepRecord& record, const std::vector<Batch>& batches);

  // Step, first tensor that is not finite, loss terms, images, learning rate, recent gradient norms, likely causes; many lines.
  std::string report();
  // After report(): the same, and for each image what its augmentation was made of, all gradient norms that are remembered, and how
  // large the numbers of the last operations were.
  const std::string& details() const { return details_; }
  // The step's images as the network got them, pixels that are not finite in red, for a PNG. Absent where the batches hold no images.
  Tensor picture() const;

 private:
  std::string bad_parameter();  // "conv1.weight", or ""
  std::string bad_input();      // "image c (input 0 of the batch)", or ""
  std::string bad_op();         // "the output of conv2d (with conv1.weight), forward", or ""
  bool finite_in_float32();     // the step in float32, where it was in less
  std::string norms_text(size_t count) const;
  std::string more() const;
  std::string causes(const std::string& parameter, const std::string& input, const std::string& op);

  Trainer& trainer_;
  const StepRecord& record_;
  const std::vector<Batch>& batches_;
  std::vector<std::string> last_ops_;
  std::string details_;
};

}  // namespace glia
