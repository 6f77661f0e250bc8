#include "apps/compare_plan.h"

#include <fmt/format.h>
#include <rapidjson/document.h>

#include <algorithm>
#include <chrono>
#include <fstream>

#include "tensor/error.h"

namespace glia {

double parse_duration(const std::string& text) {
  size_t used = 0;
  double value = 0;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  const std::string unit = text.substr(used);
  const double factor = unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : 0;
  if (used == 0 || factor == 0 || !(value > 0) || value * factor > 1e7)
    throw UsageError("--budget '{}': want a time with s, m or h, such as 90s, 30m or 1.5h", text);
  return value * factor;
}

namespace {

constexpr int64_t probe_images = 3;
constexpr double share_of_steps = 0.85;

// Batches of an epoch, 0 where the number of images is not known.
int64_t epoch_of(const Config& config, int64_t training_images) {
  return (training_images * config.data.repeat + config.solver.batch_size - 1) / config.solver.batch_size;
}

// Steps of a recipe as it is, 0 where it has no end of its own.
int64_t own_steps(const SolverConfig& solver, int64_t epoch) {
  if (solver.max_epochs == 0 || epoch == 0) return solver.max_iterations;
  const int64_t steps = std::max<int64_t>(1, solver.max_epochs * epoch / solver.accumulate);
  return solver.max_iterations > 0 ? std::min(solver.max_iterations, steps) : steps;
}

// Fewer evaluations rather than ones of under 16 images, which say little about which checkpoint is the best.
void plan_evaluations(const EvalConfig& eval, int64_t validation_images, const Pace& pace, double budget, int64_t steps,
                      std::vector<std::string>& settings) {
  const int64_t most = eval.max_images > 0 ? std::min(eval.max_images, validation_images) : validation_images;
  const double affordable = (1 - share_of_steps) * budget / std::max(pace.image_seconds, 1e-6);  // images, of all evaluations
  const auto whole = [](double x) { return static_cast<int64_t>(std::min(x, 1e9)); };
  const int64_t evaluations = std::clamp<int64_t>(whole(affordable / double(std::clamp<int64_t>(most, 1, 16))), 1, 5);
  const int64_t images = std::clamp<int64_t>(whole(affordable / double(evaluations)), 1, std::max<int64_t>(1, most));
  settings.push_back(fmt::format("eval.every={}", (steps + evaluations - 1) / evaluations));
  if (images < most) settings.push_back(fmt::format("eval.max_images={}", images));
}

void shorten_schedule(const SolverConfig& solver, int64_t epoch, double shorter, std::vector<std::string>& settings) {
  const auto earlier = [&](double step) { return std::max<int64_t>(1, static_cast<int64_t>(step * shorter)); };
  const int64_t period = solver.schedule == "cellpose" && solver.period == 0 ? epoch : solver.period;
  for (const auto& [key, at] :
       {std::pair{"warmup_iterations", solver.warmup_iterations}, {"step_size", solver.step_size}, {"period", period}})
    if (at > 0) settings.push_back(fmt::format("solver.{}={}", key, earlier(double(at))));
  std::vector<int64_t> milestones;
  for (const double m : solver.milestones) milestones.push_back(earlier(m));
  if (!milestones.empty()) settings.push_back(fmt::format("solver.milestones=[{}]", fmt::join(milestones, ",")));
}

}  // namespace

std::vector<std::string> plan_of_probe() {
  return {"solver.max_iterations=8", fmt::format("eval.max_images={}", probe_images),
          "eval.every=1000000",      "eval.pictures=0",
          "run.tensorboard=false",   "run.log_every=4"};
}

std::optional<Pace> pace_of_probe(const std::filesystem::path& run, const SolverConfig& solver, int64_t validation_images) {
  const std::vector<LoggedStep> timed = last_steps(run, 4);
  if (timed.empty()) return std::nullopt;
  Pace pace;
  const auto images = static_cast<double>(solver.batch_size * solver.accumulate);
  for (const LoggedStep& t : timed) pace.step_seconds += images / std::max(t.images_per_s, 1e-9) / double(timed.size());
  // The last step's line is written when the step is done, the evaluation's when that is.
  std::error_code error;
  const auto begin = std::filesystem::last_write_time(run / "metrics.jsonl", error);
  const auto end = error ? begin : std::filesystem::last_write_time(run / "results.csv", error);
  if (!error && end > begin)
    pace.image_seconds = std::chrono::duration<double>(end - begin).count() /
                         static_cast<double>(std::clamp<int64_t>(validation_images, 1, probe_images));
  return pace;
}

std::vector<std::string> plan_of_training(const Config& config, const ImageCounts& images, const Pace& pace, double budget,
                                          int64_t& steps) {
  const auto fit = std::max<int64_t>(1, static_cast<int64_t>(share_of_steps * budget / pace.step_seconds));
  const int64_t epoch = epoch_of(config, images.training), own = own_steps(config.solver, epoch);
  steps = own > 0 ? std::min(own, fit) : fit;
  std::vector<std::string> settings{fmt::format("solver.max_iterations={}", steps)};
  plan_evaluations(config.eval, images.validation, pace, budget, steps, settings);
  if (steps < own) shorten_schedule(config.solver, epoch, double(steps) / double(own), settings);
  return settings;
}

std::vector<LoggedStep> last_steps(const std::filesystem::path& run, size_t count) {
  std::ifstream file(run / "metrics.jsonl", std::ios::binary | std::ios::ate);
  const std::streamoff size = file ? static_cast<std::streamoff>(file.tellg()) : 0,
                       tail = std::min<std::streamoff>(size, 1 << 14);
  file.seekg(size - tail);
  std::vector<LoggedStep> steps;
  for (std::string line; std::getline(file, line);) {
    rapidjson::Document json;
    json.Parse(line.c_str());
    if (json.HasParseError() || !json.IsObject() || !json.HasMember("step") || !json["step"].IsInt64()) continue;
    LoggedStep s{.step = json["step"].GetInt64()};
    for (const auto& [key, value] :
         {std::pair{"images_per_s", &LoggedStep::images_per_s}, {"loss", &LoggedStep::loss}, {"memory", &LoggedStep::memory}})
      if (json.HasMember(key) && json[key].IsNumber()) s.*value = json[key].GetDouble();
    steps.push_back(s);
  }
  if (steps.size() > count) steps.erase(steps.begin(), steps.end() - static_cast<std::ptrdiff_t>(count));
  return steps;
}

}  // namespace glia
