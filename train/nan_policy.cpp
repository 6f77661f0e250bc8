#include "train/nan_policy.h"

#include <fmt/format.h>

#include "data/atomic_file.h"
#include "data/image_io.h"
#include "tensor/error.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

fs::path reports_of(const fs::path& run) { return run / "diverged"; }

}  // namespace

void BadSteps::handle(RunContext& context, const DivergedError& error, const Checkpoint& before) {
  const std::string text = fmt::format("{}\n  report: {}", error.what(), write_report(context, before));
  switch (policy_.kind) {
    case NanPolicy::Kind::stop: throw DivergedError(text);
    case NanPolicy::Kind::skip:
      if (in_a_row_ >= policy_.limit)
        throw DivergedError("{}\n  stopped: {} such steps in a row, run.on_nan = \"skip:{}\"", text, in_a_row_ + 1,
                            policy_.limit);
      ++in_a_row_;
      context.trainer.skip();
      return context.warn(fmt::format("{}\n  the step is left out ({} in a row, at most {})", text, in_a_row_, policy_.limit));
    case NanPolicy::Kind::rollback:
      if (rollbacks_ >= policy_.limit)
        throw DivergedError("{}\n  stopped: the run went back {} times already, run.on_nan = \"rollback:{}\"", text, rollbacks_,
                            policy_.limit);
      const std::string source = go_back(context, text);
      ++rollbacks_;
      return context.warn(fmt::format("{}\n  the weights are those of {} again ({} of at most {} times)", text, source,
                                      rollbacks_, policy_.limit));
  }
}

std::string BadSteps::go_back(RunContext& context, const std::string& text) const {
  std::optional<CheckpointFolder::Found> found;
  try {
    found = checkpoints_.newest();
  } catch (const DataError& e) {
    throw DivergedError("{}\n  stopped: {}", text, e.what());
  }
  if (!found) throw DivergedError("{}\n  stopped: there is no checkpoint yet to go back to", text);
  for (const std::string& reason : found->skipped) context.warn(fmt::format("passed over: {}", reason));
  context.trainer.go_back_to(found->checkpoint, found->file.string());
  return found->file.string();
}

std::string BadSteps::write_report(RunContext& context, const Checkpoint& before) const {
  const fs::path folder = reports_of(context.folder), state = folder / "before.safetensors";
  const fs::path file = folder / fmt::format("step-{:06}.txt", before.step + 1);
  std::string text = context.trainer.divergence();
  try {
    fs::create_directories(folder);
    write_checkpoint(state, before);
    text += fmt::format("\nThe training before this step: {}, until the next such step replaces it.\n", state.string());
    if (!command_.empty())
      text += fmt::format("To run the step again:\n  {} --out replay --resume {} --set solver.max_iterations={} --on-nan stop\n",
                          command_, state.string(), before.step + 1);
  } catch (const std::exception& e) {  // weights that were not finite before the step, a full disk
    text += fmt::format("\nThe training before this step was not kept: {}\n", e.what());
  }
  try {
    if (const Tensor& picture = context.trainer.divergence_picture()) {
      const fs::path images = fs::path(file).replace_extension(".png");
      write_png(images, picture);
      text += fmt::format("Its images, pixels that are not finite in red: {}\n", images.string());
    }
    write_file(file, text);
  } catch (const IoError& e) {
    return fmt::format("none ({})", e.what());
  }
  return file.string();
}

void BadSteps::save(TrainingState& state) const {
  state.set("on_nan.in_a_row", in_a_row_);
  state.set("on_nan.rollbacks", rollbacks_);
}

void BadSteps::load(const TrainingState& state) {
  in_a_row_ = state.integer("on_nan.in_a_row", 0);
  rollbacks_ = state.integer("on_nan.rollbacks", 0);
}

void remove_divergence_reports(const fs::path& run) {
  std::error_code ignored;
  std::vector<fs::path> files;
  for (fs::directory_iterator it(reports_of(run), ignored), end; it != end; it.increment(ignored)) {
    const std::string name = it->path().filename().string();
    if (name == "before.safetensors" || (name.starts_with("step-") && (name.ends_with(".txt") || name.ends_with(".png"))))
      files.push_back(it->path());
  }
  for (const fs::path& file : files) fs::remove(file, ignored);
  fs::remove(reports_of(run), ignored);  // where nothing else is in it
}

}  // namespace glia
