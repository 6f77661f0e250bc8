// glia train: from a data set to a run's folder.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "apps/cli.h"
#include "apps/plots.h"
#include "apps/segmentation.h"
#include "autograd/tape.h"
#include "bench/peak.h"
#include "data/atomic_file.h"
#include "data/coco_json.h"
#include "data/split.h"
#include "kernels/packed_filter.h"
#include "kernels/tuning.h"
#include "models/weight_names.h"
#include "nn/optimizer.h"
#include "tensor/memory.h"
#include "train/step_profile.h"
#include "train/training_run.h"
#include "train/transfer.h"

namespace glia {
namespace {

struct Options {
  CommonOptions common;
  DataOptions data_options;
  std::string recipe, data, out, val, resume, on_nan, on_save_error;
  std::vector<std::string> settings;
  std::optional<std::string> seed;
  bool print_config = false, overwrite = false, deterministic = false, explain = false;
};

Config read_config(const Options& options) {
  std::vector<std::string> settings = options.settings;
  if (options.seed) settings.push_back("run.seed=" + *options.seed);
  if (options.common.device != "auto") settings.push_back("run.device=" + options.common.device);
  if (options.common.kernels != "auto") settings.push_back("run.kernels=" + options.common.kernels);
  if (options.common.threads != 0) settings.push_back("run.threads=" + std::to_string(options.common.threads));
  if (!options.common.mem_limit.empty())
    settings.push_back(fmt::format("run.memory_limit={}", double(parse_bytes(options.common.mem_limit)) / 1e9));
  if (!options.on_nan.empty()) settings.push_back("run.on_nan=" + options.on_nan);
  if (!options.on_save_error.empty()) settings.push_back("checkpoint.on_error=" + options.on_save_error);
  if (options.deterministic) settings.push_back("run.deterministic=true");
  if (!options.val.empty()) settings.push_back("data.val=" + options.val);
  Config config = load_config(options.recipe, settings);
  if (config.cellpose.diameter.automatic)
    throw UsageError(
        "cellpose.diameter = \"auto\" is a setting of prediction: the size model is fitted to a trained network (glia size-model)");
  return config;
}

// The run's own settings of threads, device, kernels and memory: a recipe may give them as well as the command line.
Device apply_run_settings(const Options& options, const Config& config) {
  CommonOptions common = options.common;
  common.device = config.run.device;
  common.kernels = config.run.kernels;
  common.threads = config.run.threads;
  const Device device = common.apply_to_device();
  if (config.run.memory_limit > 0) set_memory_limit(static_cast<size_t>(config.run.memory_limit * 1e9), device);
  use_precision(config.run.precision, device);
  set_recomputing(config.run.recompute);
  set_pack_weights(config.run.pack_weights);
  set_tuning(!config.run.deterministic);
  return device;
}

std::string quoted(const std::string& word) {  // for a shell
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word.find_first_of(" \t'\"\\$&|;<>()*?#~`!{}[]") == std::string::npos ? word : text + "'";
}

// The command that trains with this run's settings on this data, but for --out.
std::string command_of(const Options& options) {
  const DataOptions& d = options.data_options;
  std::string text = fmt::format("glia train {} --data {}", quoted(options.out + "/config.toml"), quoted(options.data));
  if (!d.images.empty()) text += " --images " + quoted(d.images);
  if (d.labels != "instances") text += " --labels " + d.labels;
  if (d.on_size_mismatch != "stop") text += " --on-size-mismatch " + d.on_size_mismatch;
  if (d.on_corrupt != "stop") text += " --on-corrupt " + d.on_corrupt;
  return d.allow_outside ? text + " --allow-outside" : text;
}

struct TrainingData {
  Dataset train, validation;
};

// The data set; with --on-corrupt skip also without the images whose pixels cannot be read, each with a warning.
Dataset open_readable(const Options& options, const std::string& path, Instances instances = Instances::required) {
  DatasetOptions read = options.data_options.options();
  read.instances = instances;
  Dataset dataset = open_data(path, read, options.common.quiet);
  if (options.data_options.on_corrupt != "skip") return dataset;
  std::erase_if(dataset.samples, [](const Sample& sample) {
    try {
      read_pixels(sample);
      return false;
    } catch (const Error& e) {
      if (e.code() != ExitCode::data && e.code() != ExitCode::io) throw;
      fmt::print(stderr, "warning: left out: {}\n", e.what());
      return true;
    }
  });
  if (dataset.samples.empty()) throw DataError("{}: not one image can be read", path);
  return dataset;
}

TrainingData open_training_data(const Options& options, const Config& config) {
  Dataset all = open_readable(options, options.data);
  if (!config.data.val.empty()) return {std::move(all), open_readable(options, config.data.val, Instances::optional)};
  const SplitOptions how{.method = config.data.split == "every_nth" ? SplitMethod::every_nth : SplitMethod::seeded,
                         .fraction = config.data.val_fraction,
                         .seed = static_cast<uint64_t>(config.data.split_seed)};
  const Split split = split_samples(all, how);
  return {subset(all, split.train), subset(all, split.validation)};
}

// The network's classes, and no image without an instance among those to train on.
void prepare_for_detection(const Config& config, TrainingData& data, const std::string& data_path, bool quiet) {
  check_config(config);  // settings per class, now that their number is known
  for (Dataset* dataset : {&data.train, &data.validation}) {
    if (config.data.class_from == "name") take_classes_from_names(*dataset, config.data.classes);
    use_classes(*dataset, config.data.classes);
  }
  if (config.backbone.norm == "frozen_bn" && config.init.weights.empty() && !quiet)
    fmt::print(
        stderr,
        "warning: backbone.norm = \"frozen_bn\" without init.weights: its constants come with pretrained weights; to train from "
        "scratch take bn or gn, and backbone.freeze_at = 0\n");
  if (!config.input.filter_empty) return;
  const int64_t dropped = drop_unannotated(data.train);
  if (data.train.samples.empty())
    throw DataError(
        "{}: not one image to train on has an instance: all annotations are crowds, or in the validation images; want another "
        "split (data.val_fraction, data.split_seed, --val), or input.filter_empty=false to train on images without any",
        data_path);
  if (dropped > 0 && !quiet)
    fmt::print(stderr, "note: {} images without an instance are left out of the training (input.filter_empty)\n", dropped);
}

// No image with so few cells that they say little of how large cells are.
void prepare_for_cellpose(const Config& config, TrainingData& data, bool quiet) {
  const size_t before = data.train.samples.size();
  int64_t most = 0;
  const auto few = [&](const Sample& sample) {
    const int64_t cells =
        std::count_if(sample.instances.begin(), sample.instances.end(), [](const Instance& i) { return !i.crowd; });
    most = std::max(most, cells);
    return cells < config.cellpose.min_train_masks;
  };
  std::erase_if(data.train.samples, few);
  const size_t left = data.train.samples.size();
  if (left == 0)
    throw DataError(
        "not one of {} images to train on has {} cells (cellpose.min_train_masks); the fullest has {}: lower the setting", before,
        config.cellpose.min_train_masks, most);
  if (left < before && !quiet)
    fmt::print(stderr, "note: {} images with fewer than {} cells are left out of the training (cellpose.min_train_masks)\n",
               before - left, config.cellpose.min_train_masks);
}

// In the run's folder. A resumed run that finds others there is told so: its data have changed.
void keep_annotations(const std::filesystem::path& folder, const TrainingData& data) {
  for (const auto& [name, dataset] :
       {std::pair{"annotation_train.json", &data.train}, {"annotation_val.json", &data.validation}}) {
    const std::filesystem::path file = folder / name;
    const auto fingerprint = [&file]() -> std::string {
      std::error_code error;
      if (!std::filesystem::exists(file, error)) return "";
      const MappedFile content(file);
      const std::string_view text(reinterpret_cast<const char*>(content.bytes().data()), content.bytes().size());
      return std::to_string(std::hash<std::string_view>()(text));
    };
    const std::string before = fingerprint();
    write_coco(file, *dataset);
    if (!before.empty() && before != fingerprint())
      fmt::print(stderr, "warning: {}: the images or annotations are not those that the run was started with\n", file.string());
  }
}

TransferReport take_initial_weights(Module& module, const InitConfig& init) {
  return transfer_weights(module, with_own_names(model_weights(read_weights(init.weights))), init);
}

// --explain: some steps on the data's first batches, and what each layer of them cost. Nothing is written.
int explain(const Options& options, Config config, Device device) {
  constexpr int steps = 3;
  TrainingData data = open_training_data(options, config);
  if (system_of(config) == "mask_rcnn") {
    set_classes(config, training_classes(config, data.train));
    prepare_for_detection(config, data, options.data, options.common.quiet);
  }
  if (system_of(config) == "cellpose") prepare_for_cellpose(config, data, options.common.quiet);
  const auto segmenter = make_segmenter(config);
  Module& module = segmenter->module();
  module.initialize(static_cast<uint64_t>(config.run.seed));
  if (!config.init.weights.empty()) take_initial_weights(module, config.init);
  segmenter->study(data.train);
  module.to(device);
  Loader loader = make_training_loader(config, data.train, *segmenter);
  Optimizer optimizer(trainer_options(config, steps).optimizer, module.parameters());
  std::optional<StepProfile> profile;
  for (int step = 0; step <= steps; ++step) {
    std::vector<Tensor> batch = loader.next()->tensors;
    for (Tensor& t : batch) t = t.to(device);
    if (step == 1) profile.emplace(module, device);  // the first step warms up
    if (profile) profile->begin_step();
    optimizer.zero_grad();
    module.set_random(static_cast<uint64_t>(config.run.seed), step);
    backward(weighted_sum(segmenter->losses(batch), config.loss.terms));
    optimizer.step(config.solver.lr);
    if (profile) profile->end_step("optimizer");
  }
  fmt::print("{} on {}: means of {} steps of {} images\n\n{}", options.recipe, to_string(device), steps, config.solver.batch_size,
             profile_text(profile->rows(), device.kind == DeviceKind::cpu ? bench::peak().gflops : 0));
  return 0;
}

int run(const Options& options) {
  const Config config = read_config(options);
  const std::vector<std::string> metrics = metric_names(*make_segmenter(config));  // throws for settings that do not go together
  check_metrics(config, metrics);
  if (options.print_config) {
    fmt::print("{}", to_toml(config, true));
    return 0;
  }
  if (options.data.empty()) throw UsageError("--data is required: a folder with train.csv, a COCO file, or images/ and labels/");
  if (options.explain) return explain(options, config, apply_run_settings(options, config));
  if (options.out.empty()) throw UsageError("--out is required: the run's folder");
  const Device device = apply_run_settings(options, config);
  TrainingRun training(config, {.folder = options.out,
                                .resume = options.resume,
                                .overwrite = options.overwrite,
                                .quiet = options.common.quiet,
                                .command = command_of(options)});
  TrainingData data = open_training_data(options, training.config());
  if (system_of(config) == "mask_rcnn") {
    training.set_classes(training_classes(training.config(), data.train));
    prepare_for_detection(training.config(), data, options.data, options.common.quiet);
  }
  if (system_of(config) == "cellpose") prepare_for_cellpose(config, data, options.common.quiet);
  const bool validates = !data.validation.samples.empty();
  if (!validates)
    fmt::print(stderr, "warning: training without validation: there is no image for it; the last weights are kept\n");
  const auto annotated = [](const Sample& s) {
    return std::any_of(s.instances.begin(), s.instances.end(), [](const Instance& i) { return !i.crowd; });
  };
  if (validates && std::none_of(data.validation.samples.begin(), data.validation.samples.end(), annotated))
    fmt::print(stderr, "warning: the {} validation images have no instance: metrics that need truth say nothing\n",
               data.validation.samples.size());

  const auto segmenter = make_segmenter(training.config());
  segmenter->module().initialize(static_cast<uint64_t>(config.run.seed));
  std::vector<std::string> notes;
  if (!config.init.weights.empty() && !training.resuming())
    notes.push_back(take_initial_weights(segmenter->module(), config.init).table());
  segmenter->study(data.train);
  segmenter->module().to(device);
  Loader loader = make_training_loader(training.config(), data.train, *segmenter);
  TrainingParts parts{.model = segmenter->module(),
                      .losses = [&](const Batch& batch) { return segmenter->losses(batch.tensors); },
                      .loader = loader,
                      .evaluate = {},
                      .metric_names = metrics,
                      .stable_losses = segmenter->stable_losses(),
                      .begun = [&] { keep_annotations(training.folder(), data); },
                      .pictures = {},
                      .notes = std::move(notes)};
  std::string seeds;  // the last evaluation's warning: an early one says nothing about the training
  if (validates) {
    parts.evaluate = [&] {
      SeedCheck check(training.config());
      const auto values = evaluate_segmenter(*segmenter, data.validation, config.eval.max_images, check);
      seeds = check.warning();
      return values;
    };
    parts.pictures = [&](const std::filesystem::path& folder, int64_t step) {
      draw_predictions(*segmenter, data.validation, config.eval.pictures, folder / "validation.png",
                       fmt::format("step {}", step));
    };
  }
  const TrainingResult result = training.execute(parts);
  if (!seeds.empty()) fmt::print(stderr, "warning: {}\n", seeds);
  draw_curves(training.folder());
  return static_cast<int>(result.exit_code());
}

}  // namespace

Command train_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "train",
          .summary = "train a model on a data set",
          .example = "glia train unet_border --data cells --out run --set solver.max_epochs=50",
          .declare =
              [options](Arguments& a) {
                a.positional("RECIPE", &options->recipe, "a name (unet, unet_border, study/unet) or a TOML file");
                a.option("--data", &options->data, "folder with train.csv, a COCO file, or images/ and labels/");
                a.option("--out", &options->out, "the run's folder");
                a.option("--val", &options->val, "a validation data set, instead of a fifth of the images");
                a.repeated("--set", &options->settings, "KEY=VALUE, such as solver.lr=1e-4");
                a.flag("--print-config", &options->print_config, "print every setting with its origin and meaning, and exit");
                a.flag("--explain", &options->explain,
                       "print what each layer of a step costs (operations, bytes, time, memory), and exit");
                a.option("--resume", &options->resume, "auto: go on from the newest good checkpoint; or a checkpoint's path");
                a.flag("--overwrite", &options->overwrite, "replace a run that is in the folder");
                a.option("--seed", &options->seed, "run.seed");
                a.flag("--deterministic", &options->deterministic,
                       "run.deterministic: a GPU's kernels by fixed rules, not by measurement");
                a.option("--on-nan", &options->on_nan, "run.on_nan: stop, skip:N or rollback:N, where the loss is not finite");
                a.option("--on-save-error", &options->on_save_error, "checkpoint.on_error: stop or warn, where a disk is full");
                options->data_options.declare(a);
                options->common.declare(a);
              },
          .run = [options] { return run(*options); }};
}

}  // namespace glia
