#pragma once
// Checkpoints without a training.
#include <filesystem>
#include <string>

#include "tests/paths.h"
#include "train/checkpoint.h"

namespace glia::tests {

// A small checkpoint whose numbers depend on the step.
inline Checkpoint checkpoint_of(int64_t step, int64_t size = 500) {
  Checkpoint c;
  c.model = "tiny";
  c.config = "[run]\nseed = 3\n";
  c.step = step;
  c.epoch = step / 10;
  c.seed = 3;
  c.best = "dice 0.5 at step 2";
  c.state.set("best.value", 0.1);
  c.state.set("count", int64_t(7));
  c.state.set("name", std::string("x\ny"));
  c.weights["conv.weight"] = Tensor::full({size}, 0.5 + static_cast<double>(step));
  c.weights["conv.bias"] = Tensor::full({3}, 0.25);
  c.optimizer["optimizer.steps"] = Tensor::full({}, static_cast<double>(step), DType::int64);
  c.optimizer["optimizer.exp_avg.conv.weight"] = Tensor::full({size}, 0.125);
  c.ema["conv.weight"] = Tensor::full({size}, 0.75);
  return c;
}

// Whether it is that of the step.
inline bool holds(const Checkpoint& c, int64_t step) {
  return c.step == step && c.weights.at("conv.weight").values<float>()[0] == 0.5f + static_cast<float>(step);
}

}  // namespace glia::tests
