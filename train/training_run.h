#pragma once
// TrainingRun: a run's folder and the loop around Trainer::step(): evaluate, save, stop, resume.
//
//   TrainingRun run(config, {.folder = "RUN", .resume = "auto"});     // checks the folder, reads the checkpoint: exit codes 2,
//   4, 3
//   ... read the data, build model and loader ...
//   const TrainingResult result = run.execute({.model = net, .losses = ..., .loader = loader, .evaluate = ...});
//
// After any step: what is due is evaluated, then saved, so a checkpoint of step k holds everything up to and including k's
// evaluation. That, and data order and randomness that depend on (seed, step) alone, makes a resumed run equal to the bit.
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "train/checkpoint.h"
#include "train/config.h"
#include "train/hooks.h"
#include "train/trainer.h"

namespace glia {

struct TrainingRunOptions {
  std::filesystem::path folder;  // RUN
  std::string resume{};  // "": a new run; "auto": from RUN's newest good checkpoint, or anew; else a checkpoint or a run's folder
  bool overwrite = false;  // a RUN that holds a run is emptied of it
  bool quiet = false;
  std::string command{};  // `glia train ...` with recipe and data, for the report of a step that diverged
};

struct TrainingParts {
  Module& model;
  LossFunction losses;
  Loader& loader;
  // Validation metrics of the model as it is (eval mode, averaged weights, no recording are set up around the call), or nothing
  // when stop_requested() became true on the way. Empty function: no validation set.
  std::function<std::optional<NamedValues>()> evaluate{};
  // What evaluate gives, to check the configuration's metrics before training. May be empty.
  std::vector<std::string> metric_names{};
  // Losses that a lower precision changes by rounding alone, for run.check_precision; empty: all.
  std::vector<std::string> stable_losses{};
  // The run goes into its folder from here on: what else belongs there is to be written.
  std::function<void()> begun{};
  PicturesHook::Draw pictures{};
  std::vector<std::string> notes{};  // for the terminal and the log, before the first step
};

enum class TrainingEnd { finished, stopped_early, interrupted };

struct TrainingResult {
  TrainingEnd end = TrainingEnd::finished;
  int64_t steps = 0;
  int64_t epochs = 0;
  std::string best;  // "map_iou 0.3127 at step 1200", or ""
  NamedValues last_evaluation;
  double seconds = 0;
  ExitCode exit_code() const { return end == TrainingEnd::interrupted ? ExitCode::interrupted : ExitCode::ok; }
};

class TrainingRun {
 public:
  // Makes or opens the folder. UsageError: it holds a run already, or the configuration differs from the one that is resumed;
  // IoError: it cannot be written to; DataError: checkpoints are there but none can be used.
  TrainingRun(Config config, TrainingRunOptions options);

  const Config& config() const { return config_; }
  const std::filesystem::path& folder() const { return options_.folder; }
  const CheckpointFolder& checkpoints() const { return checkpoints_; }
  bool resuming() const { return resumed_.has_value(); }
  // The names of the classes, where the configuration leaves them to the data. A resumed run keeps its own.
  void set_classes(const std::vector<std::string>& names);

  // Adds a hook behind the standard ones.
  void add_hook(std::unique_ptr<Hook> hook) { extra_hooks_.push_back(std::move(hook)); }

  // Trains to the limit, or until a signal or early stopping. Throws DivergedError as run.on_nan has it, IoError of a checkpoint
  // (with checkpoint.on_error = "warn" of the last one only), and what the parts throw. A SIGINT, SIGTERM or SIGUSR1 ends it
  // after the step under way, saved.
  TrainingResult execute(const TrainingParts& parts);

 private:
  void open_folder();
  void begin();
  void find_checkpoint();
  void say(const std::string& text);

  Config config_;
  TrainingRunOptions options_;
  CheckpointFolder checkpoints_;
  Progress progress_;
  std::unique_ptr<LineFile> log_;
  std::optional<CheckpointFolder::Found> resumed_;
  std::vector<std::unique_ptr<Hook>> extra_hooks_;
};

// UsageError where a metric that the configuration names (eval.metric, checkpoint.save_best, ...) is not among those known; none
// known: nothing is checked.
void check_metrics(const Config& config, const std::vector<std::string>& known);

}  // namespace glia
