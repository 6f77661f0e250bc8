#include "train/checkpoint.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "data/atomic_file.h"
#include "data/safetensors.h"
#include "tensor/error.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view code_version = "0.1.0";
constexpr std::string_view state_prefix = "state.";
constexpr std::string_view ema_prefix = "ema.";
constexpr std::string_view optimizer_prefix = "optimizer.";

bool all_finite(const Tensor& t) {
  if (t.dtype() != DType::float32) return true;
  const auto values = t.values<float>();
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

void require_finite(const StateDict& tensors, const fs::path& file) {
  for (const auto& [name, t] : tensors) {
    if (!all_finite(t)) throw DivergedError("{}: not written, {} holds numbers that are not finite", file.string(), name);
  }
}

std::map<std::string, Tensor> tensors_of(const Checkpoint& c) {
  std::map<std::string, Tensor> all = c.weights;
  all.insert(c.optimizer.begin(), c.optimizer.end());
  for (const auto& [name, t] : c.ema) all.emplace(std::string(ema_prefix) + name, t);
  return all;
}

uint64_t size_on_disk(const Checkpoint& c) {
  uint64_t bytes = 64 * 1024 + c.config.size();  // header
  for (const auto& [name, t] : tensors_of(c)) bytes += t.bytes() + 2 * name.size() + 256;
  return bytes;
}

int64_t integer_of(const Metadata& metadata, const std::string& key, const fs::path& file) {
  const auto it = metadata.find(key);
  int64_t value = 0;
  if (it != metadata.end()) {
    const char* end = it->second.data() + it->second.size();
    if (std::from_chars(it->second.data(), end, value).ptr == end && !it->second.empty()) return value;
  }
  throw DataError("{}: metadata \"{}\" is {}, want an integer", file.string(), key,
                  it == metadata.end() ? "missing" : '"' + it->second + '"');
}

std::string text_of(const Metadata& metadata, const std::string& key) {
  const auto it = metadata.find(key);
  return it == metadata.end() ? "" : it->second;
}

}  // namespace

void TrainingState::set(const std::string& name, double value) { values_[name] = fmt::format("{}", value); }

std::optional<double> TrainingState::number(const std::string& name) const {
  const auto it = values_.find(name);
  if (it == values_.end()) return std::nullopt;
  double value = 0;
  const char* end = it->second.data() + it->second.size();
  if (std::from_chars(it->second.data(), end, value).ptr != end || it->second.empty())
    throw DataError("checkpoint: state.{} is \"{}\", want a number", name, it->second);
  return value;
}

int64_t TrainingState::integer(const std::string& name, int64_t otherwise) const {
  const auto value = number(name);
  if (!value) return otherwise;
  // 2^53: from there on a double skips integers, and beyond 2^63 the conversion is undefined.
  if (!(std::abs(*value) <= 9007199254740992.0))
    throw DataError("checkpoint: state.{} is \"{}\", want an integer", name, values_.at(name));
  return static_cast<int64_t>(*value);
}

std::string TrainingState::text(const std::string& name) const {
  const auto it = values_.find(name);
  return it == values_.end() ? "" : it->second;
}

StateDict Checkpoint::inference_weights() const {
  StateDict result = weights;
  for (const auto& [name, t] : ema) result[name] = t;
  return result;
}

void write_checkpoint(const fs::path& file, const Checkpoint& c) {
  require_finite(c.weights, file);
  require_finite(c.optimizer, file);
  require_finite(c.ema, file);
  Metadata metadata{{"format", std::string(checkpoint_format)},
                    {"model", c.model},
                    {"config", c.config},
                    {"step", std::to_string(c.step)},
                    {"epoch", std::to_string(c.epoch)},
                    {"seed", std::to_string(c.seed)},
                    {"best", c.best},
                    {"code_version", std::string(code_version)}};
  for (const auto& [name, value] : c.state.values()) metadata[std::string(state_prefix) + name] = value;
  write_safetensors(file, tensors_of(c), metadata, {.checksums = true});
}

Checkpoint checkpoint_of(const SafetensorsFile& file, const fs::path& path, CheckpointUse use) {
  const Metadata& metadata = file.metadata();
  Checkpoint c;
  c.model = text_of(metadata, "model");
  c.config = text_of(metadata, "config");
  c.best = text_of(metadata, "best");
  c.step = integer_of(metadata, "step", path);
  c.epoch = integer_of(metadata, "epoch", path);
  c.seed = integer_of(metadata, "seed", path);
  for (const auto& [name, value] : metadata)
    if (name.starts_with(state_prefix)) c.state.set(name.substr(state_prefix.size()), value);
  for (const SafetensorsEntry& entry : file.entries()) {
    if (use == CheckpointUse::predict && entry.name.starts_with(optimizer_prefix)) continue;
    Tensor t = file.load(entry.name);
    if (entry.name.starts_with(optimizer_prefix)) {
      c.optimizer.emplace(entry.name, std::move(t));
    } else if (entry.name.starts_with(ema_prefix)) {
      c.ema.emplace(entry.name.substr(ema_prefix.size()), std::move(t));
    } else {
      c.weights.emplace(entry.name, std::move(t));
    }
  }
  return c;
}

Checkpoint read_checkpoint(const fs::path& path, CheckpointUse use) {
  const SafetensorsFile file(path);
  const std::string format = text_of(file.metadata(), "format");
  if (format != checkpoint_format)
    throw DataError("{}: no checkpoint of Glia: metadata \"format\" is \"{}\", want \"{}\"", path.string(), format,
                    checkpoint_format);
  if (!file.verify()) throw DataError("{}: the checksums are missing", path.string());
  return checkpoint_of(file, path, use);
}

CheckpointFolder::CheckpointFolder(fs::path folder, int64_t keep) : folder_(std::move(folder)), keep_(keep) {}

fs::path CheckpointFolder::step_file(int64_t step) const { return folder_ / fmt::format("step-{:06}.safetensors", step); }

void CheckpointFolder::create() {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) throw IoError("{}: the folder cannot be made: {}", folder_.string(), error.message());
  remove_stale_temporaries(folder_);
}

std::vector<int64_t> CheckpointFolder::steps() const {
  std::vector<int64_t> result;
  std::error_code error;
  for (fs::directory_iterator it(folder_, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with("step-") || !name.ends_with(".safetensors")) continue;
    const char *first = name.data() + 5, *last = name.data() + name.size() - 12;
    int64_t step = 0;
    if (first < last && std::from_chars(first, last, step).ptr == last) result.push_back(step);
  }
  std::sort(result.begin(), result.end());
  return result;
}

bool CheckpointFolder::empty() const {
  std::error_code ignored;
  return steps().empty() && !fs::exists(last(), ignored) && !fs::exists(best(), ignored);
}

void CheckpointFolder::replace_by_link(const fs::path& to, const fs::path& from) {
  const fs::path temporary = folder_ / fmt::format(".{}.tmp-{}", to.filename().string(), ::getpid());
  file_calls().unlink(temporary.c_str());
  if (file_calls().link(from.c_str(), temporary.c_str()) != 0) {  // a file system without hard links
    const MappedFile source(from);
    AtomicFile copy(to);
    copy.write(source.bytes());
    copy.commit();
    return;
  }
  try {
    rename_over(temporary, to);
  } catch (const IoError&) {
    file_calls().unlink(temporary.c_str());
    throw;
  }
  // Renaming a link onto another link of the same file leaves both names (POSIX), so the temporary one may still be there.
  file_calls().unlink(temporary.c_str());
  sync_folder(folder_);
}

void CheckpointFolder::save(const Checkpoint& checkpoint, bool is_best, std::span<const int64_t> kept) {
  const uint64_t needed = size_on_disk(checkpoint) / 10 * 11;
  std::error_code error;
  const fs::space_info space = fs::space(folder_, error);
  if (!error && space.available < needed)
    throw IoError("{}: {} bytes are free, a checkpoint of step {} needs {}; the disk is full. Earlier checkpoints are whole",
                  folder_.string(), space.available, checkpoint.step, needed);
  const fs::path file = step_file(checkpoint.step);
  write_checkpoint(file, checkpoint);
  replace_by_link(last(), file);
  if (is_best) replace_by_link(best(), file);
  remove_oldest(checkpoint.step, kept);
}

void CheckpointFolder::tag(const fs::path& name, int64_t step) { replace_by_link(name, step_file(step)); }

void CheckpointFolder::remove_oldest(int64_t newest_step, std::span<const int64_t> kept) {
  std::vector<int64_t> older = steps();
  std::erase_if(older,
                [&](int64_t step) { return step >= newest_step || std::find(kept.begin(), kept.end(), step) != kept.end(); });
  for (size_t i = 0; i + static_cast<size_t>(keep_) <= older.size(); ++i) file_calls().unlink(step_file(older[i]).c_str());
}

std::optional<CheckpointFolder::Found> CheckpointFolder::newest() const {
  std::vector<fs::path> candidates;
  std::vector<int64_t> numbers = steps();
  for (auto it = numbers.rbegin(); it != numbers.rend(); ++it) candidates.push_back(step_file(*it));
  std::error_code ignored;
  for (const fs::path& name : {last(), best()})
    if (fs::exists(name, ignored)) candidates.push_back(name);
  std::vector<std::string> skipped;
  for (const fs::path& file : candidates) {
    try {
      Checkpoint checkpoint = read_checkpoint(file);
      return Found{std::move(checkpoint), file, std::move(skipped)};
    } catch (const Error& e) {
      if (e.code() != ExitCode::data && e.code() != ExitCode::io) throw;
      skipped.emplace_back(e.what());
    }
  }
  if (skipped.empty()) return std::nullopt;
  throw DataError("{}: no checkpoint can be used:\n  {}", folder_.string(), fmt::join(skipped, "\n  "));
}

void CheckpointFolder::set_aside_after(int64_t step) {
  for (const int64_t s : steps()) {
    if (s <= step) continue;
    fs::path aside = step_file(s);
    aside += ".aside";
    file_calls().rename(step_file(s).c_str(), aside.c_str());
  }
}

void CheckpointFolder::remove_all() {
  for (const int64_t s : steps()) file_calls().unlink(step_file(s).c_str());
  file_calls().unlink(last().c_str());
  file_calls().unlink(best().c_str());
}

}  // namespace glia
