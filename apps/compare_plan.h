#pragma once
// How `glia compare` fits a training into a budget of time.
#include <filesystem>
#include <string>
#include <vector>

#include "train/config.h"

namespace glia {

// "90s", "30m", "1.5h" in seconds. UsageError.
double parse_duration(const std::string& text);

// Settings of a short training whose steps are timed; the first ones warm up, the last four count.
std::vector<std::string> plan_of_probe();

// Settings of a training of as many steps as fit in `budget` seconds, less a share for evaluations, or of the recipe's own number if that is
// smaller; `steps` receives it. What the schedule places at steps moves along. Five evaluations.
std::vector<std::string> plan_of_training(const SolverConfig& solver, double step_seconds, double budget, int64_t& steps);

// The last `count` steps of a run's metrics.jsonl that are there as a whole, in their order; none where the file is not there.
struct LoggedStep {
  int64_t step = 0;
  double images_per_s = 0, loss = 0, memory = 0;  // memory: the most bytes of tensors on the device so far
};
std::vector<LoggedStep> last_steps(const std::filesystem::path& run, size_t count);

}  // namespace glia
