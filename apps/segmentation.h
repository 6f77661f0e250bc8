#pragma once
// What several commands need: the segmenter that a configuration describes, a data set opened with its faults told, a checkpoint
// made ready to predict.
#include <filesystem>
#include <memory>
#include <string>

#include "apps/cli.h"
#include "data/dataset.h"
#include "models/segmenter.h"
#include "train/checkpoint.h"
#include "train/config.h"

namespace glia {

// Options of every command that opens a data set.
struct DataOptions {
  std::string images, labels = "instances", on_size_mismatch = "stop", on_corrupt = "stop";
  bool allow_outside = false;

  void declare(Arguments& arguments, bool with_images = true);  // without: the command has an --images of its own
  DatasetOptions options() const;                               // UsageError for unknown words
};

// The system that the configuration describes (apps/systems.cpp). Throws UsageError for settings that do not go together.
std::unique_ptr<Segmenter> make_segmenter(const Config& config);

// ---- classes of systems that tell some apart (Segmenter::takes_instances) ----
// Names of the classes that a training on this data has: data.classes, else the data's; a single one where model.num_classes = 1.
// DataError where model.num_classes is another number.
std::vector<std::string> training_classes(const Config& config, const Dataset& dataset);
// data.class_from = "name": an image's instances are of the one of `classes` that its id begins with, in either case, where the name ends
// there or something other than a letter or digit follows ("A172" of "a172_Phase_1"). DataError for an image with instances that begins
// with none.
void take_classes_from_names(Dataset& dataset, const std::vector<std::string>& classes);
// The data set's categories become `classes`, by name; where there is one class, all become it. DataError for one that is not there.
void use_classes(Dataset& dataset, const std::vector<std::string>& classes);

// run.precision of the computations that follow on the device.
void use_precision(const std::string& precision, Device device);

// One line to stderr for each kind of fault.
void print_faults(const Faults& faults, bool quiet);

// The data set at `path`; what was dropped or looks odd goes to stderr unless quiet. Throws as open_dataset.
Dataset open_data(const std::string& path, const DatasetOptions& options, bool quiet);

// The folder, made where it is not there. IoError.
void make_folder(const std::filesystem::path& folder);

// The same for results that have the images' names. UsageError where a data set, or an image of `inputs`, is in it.
void make_output_folder(const std::filesystem::path& folder, const Dataset& inputs);

// The images of the data set in `folder`, which is made: as links to the same files (hard links; symbolic ones across file systems), or
// as copies. An image that is there under that name is replaced. IoError.
void place_images(const Dataset& dataset, const std::filesystem::path& folder, bool copy);

// A trained system on a device, its weights loaded (averaged ones where there are), in eval mode.
struct TrainedSystem {
  Config config;
  std::unique_ptr<Segmenter> segmenter;
};
// `settings` are --set's, on top of those of `settings_file` (TOML; "" for none), on top of the checkpoint's. Throws IoError, DataError
// (not a checkpoint, wrong weights), UsageError.
TrainedSystem load_system(const std::filesystem::path& checkpoint, const std::vector<std::string>& settings, Device device,
                          const std::filesystem::path& settings_file = {});

// Example `index` as the segmenter takes it, unfitted.
Example load_example(const Segmenter& segmenter, const Dataset& dataset, int64_t index);

// Loader of training examples: fitted, augmented, collated as the segmenter wants.
Loader make_training_loader(const Config& config, const Dataset& dataset, const Segmenter& segmenter);

// The names that evaluate_segmenter gives.
std::vector<std::string> metric_names(const Segmenter& segmenter);

// Whether a UNet of model.target = "border" sees cells and founds none: pixels above model.threshold in most images, and not one instance
// in any. Its results look as if nothing had been learned then, while it only lacks seeds.
class SeedCheck {
 public:
  explicit SeedCheck(const Config& config) : config_(config) {}
  void add(const Prediction& prediction);
  std::string warning() const;  // what it is and what to do; "" where it is not so, or for other systems

 private:
  const Config& config_;
  int64_t images_ = 0, with_cell_pixels_ = 0, instances_ = 0;
};

// Metrics of the segmenter over the first `limit` (0: all) samples: loss, dice, map_iou, ... Empty when a signal asked to stop. `check`
// looks at the predictions.
std::optional<NamedValues> evaluate_segmenter(Segmenter& segmenter, const Dataset& dataset, int64_t limit, SeedCheck& check);

// Truth beside prediction for the first `count` samples, matches in colours -> one PNG.
void draw_predictions(Segmenter& segmenter, const Dataset& dataset, int64_t count, const std::filesystem::path& file,
                      const std::string& title);

}  // namespace glia
