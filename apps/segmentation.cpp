#include "apps/segmentation.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <utility>

#include "apps/comparison.h"
#include "autograd/tape.h"
#include "data/atomic_file.h"
#include "data/draw.h"
#include "data/weights.h"
#include "kernels/op.h"
#include "kernels/packed_filter.h"
#include "train/metrics.h"
#include "train/signals.h"

namespace glia {
namespace {

void add_values(NamedValues& sums, const NamedValues& values) {
  for (const auto& [name, value] : values) {
    const auto found = std::find_if(sums.begin(), sums.end(), [&](const auto& s) { return s.first == name; });
    if (found == sums.end()) {
      sums.emplace_back(name, value);
    } else {
      found->second += value;
    }
  }
}

}  // namespace

void DataOptions::declare(Arguments& a, bool with_images) {
  if (with_images) a.option("--images", &images, "where the images are, if not beside the annotations");
  a.option("--labels", &labels, "connected-components: label maps are masks, number their pieces");
  a.option("--on-size-mismatch", &on_size_mismatch, "stop, or skip the image");
  a.option("--on-corrupt", &on_corrupt, "stop, or skip the image");
  a.flag("--allow-outside", &allow_outside, "images may be links that lead out of the data set's folder");
}

DatasetOptions DataOptions::options() const {
  const auto chosen = [](const std::string& value, const char* option, const char* yes, const char* no) {
    if (value != yes && value != no) throw UsageError("{} '{}': want {} or {}", option, value, no, yes);
    return value == yes;
  };
  DatasetOptions result;
  result.images = images;
  result.allow_outside = allow_outside;
  result.connected_components = chosen(labels, "--labels", "connected-components", "instances");
  result.skip_size_mismatch = chosen(on_size_mismatch, "--on-size-mismatch", "skip", "stop");
  result.skip_corrupt = chosen(on_corrupt, "--on-corrupt", "skip", "stop");
  return result;
}

void use_precision(const std::string& name, Device device) {
  if (name == "auto") return set_precision(device.kind == DeviceKind::cuda ? Precision::tf32 : Precision::fp32);
  if (name == "exact") return set_precision(Precision::exact);
  const bool on_cpu = device.kind == DeviceKind::cpu;
  if (on_cpu && name != "fp32") fmt::print(stderr, "warning: run.precision = \"{}\": the CPU computes in float32\n", name);
  set_precision(on_cpu || name == "fp32" ? Precision::fp32 : name == "tf32" ? Precision::tf32 : Precision::bf16);
}

void print_faults(const Faults& faults, bool quiet) {
  if (quiet) return;
  for (const Fault& fault : faults.list())
    fmt::print(stderr, "{}: {}{}\n", fault.severity == Severity::warn ? "warning" : name_of(fault.severity),
               fault.examples.empty() ? fault.kind : fault.examples.front(),
               fault.count > 1 ? fmt::format(" (and {} more: {})", fault.count - 1, fault.kind) : "");
}

Dataset open_data(const std::string& path, const DatasetOptions& options, bool quiet) {
  Faults faults;
  Dataset dataset = open_dataset(path, options, &faults);
  print_faults(faults, quiet);
  return dataset;
}

void make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw IoError("{}: cannot create: {}", folder.string(), error.message());
}

void make_output_folder(const std::filesystem::path& folder, const Dataset& inputs) {
  namespace fs = std::filesystem;
  std::error_code error;
  const auto has = [&](const char* name) { return fs::exists(folder / name, error); };
  bool holds_data = has("train.csv") || (has("labels") && (has("images") || has("train")));
  for (const Sample& sample : inputs.samples) {
    const fs::path parent = sample.file.has_parent_path() ? sample.file.parent_path() : fs::path(".");
    holds_data = holds_data || (!sample.file.empty() && fs::equivalent(folder, parent, error));
  }
  if (holds_data) throw UsageError("--out {}: holds your data, which could be overwritten; name another folder", folder.string());
  make_folder(folder);
}

void place_images(const Dataset& dataset, const std::filesystem::path& folder, bool copy) {
  namespace fs = std::filesystem;
  std::error_code error;
  make_folder(folder);
  bool symbolic = false;
  for (const Sample& sample : dataset.samples) {
    if (sample.file.empty()) continue;
    const fs::path source = fs::canonical(sample.file), to = folder / sample.file.filename();
    if (fs::exists(to, error) && fs::canonical(to, error) == source && !fs::is_symlink(to, error))
      continue;  // it is the image itself
    fs::remove(to, error);
    if (copy) {
      fs::copy_file(source, to, error);
    } else {
      fs::create_hard_link(source, to, error);
      if (error) {
        fs::create_symlink(source, to, error);
        symbolic = true;
      }
    }
    if (error) throw IoError("{}: cannot {} {}: {}", to.string(), copy ? "copy" : "link to", source.string(), error.message());
  }
  if (symbolic)
    fmt::print(stderr, "note: {}: these are symbolic links (images of another file system?): use them with --allow-outside\n",
               folder.string());
}

namespace {

// Numbers that are given in the order of `listed`.
std::vector<double> in_order_of(const std::vector<std::string>& classes, const std::vector<std::string>& listed,
                                const std::vector<double>& numbers) {
  std::vector<double> ordered;
  for (const std::string& name : classes) {
    const auto at = std::find(listed.begin(), listed.end(), name);
    if (at == listed.end() || size_t(at - listed.begin()) >= numbers.size())
      throw UsageError("it has no number for the class '{}' of the checkpoint, only for {}", name, fmt::join(listed, ", "));
    ordered.push_back(numbers[size_t(at - listed.begin())]);
  }
  return ordered;
}

// On top of a checkpoint's settings; UsageError that names the file where they do not fit the checkpoint.
void read_settings_file(Config& config, const std::filesystem::path& file) {
  const std::string model = config.model.name, text = read_file(file);
  const std::vector<std::string> classes = config.data.classes;
  try {
    read_toml(config, text, file.string());
    if (config.model.name != model)
      throw UsageError("model.name = \"{}\", but the checkpoint is of {}", config.model.name, model);
    const std::vector<std::string> listed = std::exchange(config.data.classes, classes);
    for (std::vector<double>* list : {&config.eval.class_thresholds, &config.eval.min_sizes})
      if (listed != classes && list->size() > 1) *list = in_order_of(classes, listed, *list);
    check_config(config);
  } catch (const UsageError& e) {
    throw UsageError("--settings {}: {}\nwant only settings that may change at prediction, such as those of [eval]",
                     file.string(), e.what());
  }
}

}  // namespace

TrainedSystem load_system(const std::filesystem::path& file, const std::vector<std::string>& settings, Device device,
                          const std::filesystem::path& settings_file) {
  std::error_code ignored;
  if (std::filesystem::is_directory(file, ignored))
    throw UsageError("{0}: a folder, want a checkpoint; of a run: {0}/checkpoints/best.safetensors", file.string());
  if (is_foreign_weights(file))
    throw DataError(
        "{0}: weights alone, which do not say which network they belong to; make a checkpoint of them: glia convert {0} "
        "weights.safetensors --recipe RECIPE",
        file.string());
  const Checkpoint checkpoint = read_checkpoint(file, CheckpointUse::predict);
  TrainedSystem system;
  read_toml(system.config, checkpoint.config, file.string());
  if (!settings_file.empty()) read_settings_file(system.config, settings_file);
  for (const std::string& setting : settings) apply_setting(system.config, setting);
  check_config(system.config);
  {
    const WithoutInitialValues loaded_next;
    system.segmenter = make_segmenter(system.config);
  }
  system.segmenter->load(checkpoint.inference_weights(), file.string());
  system.segmenter->module().to(device);
  system.segmenter->module().eval();
  use_precision(system.config.run.precision, device);
  set_pack_weights(system.config.run.pack_weights);
  return system;
}

namespace {

AugmentOptions augment_options(const AugmentConfig& a) {
  AugmentOptions options{.hflip = a.hflip, .vflip = a.vflip, .transpose = a.transpose, .rotate = a.rotate, .scale = a.scale};
  options.brightness = a.brightness;
  options.contrast = a.contrast;
  options.noise = a.noise;
  return options;
}

DetectionAugment detection_options(const Config& config) {
  const InputConfig& in = config.input;
  const AugmentConfig& a = config.augment;
  DetectionAugment options{.short_edge_range = in.min_size_train_sampling == "range",
                           .max_size = in.max_size_train,
                           .crop = {in.crop.height, in.crop.width},
                           .redraw_empty_crops = in.redraw_empty_crops,
                           .hflip = a.hflip,
                           .vflip = a.vflip,
                           .transpose = a.transpose,
                           .brightness = a.brightness,
                           .contrast = a.contrast,
                           .min_area = in.min_instance_size};
  for (const double size : in.min_size_train) options.short_edge.push_back(static_cast<int64_t>(size));
  return options;
}

}  // namespace

Loader make_training_loader(const Config& config, const Dataset& dataset, const Segmenter& segmenter) {
  LoaderOptions options;
  options.batch_size = config.solver.batch_size;
  options.seed = static_cast<uint64_t>(config.run.seed);
  options.drop_last = config.data.drop_last;
  options.workers = static_cast<int>(config.data.workers);
  options.prefetch = static_cast<int>(config.data.prefetch);
  options.cache = config.data.cache;
  options.repeat = config.data.repeat;
  options.keep_examples = false;
  options.prepare = [&segmenter](std::span<const Example> examples) { return segmenter.collate(examples); };
  const auto count = static_cast<int64_t>(dataset.samples.size()), size = count * config.data.repeat;
  options.augmenter = segmenter.augmenter();
  if (options.augmenter) {
    options.endless = true;  // batches are whole, as Cellpose's draws of images are
  } else if (segmenter.takes_instances()) {
    options.endless = true;
    options.detection = detection_options(config);
    if (config.input.aspect_ratio_grouping) {
      const std::vector<uint8_t> groups = aspect_groups(dataset);
      for (int64_t i = 0; i < size; ++i) options.groups.push_back(groups[static_cast<size_t>(i % count)]);
    }
  } else {
    options.augment = augment_options(config.augment);
    options.augment.crop = segmenter.crop();
  }
  const auto load = [&dataset, &segmenter, count](int64_t i) {
    return segmenter.fit(load_example(segmenter, dataset, i % count));
  };
  return Loader(size, load, options);
}

Example load_example(const Segmenter& segmenter, const Dataset& dataset, int64_t index) {
  return segmenter.takes_instances() ? read_detection_example(dataset, index) : read_example(dataset, index);
}

std::vector<std::string> metric_names(const Segmenter& segmenter) {
  std::vector<std::string> names = segmenter.metric_names();
  names.insert(names.end(), {"map_iou", "map_iou_compat", "f1_at_50"});
  return names;
}

void SeedCheck::add(const Prediction& prediction) {
  if (system_of(config_) != "unet" || config_.model.target != "border") return;
  const auto cell = [&](float p) { return double(p) > config_.model.threshold; };
  const std::span<const float> foreground = prediction.foreground.values<float>();
  ++images_;
  with_cell_pixels_ += std::any_of(foreground.begin(), foreground.end(), cell);
  instances_ += static_cast<int64_t>(prediction.instances.size());
}

std::string SeedCheck::warning() const {
  const ModelConfig& m = config_.model;
  if (instances_ > 0 || 2 * with_cell_pixels_ <= images_ || m.seed_threshold <= 0) return "";
  return fmt::format(
      "no cell in any of {} images, though {} of them have pixels of cells: likely no patch of model.seed_size = {} pixels is "
      "the inside of a cell with a probability above model.seed_threshold = {}; train longer, or lower these, such as --set "
      "model.seed_threshold={}",
      images_, with_cell_pixels_, m.seed_size, m.seed_threshold, m.seed_threshold / 2);
}

std::optional<NamedValues> evaluate_segmenter(Segmenter& segmenter, const Dataset& dataset, int64_t limit, SeedCheck& check) {
  const NoGrad no_grad;
  const auto all = static_cast<int64_t>(dataset.samples.size());
  const int64_t count = limit > 0 ? std::min(limit, all) : all;
  NamedValues sums;
  MatchCounts at_50;
  for (int64_t i = 0; i < count; ++i) {
    if (stop_requested()) return std::nullopt;
    Prediction prediction;
    add_values(sums, segmenter.validate(load_example(segmenter, dataset, i), prediction));
    check.add(prediction);
    const Overlaps overlap = overlaps(dataset.samples[size_t(i)].instances, prediction.instances);
    const KaggleScore score = kaggle_score(overlap);
    add_values(sums, {{"map_iou", score.map_iou()}, {"map_iou_compat", score.map_iou_compat()}});
    at_50 += score.strict[0];
  }
  for (auto& [name, value] : sums) value /= double(count);
  sums.emplace_back("f1_at_50", at_50.f1());
  return sums;
}

void draw_predictions(Segmenter& segmenter, const Dataset& dataset, int64_t count, const std::filesystem::path& file,
                      const std::string& title) {
  const NoGrad no_grad;
  std::vector<Panel> panels;
  for (size_t i = 0; i < dataset.samples.size() && static_cast<int64_t>(i) < count; ++i) {
    const Sample& sample = dataset.samples[i];
    const Tensor image = read_pixels(sample);
    const Prediction prediction = segmenter.predict(image);
    for (Panel& panel : truth_beside_prediction(sample, prediction.instances, image)) panels.push_back(std::move(panel));
  }
  if (panels.empty()) return;
  make_folder(file.parent_path());
  write_png(file, mosaic(panels, {.columns = 2, .title = title + "; " + matches_legend}));
}

}  // namespace glia
