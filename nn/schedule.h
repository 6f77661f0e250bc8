#pragma once
// Learning rates as pure functions of the step, so that a resumed run needs no schedule state; only ReduceOnPlateau remembers.
// Step i (from 0) uses lr_at(i).
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace glia {

// `kind`, with t the step, T `total`:
//   constant
//   poly             lr (1 - min(t, T) / T)^power
//   step             lr gamma^(t / step_size, rounded down)
//   multistep        lr gamma^(number of milestones <= t)
//   exponential      lr gamma^t
//   cosine           end + (lr - end) (1 + cos(pi t / T)) / 2
//   cosine_restarts  the same in cycles of length period, period multiply, period multiply^2, ... (SGDR)
//   one_cycle        max_lr / div -> max_lr in the first warm_fraction of T, then -> max_lr / div / final_div; cosine or linear
//   anneal;
//                    momentum the other way round (Smith and Topin; PyTorch's OneCycleLR)
//   cellpose         linear from 0 over 10 steps, constant, and at the end ten halvings of 10 (T > 300) or 5 (T > 100) steps; `period`
//                    steps (0: 1) count as one here: Cellpose counts epochs
//   warmup_cosine, warmup_multistep   detectron2's of today: the warm-up is a line from warmup_factor lr to the schedule's value
//   at
//                    warmup_steps. lr falls to `end`
// Every other kind is multiplied by the warm-up of warmup_steps steps (detectron2's old form): warmup_factor where constant, else
// a line from warmup_factor to 1.
struct Schedule {
  std::string kind = "constant";
  double lr = 0.001;
  int64_t total = 0;
  int64_t warmup_steps = 0;
  double warmup_factor = 0.001;
  bool warmup_constant = false;
  double end = 0;
  double power = 0.9;
  double gamma = 0.1;
  int64_t step_size = 0;
  std::vector<int64_t> milestones{};  // ascending
  int64_t period = 0;
  int64_t multiply = 1;
  double max_lr = 0;
  double warm_fraction = 0.3;
  double div = 25;
  double final_div = 1e4;
  bool linear_anneal = false;
  double momentum_low = 0.85;
  double momentum_high = 0.95;

  // Throws UsageError for an unknown kind (lists the known ones) or a parameter that the kind cannot do without.
  void validate() const;
  double lr_at(int64_t step) const;
  std::optional<double> momentum_at(int64_t step) const;  // one_cycle only

  static const std::vector<std::string>& kinds();
};

// PyTorch's ReduceLROnPlateau: after more than `patience` evaluations without improvement, lr *= factor, not below min_lr; then
// `cooldown` evaluations don't count. The state is public: it goes into checkpoints.
struct ReduceOnPlateau {
  double lr = 0.001;
  bool maximize = false;
  double factor = 0.1;
  int64_t patience = 10;
  double threshold = 1e-4;
  bool threshold_absolute = false;  // else relative to the best
  int64_t cooldown = 0;
  double min_lr = 0;

  std::optional<double> best{};
  int64_t bad_evaluations = 0;
  int64_t cooling = 0;

  // Takes the metric of one evaluation; returns the lr from now on.
  double update(double metric);
};

}  // namespace glia
