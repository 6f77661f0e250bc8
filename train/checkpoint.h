#pragma once
// Checkpoints: one safetensors file holds all that a training needs to go on, and a folder of them survives any crash.
//
//   weights       under the names and in the layout of the system re-implemented
//   optimizer.*   state of the optimizer,  ema.*  averaged weights
//   __metadata__  format, model, config (TOML), step, epoch, seed, best, code_version, state.* (early stopping and the like), and
//                 checksums of every tensor and of the metadata
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/safetensors.h"
#include "nn/module.h"

namespace glia {

inline constexpr std::string_view checkpoint_format = "glia checkpoint 1";

// Named numbers and texts that parts of a training remember. Numbers read back to the bit.
class TrainingState {
 public:
  void set(const std::string& name, double value);
  void set(const std::string& name, int64_t value) { values_[name] = std::to_string(value); }
  void set(const std::string& name, const std::string& value) { values_[name] = value; }
  std::optional<double> number(const std::string& name) const;  // nothing when it was not set
  int64_t integer(const std::string& name, int64_t otherwise) const;
  std::string text(const std::string& name) const;  // "" when it was not set
  const std::map<std::string, std::string>& values() const { return values_; }

 private:
  std::map<std::string, std::string> values_;
};

struct Checkpoint {
  std::string model;   // config.model.name
  std::string config;  // TOML
  int64_t step = 0;    // optimizer steps taken
  int64_t epoch = 0;   // epochs finished
  int64_t seed = 0;
  std::string best;  // "map_iou 0.3127 at step 1200", or "" before the first evaluation
  TrainingState state;
  StateDict weights;
  StateDict optimizer;  // names begin with "optimizer."
  StateDict ema;        // parameter names; empty without EMA

  // The weights to predict with: averaged where there is an average.
  StateDict inference_weights() const;
};

// Throws IoError (the file is then as before), and DivergedError for weights that are not finite.
void write_checkpoint(const std::filesystem::path& file, const Checkpoint& checkpoint);

// What a checkpoint is read for: to predict, the optimizer's state, two thirds of a training's file, is left in the file.
enum class CheckpointUse { all, predict };

// Throws IoError; DataError for a file that is no checkpoint, is cut short, or does not match its checksums (of all that is in it).
Checkpoint read_checkpoint(const std::filesystem::path& file, CheckpointUse use = CheckpointUse::all);

// The content of a file that is one, its checksums unchecked; `path` stands in messages.
Checkpoint checkpoint_of(const SafetensorsFile& file, const std::filesystem::path& path, CheckpointUse use = CheckpointUse::all);

// RUN/checkpoints: step-NNNNNN.safetensors, and last.safetensors and best.safetensors, which are hard links to such files (copies
// where the file system has no links). Protocol of save(): temporary file, sync, rename to step-NNNNNN, sync the folder; then
// last (and best) replaced likewise; only then the oldest step files are removed. So at any moment, last and the newest step file
// but one are whole.
class CheckpointFolder {
 public:
  CheckpointFolder(std::filesystem::path folder, int64_t keep);

  const std::filesystem::path& path() const { return folder_; }
  std::filesystem::path last() const { return folder_ / "last.safetensors"; }
  std::filesystem::path best() const { return folder_ / "best.safetensors"; }
  std::filesystem::path step_file(int64_t step) const;

  void create();       // the folder; removes temporary files of writers that are gone. IoError where it cannot be written to
  bool empty() const;  // holds no checkpoint

  // IoError where the disk has less than 1.1 times the file's size left, or on any failure: what was there before is then
  // untouched.
  // Step files of `kept` stay, however old.
  void save(const Checkpoint& checkpoint, bool is_best, std::span<const int64_t> kept = {});
  void tag(const std::filesystem::path& name, int64_t step);  // last() or best() becomes the file of this step

  // The newest checkpoint that verifies, with the reasons why newer ones were passed over. Nothing in an empty folder; DataError
  // when there are checkpoints but none is good.
  struct Found {
    Checkpoint checkpoint;
    std::filesystem::path file;
    std::vector<std::string> skipped;
  };
  std::optional<Found> newest() const;

  // Renames step files above `step` to NAME.aside: a run that goes on from `step` writes its own.
  void set_aside_after(int64_t step);
  void remove_all();

 private:
  std::vector<int64_t> steps() const;  // ascending
  void replace_by_link(const std::filesystem::path& to, const std::filesystem::path& from);
  void remove_oldest(int64_t newest_step, std::span<const int64_t> kept);

  std::filesystem::path folder_;
  int64_t keep_;
};

}  // namespace glia
