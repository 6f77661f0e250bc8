#include "train/hooks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tensor/error.h"
#include "tensor/memory.h"

namespace glia {
namespace {

void add_to(NamedValues& sums, const std::string& name, double value) {
  for (auto& [known, sum] : sums)
    if (known == name) {
      sum += value;
      return;
    }
  sums.emplace_back(name, value);
}

double images_per_second(const StepRecord& r) { return static_cast<double>(r.images) / std::max(r.seconds, 1e-9); }

}  // namespace

std::optional<double> ValidationResult::find(const std::string& metric) const {
  for (const auto& [name, value] : values)
    if (name == metric) return value;
  return std::nullopt;
}

void BestHook::after_evaluation(RunContext&, ValidationResult& e) {
  const auto value = e.find(metric_);
  if (!value || std::isnan(*value)) return;
  const auto worse = [&](const Ranked& r) { return higher_is_better(metric_) ? *value > r.value : *value < r.value; };
  const auto at = std::find_if(ranked_.begin(), ranked_.end(), worse);
  e.best = at == ranked_.begin();
  e.kept = static_cast<size_t>(at - ranked_.begin()) < keep_;
  if (!e.kept) return;
  ranked_.insert(at, {*value, e.step});
  if (ranked_.size() > keep_) ranked_.pop_back();
}

std::vector<int64_t> BestHook::kept_steps() const {
  std::vector<int64_t> steps;
  if (keep_ > 1)
    for (const Ranked& r : ranked_) steps.push_back(r.step);
  return steps;
}

namespace {

std::string ranked_name(const char* what, size_t i) { return i == 0 ? what : fmt::format("{}.{}", what, i); }

}  // namespace

void BestHook::save(TrainingState& state) const {
  state.set("best.metric", metric_);
  for (size_t i = 0; i < ranked_.size(); ++i) {
    state.set(ranked_name("best.value", i), ranked_[i].value);
    state.set(ranked_name("best.step", i), ranked_[i].step);
  }
}

void BestHook::load(const TrainingState& state) {
  if (state.text("best.metric") != metric_) return;  // another metric than before: its best is still to come
  ranked_.clear();
  while (ranked_.size() < keep_) {
    const auto value = state.number(ranked_name("best.value", ranked_.size()));
    if (!value) return;
    ranked_.push_back({*value, state.integer(ranked_name("best.step", ranked_.size()), 0)});
  }
}

std::string BestHook::text() const {
  return ranked_.empty() ? "" : fmt::format("{} {:.5g} at step {}", metric_, ranked_[0].value, ranked_[0].step);
}

EarlyStoppingHook::EarlyStoppingHook(const EarlyStoppingConfig& c)
    : rule_{.metric = c.metric, .patience = c.patience, .min_delta = c.min_delta, .start_from = c.start_from} {}

std::string EarlyStoppingHook::reason() const {
  return fmt::format("stopped early: {} has not improved on {:.5g} for {} evaluations", rule_.metric, rule_.best.value_or(NAN),
                     rule_.wait);
}

void EarlyStoppingHook::start(RunContext& context) {
  if (rule_.exhausted()) context.stop_reason = reason();
}

void EarlyStoppingHook::after_evaluation(RunContext& context, ValidationResult& e) {
  if (e.at_end) return;
  if (const auto value = e.find(rule_.metric); value && rule_.update(*value)) context.stop_reason = reason();
}

void PlateauHook::after_evaluation(RunContext& context, ValidationResult& e) {
  if (const auto value = e.find(metric_); value && !e.at_end) context.trainer.update_plateau(*value);
}

void LogHook::start(RunContext& context) {
  steps_ = std::make_unique<StepLog>(context.folder / "metrics.jsonl", context.warn);
  results_ = std::make_unique<ResultTable>(context.folder / "results.csv", context.warn);
  steps_->start(context.first_step);
  results_->start(context.first_step);
}

void LogHook::after_step(RunContext& context, const StepRecord& r) {
  steps_->write(r, memory_stats(context.trainer.model().device()).peak_bytes);
  add_to(sums_, "loss", r.loss);
  for (const auto& [name, value] : r.terms) add_to(sums_, logged_name(name), value);
  lr_ = r.lr;
  ++count_;
}

void LogHook::after_evaluation(RunContext& context, ValidationResult& e) {
  NamedValues row{{"step", static_cast<double>(e.step)}, {"epoch", static_cast<double>(e.epoch)}};
  for (const auto& [name, sum] : sums_) row.emplace_back(name, sum / static_cast<double>(std::max<int64_t>(count_, 1)));
  row.emplace_back("lr", lr_);
  row.emplace_back("memory", static_cast<double>(memory_stats(context.trainer.model().device()).peak_bytes));
  for (const auto& [name, value] : e.values) row.emplace_back("val_" + name, value);
  results_->add(row);
  sums_.clear();
  count_ = 0;
}

void LogHook::save(TrainingState& state) const {
  std::string names;
  for (const auto& [name, sum] : sums_) {
    names += name + "\n";
    state.set("log.sum." + name, sum);
  }
  state.set("log.names", names);
  state.set("log.count", count_);
  state.set("log.lr", lr_);
}

void LogHook::load(const TrainingState& state) {
  const std::string names = state.text("log.names");
  for (size_t at = 0, end; (end = names.find('\n', at)) != std::string::npos; at = end + 1) {
    const std::string name = names.substr(at, end - at);
    sums_.emplace_back(name, state.number("log.sum." + name).value_or(0));
  }
  count_ = state.integer("log.count", 0);
  lr_ = state.number("log.lr").value_or(0);
}

void ProgressHook::start(RunContext& context) {
  context.progress.start(context.first_step, context.total_steps, context.config.run.log_every);
}

void ProgressHook::after_step(RunContext& context, const StepRecord& r) {
  context.progress.step(
      r.step, fmt::format("epoch {}  loss {:.4f}  lr {:.3g}  {:.3g} images/s", r.epoch, r.loss, r.lr, images_per_second(r)));
}

void ProgressHook::after_evaluation(RunContext& context, ValidationResult& e) {
  std::string text = fmt::format("step {}  epoch {}  validation:", e.step, e.epoch);
  for (const auto& [name, value] : e.values) text += fmt::format("  {} {:.4f}", name, value);
  if (e.best) text += "  (best)";
  context.say(text);
}

void TensorBoardHook::start(RunContext& context) {
  try {
    writer_ = std::make_unique<EventWriter>(context.folder);
  } catch (const Error& e) {
    context.warn(fmt::format("{}; the training goes on without TensorBoard", e.what()));
  }
}

void TensorBoardHook::write(RunContext& context, int64_t step, const NamedValues& values) {
  if (!writer_) return;
  std::vector<std::pair<std::string, float>> scalars;
  for (const auto& [name, value] : values) scalars.emplace_back(name, static_cast<float>(value));
  try {
    writer_->scalars(step, scalars);
  } catch (const Error& e) {
    writer_ = nullptr;
    context.warn(fmt::format("{}; the training goes on without TensorBoard", e.what()));
  }
}

void TensorBoardHook::after_step(RunContext& context, const StepRecord& r) {
  NamedValues values{{"train/loss", r.loss}, {"train/lr", r.lr}, {"train/grad_norm", r.grad_norm}};
  for (const auto& [name, value] : r.terms) values.emplace_back("train/" + logged_name(name), value);
  values.emplace_back("train/images_per_s", images_per_second(r));
  write(context, r.step, values);
}

void TensorBoardHook::after_evaluation(RunContext& context, ValidationResult& e) {
  NamedValues values;
  for (const auto& [name, value] : e.values) values.emplace_back("val/" + name, value);
  write(context, e.step, values);
}

void PicturesHook::after_evaluation(RunContext& context, ValidationResult& e) {
  if (!e.best || !draw_) return;
  try {
    const EvaluationScope scope(context.trainer);
    draw_(context.folder / "pictures", e.step);
  } catch (const Error& error) {
    context.warn(fmt::format("pictures: {}; the training goes on without them", error.what()));
    draw_ = nullptr;
  }
}

}  // namespace glia
