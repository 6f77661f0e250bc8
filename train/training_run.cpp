#include "train/training_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <limits>

#include "autograd/tape.h"
#include "data/atomic_file.h"
#include "tensor/nearest.h"
#include "train/nan_policy.h"
#include "train/precision_check.h"
#include "train/signals.h"

namespace glia {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string time_stamp() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::localtime_r(&now, &parts);
  char text[32];
  return std::string(text, std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts));
}

bool holds_a_run(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / "metrics.jsonl", ignored) || !CheckpointFolder(folder / "checkpoints", 1).empty();
}

// Removes what a run writes, and nothing else that may lie in the folder.
void remove_run(const fs::path& folder) {
  CheckpointFolder(folder / "checkpoints", 1).remove_all();
  std::error_code ignored;
  for (const char* name : {"metrics.jsonl", "results.csv", "train.log", "report.html", "config.toml"})
    fs::remove(folder / name, ignored);
  std::vector<fs::path> events;
  for (fs::directory_iterator it(folder, ignored), end; it != end; it.increment(ignored))
    if (it->path().filename().string().starts_with("events.out.tfevents")) events.push_back(it->path());
  for (const fs::path& file : events) fs::remove(file, ignored);
  remove_divergence_reports(folder);
}

std::string best_metric(const Config& config) {
  if (config.checkpoint.save_best == "auto") return config.eval.metric;
  return config.checkpoint.save_best == "none" ? "" : config.checkpoint.save_best;
}

void check_metric(const char* key, const std::string& metric, const std::vector<std::string>& known, bool used = true) {
  if (!used || metric.empty() || known.empty() || std::find(known.begin(), known.end(), metric) != known.end()) return;
  const std::string near = nearest_name(metric, known);
  throw UsageError("{} = \"{}\": no such metric{}; there are {}", key, metric,
                   near.empty() ? "" : fmt::format(" (did you mean {}?)", near), fmt::join(known, ", "));
}

// The loop of one call of execute(). Invariant: evaluated_ and saved_ are the last steps at which that was done.
class Loop {
 public:
  Loop(const Config& config, const TrainingParts& parts, Trainer& trainer, CheckpointFolder& checkpoints, RunContext& context,
       BadSteps& bad_steps)
      : config_(config),
        parts_(parts),
        trainer_(trainer),
        checkpoints_(checkpoints),
        context_(context),
        bad_steps_(bad_steps),
        best_(best_metric(config), config.checkpoint.keep_best) {}

  void add(Hook& hook) { hooks_.push_back(&hook); }
  BestHook& best() { return best_; }

  void resume(const Checkpoint& checkpoint) {
    evaluated_ = checkpoint.state.integer("run.evaluated_step", -1);
    saved_ = checkpoint.step;
    for (Hook* hook : hooks_) hook->load(checkpoint.state);
    best_.save(saved_best_);
  }

  TrainingResult run() {
    TrainingResult result;
    for (Hook* hook : hooks_) hook->start(context_);
    for (;;) {
      if (due(config_.eval.every) && evaluated_ != step() && parts_.evaluate) evaluate(false);
      if (stop_requested()) break;
      if (ranked_ || (due(config_.checkpoint.every) && saved_ != step())) save(false);
      if (!context_.stop_reason.empty() || step() >= context_.total_steps) break;
      take_step();
    }
    tell(trainer_.read());  // a wish to stop may have come behind the last look
    if (stop_requested()) {
      result.end = TrainingEnd::interrupted;
    } else {
      if (!context_.stop_reason.empty()) result.end = TrainingEnd::stopped_early;
      if (evaluated_ != step() && parts_.evaluate) evaluate(true);
    }
    if (ranked_ || saved_ != step()) save(true);
    for (Hook* hook : hooks_) hook->finish(context_);
    result.steps = step();
    result.epochs = trainer_.epochs_done();
    result.best = best_.text();
    result.last_evaluation = last_;
    return result;
  }

 private:
  int64_t step() const { return trainer_.steps_done(); }
  bool due(Every every) const { return step() > 0 && (every.steps > 0 ? step() % every.steps == 0 : trainer_.at_epoch_end()); }

  // A device works on while the host goes ahead; its losses are read where they are shown, and before anything looks at the weights.
  void take_step() {
    try {
      if (trainer_.model().device().kind == DeviceKind::cpu) return tell({trainer_.step()});
      trainer_.launch();
    } catch (const DivergedError& e) {
      tell(trainer_.read());
      return bad_steps_.handle(context_, e, checkpoint());
    }
    const bool seen = step() % config_.run.log_every == 0 || due(config_.eval.every) || due(config_.checkpoint.every);
    if (seen || step() >= context_.total_steps || stop_requested()) tell(trainer_.read());
  }

  void tell(const std::vector<StepRecord>& records) {
    for (const StepRecord& record : records)
      for (Hook* hook : hooks_) hook->after_step(context_, record);
  }

  void evaluate(bool at_end) {
    const auto start = Clock::now();
    std::optional<NamedValues> values;
    {
      const EvaluationScope scope(trainer_);
      values = parts_.evaluate();
    }
    if (!values) return;  // interrupted: done when the run goes on
    ValidationResult e{.step = step(), .epoch = trainer_.epochs_done() + (trainer_.at_epoch_end() ? 0 : 1), .at_end = at_end};
    e.values = std::move(*values);
    e.seconds = seconds_since(start);
    evaluated_ = step();
    for (Hook* hook : hooks_) hook->after_evaluation(context_, e);
    improved_ = improved_ || e.best;
    ranked_ = ranked_ || e.kept;
    last_ = e.values;
  }

  Checkpoint checkpoint() const {
    Checkpoint c;
    c.model = config_.model.name;
    c.config = to_toml(config_);
    c.best = best_.text();
    trainer_.save(c);
    for (const Hook* hook : hooks_) hook->save(c.state);
    c.state.set("run.evaluated_step", evaluated_);
    return c;
  }

  void save(bool at_end) {
    try {
      checkpoints_.save(checkpoint(), improved_, best_.kept_steps());
      saved_ = step();
      best_.save(saved_best_);
    } catch (const IoError& e) {
      if (at_end || config_.checkpoint.on_error == "stop") throw;
      context_.warn(fmt::format("{}; the training goes on, and tries again with the next checkpoint", e.what()));
      best_ = BestHook(best_.metric(), config_.checkpoint.keep_best);  // the best one is still that of best.safetensors
      best_.load(saved_best_);
    }
    improved_ = ranked_ = false;
  }

  const Config& config_;
  const TrainingParts& parts_;
  Trainer& trainer_;
  CheckpointFolder& checkpoints_;
  RunContext& context_;
  BadSteps& bad_steps_;
  BestHook best_;
  TrainingState saved_best_;  // of the last checkpoint that was written
  std::vector<Hook*> hooks_;
  int64_t evaluated_ = -1, saved_ = -1;
  bool improved_ = false, ranked_ = false;  // since the last save: the best so far, one of the best
  NamedValues last_;
};

}  // namespace

TrainingRun::TrainingRun(Config config, TrainingRunOptions options)
    : config_(std::move(config)),
      options_(std::move(options)),
      checkpoints_(options_.folder / "checkpoints", config_.checkpoint.keep),
      progress_(options_.quiet) {
  find_checkpoint();
  open_folder();
}

void TrainingRun::find_checkpoint() {
  const fs::path& folder = options_.folder;
  std::error_code ignored;
  if (fs::exists(folder, ignored) && !fs::is_directory(folder, ignored))
    throw IoError("{}: is a file, want a folder for the run", folder.string());
  if (options_.resume.empty()) {
    if (!options_.overwrite && holds_a_run(folder))
      throw UsageError(
          "{}: holds a run already; go on with it by --resume auto, replace it by --overwrite, or choose another --out",
          folder.string());
    return;
  }
  if (options_.resume == "auto") {
    resumed_ = checkpoints_.newest();
  } else {
    const fs::path from(options_.resume);
    if (fs::is_directory(from, ignored)) {
      resumed_ = CheckpointFolder(fs::exists(from / "checkpoints", ignored) ? from / "checkpoints" : from, 1).newest();
      if (!resumed_) throw DataError("--resume {}: no checkpoint in it", options_.resume);
    } else {
      resumed_ = CheckpointFolder::Found{read_checkpoint(from), from, {}};
    }
    const bool inside =
        fs::weakly_canonical(resumed_->file.parent_path(), ignored) == fs::weakly_canonical(checkpoints_.path(), ignored);
    if (!inside && holds_a_run(folder) && !options_.overwrite)
      throw UsageError("{}: holds another run than {}; choose another --out, or --overwrite", folder.string(), options_.resume);
    if (inside) options_.overwrite = false;
  }
  if (!resumed_) return;
  Config saved;
  read_toml(saved, resumed_->checkpoint.config, resumed_->file.string() + " (config)");
  const std::vector<std::string> differences = resume_differences(saved, config_);
  if (!differences.empty())
    throw UsageError("{}: the configuration differs from the run's, so it cannot go on:\n  {}", resumed_->file.string(),
                     fmt::join(differences, "\n  "));
  if (config_.data.classes.empty()) set_classes(saved.data.classes);
}

void TrainingRun::set_classes(const std::vector<std::string>& names) { glia::set_classes(config_, names); }

void TrainingRun::open_folder() {
  const fs::path& folder = options_.folder;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw IoError("{}: the folder of the run cannot be made: {}", folder.string(), error.message());
  for (const fs::path& written : {folder, folder / "pictures", folder / "diverged"}) remove_stale_temporaries(written);
  checkpoints_.create();
}

// Nothing of an earlier run is touched before the data and the model are known to be good.
void TrainingRun::begin() {
  const fs::path& folder = options_.folder;
  if (options_.overwrite) {
    remove_run(folder);
    checkpoints_.create();
  }
  write_file(folder / "config.toml", to_toml(config_));
  log_ = std::make_unique<LineFile>(folder / "train.log", [this](const std::string& text) { progress_.warn(text); });
  log_->open(resuming());
  if (!resumed_) return;
  for (const std::string& reason : resumed_->skipped) say(fmt::format("skipped: {}", reason));
  say(fmt::format("going on from {}, step {}", resumed_->file.string(), resumed_->checkpoint.step));
  checkpoints_.set_aside_after(resumed_->checkpoint.step);
}

void TrainingRun::say(const std::string& text) {
  progress_.line(text);
  log_->line(time_stamp() + " " + text);
}

TrainingResult TrainingRun::execute(const TrainingParts& parts) {
  const auto start = Clock::now();
  if (parts.evaluate) check_metrics(config_, parts.metric_names);
  const int64_t per_epoch = parts.loader.batches_per_epoch(), unlimited = std::numeric_limits<int64_t>::max();
  const int64_t by_epochs = config_.solver.max_epochs > 0
                                ? std::max<int64_t>(1, config_.solver.max_epochs * per_epoch / config_.solver.accumulate)
                                : unlimited;
  const int64_t by_steps = config_.solver.max_iterations > 0 ? config_.solver.max_iterations : unlimited;
  const int64_t total = std::min(by_epochs, by_steps);

  TrainerOptions options = trainer_options(config_, total);
  if (options.schedule.kind == "cellpose" && options.schedule.period == 0) options.schedule.period = per_epoch;
  Trainer trainer(parts.model, parts.losses, parts.loader, options);
  RunContext context{
      .config = config_, .trainer = trainer, .progress = progress_, .folder = options_.folder, .total_steps = total};
  context.say = [this](const std::string& text) { say(text); };
  context.warn = [this](const std::string& text) {
    progress_.warn(text);
    log_->line(time_stamp() + " warning: " + text);
  };

  if (resumed_) trainer.load(resumed_->checkpoint, resumed_->file.string());
  begin();
  if (parts.begun) parts.begun();
  for (const std::string& note : parts.notes) say(note);
  BadSteps bad_steps(parse_nan_policy(config_.run.on_nan), checkpoints_, options_.command);
  Loop loop(config_, parts, trainer, checkpoints_, context, bad_steps);
  EarlyStoppingHook early_stopping(config_.early_stopping);
  PlateauHook plateau(config_.solver.plateau_metric);
  LogHook log;
  ProgressHook progress;
  TensorBoardHook tensorboard;
  PicturesHook pictures(parts.pictures);
  loop.add(loop.best());
  loop.add(bad_steps);
  if (config_.early_stopping.patience > 0) loop.add(early_stopping);
  if (trainer.has_plateau()) loop.add(plateau);
  loop.add(log);
  loop.add(progress);
  if (config_.run.tensorboard) loop.add(tensorboard);
  loop.add(pictures);
  for (const auto& hook : extra_hooks_) loop.add(*hook);

  if (resumed_) {
    loop.resume(resumed_->checkpoint);
    context.first_step = trainer.steps_done();
    const int64_t step = resumed_->checkpoint.step;
    if (resumed_->file == checkpoints_.step_file(step)) {  // a crash may have come between the file and its other names
      checkpoints_.tag(checkpoints_.last(), step);
      if (loop.best().is_best(step)) checkpoints_.tag(checkpoints_.best(), step);
    }
    resumed_.reset();  // its tensors
  }
  const StopSignals signals;
  TrainingResult result;
  try {
    if (trainer.steps_done() == 0 && config_.run.check_precision)
      if (const std::string checked = PrecisionCheck(trainer, parts.stable_losses).run(); !checked.empty()) say(checked);
    result = loop.run();
  } catch (const DivergedError& e) {
    std::error_code ignored;
    const bool saved = fs::exists(checkpoints_.last(), ignored);
    const std::string text =
        fmt::format("{}\n  last good checkpoint: {}", e.what(), saved ? checkpoints_.last().string() : "none yet");
    log_->line(time_stamp() + " " + text);
    throw DivergedError(text);
  }
  result.seconds = seconds_since(start);
  if (result.end == TrainingEnd::interrupted)
    say(fmt::format("interrupted: saved at step {}; go on with --resume auto", result.steps));
  if (!context.stop_reason.empty()) say(context.stop_reason);
  if (!result.best.empty()) say(fmt::format("best: {}", result.best));
  return result;
}

void check_metrics(const Config& config, const std::vector<std::string>& known) {
  check_metric("eval.metric", config.eval.metric, known);
  check_metric("checkpoint.save_best", best_metric(config), known);
  const auto given = [&](const char* key) { return config.origins.contains(key); };
  check_metric("early_stopping.metric", config.early_stopping.metric, known,
               config.early_stopping.patience > 0 || given("early_stopping.metric"));
  check_metric("solver.plateau_metric", config.solver.plateau_metric, known,
               config.solver.schedule == "plateau" || given("solver.plateau_metric"));
}

}  // namespace glia
