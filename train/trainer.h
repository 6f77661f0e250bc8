#pragma once
// Trainer: one optimizer step. It knows a module's parameters and `losses = model(batch)`, not which model. All randomness is a
// function of (seed, step), and the place in the data is a function of the step, so a resumed training needs the weights, the
// optimizer's state and the step, nothing else.
//
//   batch -> named losses -> weighted sum -> backward -> clip -> optimizer step -> moving average
//
// Numbers that are not finite end a training before they reach a weight. step() looks before it changes anything. launch() does not,
// so that the host need not wait for a device: it hands the whole step over, and read() learns of the losses of all steps since the
// last one at once. Where one of them is not finite, read() goes back to the weights that it kept the last time and takes the good
// steps again, to the same bits; the bad one is then taken by the next launch() as step() takes it, which throws with a report. Nothing
// is changed then, and the caller may leave the step out: skip() or go_back_to().
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "autograd/tape.h"
#include "data/loader.h"
#include "nn/module.h"
#include "nn/optimizer.h"
#include "nn/schedule.h"
#include "tensor/transfer.h"
#include "train/checkpoint.h"
#include "train/config.h"

namespace glia {

using NamedLosses = std::vector<std::pair<std::string, Tensor>>;  // scalars that were recorded for backward
using NamedValues = std::vector<std::pair<std::string, double>>;
using LossFunction = std::function<NamedLosses(const Batch&)>;

struct StepRecord {
  int64_t step = 0;     // number of this step, from 1
  int64_t epoch = 0;    // that it belongs to, from 1
  double loss = 0;      // the weighted sum
  NamedValues terms{};  // as the model gave them, unweighted
  double lr = 0;
  double grad_norm = 0;  // before clipping
  double seconds = 0;    // the whole step; of launched steps, their share of the time between two reads
  double data_wait = 0;  // seconds of it that were spent waiting for the loader
  int64_t images = 0;
  bool ends_epoch = false;
};

// What a step uses of the configuration.
struct TrainerOptions {
  OptimizerOptions optimizer{};
  std::vector<ParameterGroup> groups{};
  Schedule schedule{};
  std::optional<ReduceOnPlateau> plateau{};
  NumberMap loss_weights{};  // a loss that is not named here has weight 1
  uint64_t seed = 0;
  int64_t accumulate = 1;
  double clip_norm = 0;
  bool clip_norm_each = false;
  double clip_value = 0;
  double ema = 0;
};

// `total_steps`: where the schedule ends.
TrainerOptions trainer_options(const Config& config, int64_t total_steps);

class Trainer {
 public:
  // Model and loader must outlive the trainer, and nobody else may move the loader.
  Trainer(Module& model, LossFunction losses, Loader& loader, TrainerOptions options);

  // One step. Throws DivergedError, before anything is changed, when the loss or a gradient is not finite.
  StepRecord step();
  // One step without waiting for the device, while it works on the last one. Throws DivergedError where the last read() found that this
  // step diverges, or where the forward pass itself throws it; the good steps before are then still to be read.
  void launch();
  // Waits for the launched steps. They are those launched since the last call, in order; fewer where one diverged, and steps_done()
  // is then the number of the last good one.
  std::vector<StepRecord> read();
  // After a DivergedError, with all steps read: the step that diverged counts as done, without an update of the weights.
  void skip();
  // The same, but weights, optimizer and average become a checkpoint's of this run. The training goes on behind the bad step's images,
  // with the schedule where it was (Chowdhery et al. 2022, PaLM, section 5.1, which go back and leave out the batches of a spike).
  void go_back_to(const Checkpoint& checkpoint, const std::string& source);
  // All that is known of the last DivergedError of step() or launch().
  const std::string& divergence() const { return divergence_; }
  const Tensor& divergence_picture() const { return divergence_picture_; }  // of its images; absent where there are none

  int64_t steps_done() const { return step_; }  // launched ones included
  int64_t epochs_done() const { return step_ * options_.accumulate / loader_->batches_per_epoch(); }
  bool at_epoch_end() const;  // the last step finished an epoch
  Module& model() { return *model_; }
  Optimizer& optimizer() { return optimizer_; }

  void update_plateau(double metric);  // schedule "plateau" hears of an evaluation
  bool has_plateau() const { return options_.plateau.has_value(); }
  void swap_average();  // exchanges weights and their moving average, if there is one

  // Weights, optimizer, average, step, epoch and seed of a checkpoint, and back. DataError (with `source`) where they don't fit;
  // UsageError when the data set has another number of batches than the one that the checkpoint was trained on.
  void save(Checkpoint& checkpoint) const;
  void load(const Checkpoint& checkpoint, const std::string& source);

 private:
  friend class Divergence;
  friend class PrecisionCheck;

  // A step under way: its record without the losses, and where numbers_ has those.
  struct Pending {
    StepRecord record;
    std::vector<size_t> totals;              // of each batch of the step
    std::vector<std::vector<size_t>> terms;  // of each batch, in the order of record.terms
    std::optional<size_t> squared_norm{};    // of the gradients, once backward is through
  };
  // What to go back to.
  struct Snapshot {
    int64_t step = 0;
    Optimizer::Snapshot optimizer;
    Tensor average;
    std::vector<Tensor> buffers;
  };

  double learning_rate() const;
  std::vector<Tensor> copy_buffers() const;
  void restore_buffers(const std::vector<Tensor>& copies) const;
  void seek_loader();
  Batch next_batch(bool checked);
  void fetch_ahead();
  NamedLosses losses_of(const Batch& batch, int64_t micro_step);
  Tensor forward(const Batch& batch, int64_t micro_step, Pending& step);
  void advance(bool checked);
  void finish(Pending& step) const;  // puts the losses into its record
  void remember(const StepRecord& record);
  void take_again();
  void load_weights(const Checkpoint& checkpoint, const std::string& source);
  void save(Snapshot& snapshot) const;
  void restore(const Snapshot& snapshot);
  [[noreturn]] void diverged(Pending& step, const std::vector<Batch>& batches, const std::vector<Tensor>& buffers);

  Module* model_;
  LossFunction losses_;
  Loader* loader_;
  TrainerOptions options_;
  Optimizer optimizer_;
  std::vector<NamedTensor> buffers_;  // of the model: what a forward pass may change
  std::optional<Ema> ema_;
  int64_t step_ = 0;
  Uploader uploader_;
  std::optional<Batch> ahead_;  // the next batch, on its way to the device by uploader_
  ReadBack numbers_;
  std::vector<Pending> pending_;  // launched and not read, from snapshot_ on
  Snapshot snapshot_;
  std::vector<StepRecord> retaken_;  // read already, but not yet by the caller
  std::string divergence_;
  Tensor divergence_picture_;
  int64_t checked_to_ = 0;  // steps up to this one are taken as step() takes them
  std::chrono::steady_clock::time_point read_at_{};
  std::vector<double> recent_norms_;  // of the last steps, for the report of a divergence
};

// sum of weight * loss over scalars, recorded for backward. A weight that `weights` doesn't give is 1.
Tensor weighted_sum(const NamedLosses& losses, const NumberMap& weights);

// Puts the model into the state in which it is evaluated, for a scope: its average weights, its running statistics used and left alone, no
// gradients.
class EvaluationScope {
 public:
  explicit EvaluationScope(Trainer& trainer) : trainer_(trainer) {
    trainer_.swap_average();
    trainer_.model().eval();
  }
  ~EvaluationScope() {
    trainer_.swap_average();
    trainer_.model().train();
  }
  EvaluationScope(const EvaluationScope&) = delete;
  EvaluationScope& operator=(const EvaluationScope&) = delete;

 private:
  Trainer& trainer_;
  NoGrad no_grad_;
};

}  // namespace glia
