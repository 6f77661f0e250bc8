#pragma once
// What happens around the steps of a training: logging, best checkpoint, early stopping, pictures. Hooks are called in the order
// that they were added; each may keep state in the checkpoints.
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/tensorboard.h"
#include "train/config.h"
#include "train/early_stopping.h"
#include "train/log.h"
#include "train/progress.h"
#include "train/trainer.h"

namespace glia {

struct ValidationResult {
  int64_t step = 0;
  int64_t epoch = 0;     // epochs begun
  NamedValues values{};  // validation metrics by name: loss, bce, dice, map_iou, ...
  double seconds = 0;
  bool at_end = false;  // made only because the training ends here: early stopping and schedules don't count it
  bool best = false;    // set by BestHook: better than all before,
  bool kept = false;    // and: among the best, whose checkpoints are kept

  std::optional<double> find(const std::string& metric) const;
};

struct RunContext {
  const Config& config;
  Trainer& trainer;
  Progress& progress;
  std::filesystem::path folder;
  int64_t first_step = 0;                         // where this process began
  int64_t total_steps = 0;                        // the limit
  std::string stop_reason{};                      // a hook that wants the training to end says why
  std::function<void(const std::string&)> say{};  // a line for the terminal and train.log
  std::function<void(const std::string&)> warn{};
};

class Hook {
 public:
  virtual ~Hook() = default;
  virtual void start(RunContext&) {}
  virtual void after_step(RunContext&, const StepRecord&) {}
  virtual void after_evaluation(RunContext&, ValidationResult&) {}
  virtual void finish(RunContext&) {}
  virtual void save(TrainingState&) const {}
  virtual void load(const TrainingState&) {}
};

// Remembers the `keep` best values of a metric, and marks the evaluations that come among them. Of equal ones the first is better.
class BestHook : public Hook {
 public:
  BestHook(std::string metric, int64_t keep) : metric_(std::move(metric)), keep_(static_cast<size_t>(keep)) {}
  void after_evaluation(RunContext&, ValidationResult&) override;
  void save(TrainingState&) const override;
  void load(const TrainingState&) override;

  const std::string& metric() const { return metric_; }
  bool is_best(int64_t step) const { return !ranked_.empty() && ranked_[0].step == step; }
  std::vector<int64_t> kept_steps() const;  // whose step files stay; none where best.safetensors alone is kept
  std::string text() const;                 // "map_iou 0.3127 at step 1200", or ""

 private:
  struct Ranked {
    double value;
    int64_t step;
  };
  std::string metric_;
  size_t keep_;
  std::vector<Ranked> ranked_;  // the best first
};

class EarlyStoppingHook : public Hook {
 public:
  explicit EarlyStoppingHook(const EarlyStoppingConfig& config);
  void start(RunContext&) override;
  void after_evaluation(RunContext&, ValidationResult&) override;
  void save(TrainingState& state) const override { rule_.save(state); }
  void load(const TrainingState& state) override { rule_.load(state); }

 private:
  std::string reason() const;
  EarlyStopping rule_;
};

class PlateauHook : public Hook {  // the trainer keeps the state
 public:
  explicit PlateauHook(std::string metric) : metric_(std::move(metric)) {}
  void after_evaluation(RunContext&, ValidationResult&) override;

 private:
  std::string metric_;
};

// metrics.jsonl and results.csv. A row of results.csv has the means of the training losses since the row before.
class LogHook : public Hook {
 public:
  void start(RunContext&) override;
  void after_step(RunContext&, const StepRecord&) override;
  void after_evaluation(RunContext&, ValidationResult&) override;
  void save(TrainingState&) const override;
  void load(const TrainingState&) override;

 private:
  std::unique_ptr<StepLog> steps_;
  std::unique_ptr<ResultTable> results_;
  NamedValues sums_;  // loss and its terms since the last evaluation
  int64_t count_ = 0;
  double lr_ = 0;
};

class ProgressHook : public Hook {
 public:
  void start(RunContext&) override;
  void after_step(RunContext&, const StepRecord&) override;
  void after_evaluation(RunContext&, ValidationResult&) override;
};

// TensorBoard: train/NAME per step, val/NAME per evaluation.
class TensorBoardHook : public Hook {
 public:
  void start(RunContext&) override;
  void after_step(RunContext&, const StepRecord&) override;
  void after_evaluation(RunContext&, ValidationResult&) override;

 private:
  void write(RunContext& context, int64_t step, const NamedValues& values);
  std::unique_ptr<EventWriter> writer_;  // null after a failure, which is a warning
};

// Calls `draw(folder, step)` whenever an evaluation is the best so far. Its errors are warnings.
class PicturesHook : public Hook {
 public:
  using Draw = std::function<void(const std::filesystem::path& folder, int64_t step)>;
  explicit PicturesHook(Draw draw) : draw_(std::move(draw)) {}
  void after_evaluation(RunContext&, ValidationResult&) override;

 private:
  Draw draw_;
};

}  // namespace glia
