#pragma once
// What a run does with a step whose loss or gradient is not finite (run.on_nan). The step itself has changed nothing: the trainer looks
// before it updates.
#include <filesystem>
#include <functional>
#include <string>

#include "tensor/error.h"
#include "train/hooks.h"
#include "train/on_nan.h"

namespace glia {

// Applies the policy, and leaves for each bad step RUN/diverged/step-NNNNNN.txt (all that is known of it), its images as step-NNNNNN.png, and, of the last one,
// RUN/diverged/before.safetensors: the training as it was before that step, to run it again. A hook, so that its counts are part of every
// checkpoint: a resumed run leaves out what the run would have.
class BadSteps : public Hook {
 public:
  // `command`: `glia train ...` with the run's recipe and data, for the report; "" where there is none.
  BadSteps(const NanPolicy& policy, CheckpointFolder& checkpoints, std::string command)
      : policy_(policy), checkpoints_(checkpoints), command_(std::move(command)) {}

  // The trainer has thrown `error` at the step behind steps_done(), and all steps before it were read. Returns when the training can go
  // on, one step further. Else throws DivergedError, with where the report lies.
  void handle(RunContext& context, const DivergedError& error, const Checkpoint& before);

  void after_step(RunContext&, const StepRecord&) override { in_a_row_ = 0; }
  void save(TrainingState& state) const override;
  void load(const TrainingState& state) override;

 private:
  std::string write_report(RunContext& context, const Checkpoint& before) const;  // its file
  std::string go_back(RunContext& context, const std::string& text) const;        // to which checkpoint

  NanPolicy policy_;
  CheckpointFolder& checkpoints_;
  std::string command_;
  int64_t in_a_row_ = 0, rollbacks_ = 0;
};

// Removes what BadSteps wrote into a run's folder.
void remove_divergence_reports(const std::filesystem::path& folder);

}  // namespace glia
