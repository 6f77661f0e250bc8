#pragma once
// What a training in tf32 or bf16 on a device does first: a fault of a kernel for just this GPU or precision, or a model that needs
// more digits than these hold, shows in the first batch, not after a night.
#include <string>

#include "train/trainer.h"

namespace glia {

class PrecisionCheck {
 public:
  // `losses`: those that are compared; empty: all, their sum and the gradient's norm.
  PrecisionCheck(Trainer& trainer, std::vector<std::string> losses = {}) : trainer_(trainer), losses_(std::move(losses)) {}

  // Losses and gradient norm of the next batch, in precision() and in float32 by hand-written kernels, from the same weights and the
  // same random numbers. Returns a line that says how far they are apart; "" where nothing is to be compared (the CPU, float32, losses
  // that float32 does not find finite). Throws DeviceError where they are further apart than rounding explains. Trainer, model and
  // loader are as before, but for the gradients.
  std::string run();

 private:
  struct Measured {
    NamedValues values;  // each loss, their weighted sum, and the gradient's norm
    double total = 0;
  };
  Measured measure(const Batch& batch);

  Trainer& trainer_;
  std::vector<std::string> losses_;
};

}  // namespace glia
