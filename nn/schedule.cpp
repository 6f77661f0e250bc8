#include "nn/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "tensor/error.h"

namespace glia {
namespace {

// From 1 at where = 0 to 0 at where = 1.
double half_cosine(double where) { return 0.5 * (1 + std::cos(std::numbers::pi * where)); }

int64_t passed(const std::vector<int64_t>& milestones, int64_t step) {
  return std::upper_bound(milestones.begin(), milestones.end(), step) - milestones.begin();
}

double restarts(const Schedule& s, int64_t step) {
  int64_t length = s.period, t = step;
  while (t >= length) {
    t -= length;
    length *= s.multiply;
  }
  return s.end + (s.lr - s.end) * half_cosine(double(t) / double(length));
}

// PyTorch ends the first phase at warm_fraction * total - 1, which need not be a whole number.
double one_cycle(const Schedule& s, int64_t step, double start, double top, double end) {
  const double t = double(step), peak = s.warm_fraction * double(s.total) - 1, last = double(s.total - 1);
  const bool rising = t <= peak;
  const double where = rising ? t / peak : std::min((t - peak) / (last - peak), 1.0);
  const double from = rising ? start : top, to = rising ? top : end;
  return s.linear_anneal ? from + (to - from) * where : to + (from - to) * half_cosine(where);
}

double cellpose(const Schedule& s, int64_t step) {
  constexpr int64_t ramp = 10, halvings = 10;
  const int64_t unit = std::max<int64_t>(1, s.period), total = (s.total + unit - 1) / unit;
  step /= unit;
  const int64_t plateau = total > 300 ? 10 : total > 100 ? 5 : 0;
  const int64_t falling = total - halvings * plateau;
  if (plateau > 0 && step >= falling) {
    const double before = falling - 1 < ramp ? s.lr * double(falling - 1) / (ramp - 1) : s.lr;
    return before * std::pow(0.5, double((step - falling) / plateau + 1));
  }
  return step < ramp ? s.lr * double(step) / (ramp - 1) : s.lr;
}

bool is_detectron2(const Schedule& s) { return s.kind == "warmup_cosine" || s.kind == "warmup_multistep"; }

double detectron2_main(const Schedule& s, int64_t step) {
  if (s.kind == "warmup_cosine") return s.end + (s.lr - s.end) * half_cosine(double(step) / double(s.total));
  return s.lr * std::pow(s.gamma, double(passed(s.milestones, step)));
}

double detectron2(const Schedule& s, int64_t step) {
  if (step >= s.warmup_steps) return detectron2_main(s, step);
  const double start = s.warmup_factor * detectron2_main(s, 0);
  if (s.warmup_constant) return start;
  const double where = double(step) / double(s.warmup_steps);
  return detectron2_main(s, s.warmup_steps) * where + start * (1 - where);
}

double plain(const Schedule& s, int64_t step) {
  const double t = double(step), total = double(s.total);
  if (s.kind == "poly") return s.lr * std::pow(1 - std::min(t, total) / total, s.power);
  if (s.kind == "step") return s.lr * std::pow(s.gamma, double(step / s.step_size));
  if (s.kind == "multistep") return s.lr * std::pow(s.gamma, double(passed(s.milestones, step)));
  if (s.kind == "exponential") return s.lr * std::pow(s.gamma, t);
  if (s.kind == "cosine") return s.end + (s.lr - s.end) * half_cosine(t / total);
  if (s.kind == "cosine_restarts") return restarts(s, step);
  if (s.kind == "one_cycle") return one_cycle(s, step, s.max_lr / s.div, s.max_lr, s.max_lr / s.div / s.final_div);
  if (s.kind == "cellpose") return cellpose(s, step);
  return s.lr;
}

}  // namespace

const std::vector<std::string>& Schedule::kinds() {
  static const std::vector<std::string> names{
      "constant",        "poly",      "step",     "multistep",     "exponential",     "cosine",
      "cosine_restarts", "one_cycle", "cellpose", "warmup_cosine", "warmup_multistep"};
  return names;
}

void Schedule::validate() const {
  if (std::find(kinds().begin(), kinds().end(), kind) == kinds().end()) {
    std::string known;
    for (const std::string& name : kinds()) known += (known.empty() ? "" : ", ") + name;
    throw UsageError("schedule: \"{}\" is unknown; known are {}", kind, known);
  }
  const auto need = [&](bool used, int64_t value, const char* name) {
    if (used && value < 1) throw UsageError("schedule {}: {} is {}, want at least 1", kind, name, value);
  };
  need(kind == "poly" || kind == "cosine" || kind == "one_cycle" || kind == "cellpose" || kind == "warmup_cosine", total,
       "total");
  need(kind == "step", step_size, "step_size");
  need(kind == "cosine_restarts", period, "period");
  need(kind == "cosine_restarts", multiply, "multiply");
  if (kind == "one_cycle" && !(max_lr > 0)) throw UsageError("schedule one_cycle: max_lr is {}, want more than 0", max_lr);
  if (!std::is_sorted(milestones.begin(), milestones.end())) throw UsageError("schedule {}: the milestones must ascend", kind);
  if (!(lr >= 0) || !std::isfinite(lr)) throw UsageError("schedule {}: lr is {}, want a number of at least 0", kind, lr);
}

double Schedule::lr_at(int64_t step) const {
  if (is_detectron2(*this)) return detectron2(*this, step);
  const double value = plain(*this, step);
  if (step >= warmup_steps) return value;
  const double where = warmup_constant ? 0 : double(step) / double(warmup_steps);
  return value * (warmup_factor * (1 - where) + where);
}

std::optional<double> Schedule::momentum_at(int64_t step) const {
  if (kind != "one_cycle") return std::nullopt;
  return one_cycle(*this, step, momentum_high, momentum_low, momentum_high);
}

double ReduceOnPlateau::update(double metric) {
  const auto improved = [&] {
    if (!best) return !std::isnan(metric);
    const double margin = threshold_absolute ? threshold : threshold * *best;
    return maximize ? metric > *best + margin : metric < *best - margin;
  };
  if (improved()) {
    best = metric;
    bad_evaluations = 0;
  } else {
    ++bad_evaluations;
  }
  if (cooling > 0) {
    --cooling;
    bad_evaluations = 0;
  }
  if (bad_evaluations > patience) {
    constexpr double smallest_change = 1e-8;
    const double reduced = std::max(lr * factor, min_lr);
    if (lr - reduced > smallest_change) lr = reduced;
    cooling = cooldown;
    bad_evaluations = 0;
  }
  return lr;
}

}  // namespace glia
