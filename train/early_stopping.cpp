#include "train/early_stopping.h"

#include <cmath>

namespace glia {

bool higher_is_better(const std::string& metric) { return metric != "loss" && metric != "bce" && !metric.starts_with("loss_"); }

bool EarlyStopping::update(double value) {
  if (seen++ < start_from) return false;
  ++wait;
  const bool higher = higher_is_better(metric);
  const bool improved = best ? (higher ? value - min_delta > *best : value + min_delta < *best) : !std::isnan(value);
  if (improved) {
    best = value;
    wait = 0;
    return false;
  }
  return exhausted();
}

void EarlyStopping::save(TrainingState& state) const {
  state.set("early_stopping.metric", metric);
  if (best) state.set("early_stopping.best", *best);
  state.set("early_stopping.wait", wait);
  state.set("early_stopping.seen", seen);
}

void EarlyStopping::load(const TrainingState& state) {
  if (state.text("early_stopping.metric") != metric) return;  // another metric than before: counts anew
  best = state.number("early_stopping.best");
  wait = state.integer("early_stopping.wait", 0);
  seen = state.integer("early_stopping.seen", 0);
}

}  // namespace glia
