#pragma once
// How `glia compare` fits a training into a budget of time.
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "train/config.h"

namespace glia {

// "90s", "30m", "1.5h" in seconds. UsageError.
double parse_duration(const std::string& text);

// Settings of a short training whose steps are timed, and the evaluation of some images at its end; the first steps warm up, the last four
// count.
std::vector<std::string> plan_of_probe();

// What the probe in the folder `run` took.
struct Pace {
  double step_seconds = 0;
  double image_seconds = 0;  // of evaluating a validation image
};
// Nothing where it took no step.
std::optional<Pace> pace_of_probe(const std::filesystem::path& run, const SolverConfig& solver, int64_t validation_images);

struct ImageCounts {
  int64_t training = 0, validation = 0;  // no validation images: no evaluation
};

// Settings of a training of as many steps as fit in 85 % of `budget` seconds, or of the recipe's own number if that is smaller; `steps` receives
// it. What the schedule places at steps or epochs moves along. The rest is for evaluations: five of all validation images, or where that
// takes longer fewer, and of some of the images.
std::vector<std::string> plan_of_training(const Config& config, const ImageCounts& images, const Pace& pace, double budget,
                                          int64_t& steps);

// The last `count` steps of a run's metrics.jsonl that are there as a whole, in their order; none where the file is not there.
struct LoggedStep {
  int64_t step = 0;
  double images_per_s = 0, loss = 0, memory = 0;  // memory: the most bytes of tensors on the device so far
};
std::vector<LoggedStep> last_steps(const std::filesystem::path& run, size_t count);

}  // namespace glia
