#pragma once
// Early stopping as Keras' EarlyStopping callback (version 3), counted in evaluations: a value improves on the best when it is
// strictly better by more than min_delta; `patience` evaluations in a row without that stop the training, though never the first.
// One difference: a NaN as the first value does not become the best for ever.
#include <cstdint>
#include <optional>
#include <string>

#include "train/checkpoint.h"

namespace glia {

// Whether a larger value of this validation metric is better. Losses (loss, loss_NAME, bce, ...) are to fall, all else to rise.
bool higher_is_better(const std::string& metric);

struct EarlyStopping {
  std::string metric = "loss";
  int64_t patience = 0;  // 0: stops at the first value that does not improve
  double min_delta = 0;
  int64_t start_from = 0;  // values before this many evaluations are not looked at

  std::optional<double> best{};
  int64_t wait = 0;  // evaluations since the best
  int64_t seen = 0;

  bool update(double value);  // true: stop now
  bool exhausted() const { return wait > 0 && wait >= patience && seen > 1; }

  void save(TrainingState& state) const;
  void load(const TrainingState& state);
};

}  // namespace glia
