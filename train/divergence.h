#pragma once
// What to say when a loss or a gradient is not finite: the step is run again on the same batches with every op looked at.
#include <string>
#include <vector>

#include "train/trainer.h"

namespace glia {

class Divergence {
 public:
  Divergence(Trainer& trainer, const StepRecord& record, const std::vector<Batch>& batches);

  // Step, first tensor that is not finite, loss terms, images, learning rate, recent gradient norms, likely causes; many lines.
  std::string report();

 private:
  std::string bad_parameter();  // "conv1.weight", or ""
  std::string bad_input();      // "image c (input 0 of the batch)", or ""
  std::string bad_op();         // "the output of conv2d (with conv1.weight), forward", or ""
  bool finite_in_float32();     // the step in float32, where it was in less
  std::string causes(const std::string& parameter, const std::string& input, const std::string& op);

  Trainer& trainer_;
  const StepRecord& record_;
  const std::vector<Batch>& batches_;
};

}  // namespace glia
