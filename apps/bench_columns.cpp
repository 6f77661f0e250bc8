// glia bench columns: what each column of a trained UNet++ finds, and what it costs.
#include "apps/bench_columns.h"

#include <fmt/format.h>

#include <chrono>

#include "autograd/tape.h"
#include "data/atomic_file.h"
#include "tensor/stream.h"
#include "train/evaluation.h"
#include "train/progress.h"
#include "train/signals.h"
#include "train/step_profile.h"

namespace glia {
namespace {

struct Column {
  int64_t prune = 0;
  double map_iou = 0, f1_at_50 = 0;
  double gflop = 0, seconds = 0;  // of an image, in the mean
};

void check_columns(const Config& config) {
  if (config.model.name != "unet_plus_plus")
    throw UsageError("glia bench columns: the checkpoint holds {}; only unet_plus_plus has columns", config.model.name);
  if (!config.model.deep_supervision)
    throw UsageError(
        "glia bench columns: the network was trained without model.deep_supervision, so its last column alone has a head");
}

// `tick` is called after every image; `warning` gets the column's, if there is one.
template <class Tick>
Column measure(const ColumnsOptions& options, int64_t prune, const Dataset& truth, Device device, const Tick& tick,
               std::string& warning) {
  std::vector<std::string> settings = options.settings;
  settings.push_back(fmt::format("model.prune={}", prune));
  const TrainedSystem system = load_system(options.checkpoint, settings, device);
  system.segmenter->predict(read_pixels(truth.samples.front()));  // warms up: filters are packed, memory is there
  FlopCounter counter;
  SeedCheck seeds(system.config);
  Column column{.prune = prune};
  Dataset found = truth;
  for (Sample& sample : found.samples) {
    if (stop_requested()) throw ErrorOf<ExitCode::interrupted>("stopped by a signal");
    const Tensor image = read_pixels(sample);
    const auto begin = std::chrono::steady_clock::now();
    Prediction prediction = system.segmenter->predict(image);
    synchronize(device);
    column.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    seeds.add(prediction);
    sample.height = image.dim(0);
    sample.width = image.dim(1);
    sample.instances = std::move(prediction.instances);
    tick();
  }
  if (warning.empty()) warning = seeds.warning();
  const auto images = static_cast<double>(found.samples.size());
  column.gflop = counter.total() / 1e9 / images;
  column.seconds /= images;
  const Evaluation evaluation = evaluate(truth, found, {.protocol = {}, .per_image = false});
  column.map_iou = evaluation.map_iou;
  column.f1_at_50 = evaluation.f1_at_50;
  return column;
}

std::string json_of(const std::vector<Column>& columns) {
  std::string rows;
  for (const Column& c : columns)
    rows += fmt::format(
        "{}\n  {{\"prune\": {}, \"map_iou\": {:.6g}, \"f1_at_50\": {:.6g}, \"gflop_per_image\": {:.6g}, \"s_per_image\": "
        "{:.6g}}}",
        rows.empty() ? "" : ",", c.prune, c.map_iou, c.f1_at_50, c.gflop, c.seconds);
  return "[" + rows + "\n]\n";
}

}  // namespace

void compare_columns(const ColumnsOptions& options, Device device) {
  const int64_t depth = [&] {
    const TrainedSystem system = load_system(options.checkpoint, options.settings, device);
    check_columns(system.config);
    return system.config.model.depth;
  }();
  const Dataset truth = open_data(options.data, options.data_options.options(), options.quiet);
  const NoGrad no_grad;
  const StopSignals signals;
  std::vector<Column> columns;
  std::string warning;
  const auto images = static_cast<int64_t>(truth.samples.size());
  {
    Progress progress(options.quiet);
    progress.start(0, images * (depth + 1), 20, "image");
    int64_t done = 0;
    for (int64_t i = 1; i <= depth + 1; ++i) {
      const int64_t prune = i <= depth ? i : 0;
      const auto tick = [&] { progress.step(++done, fmt::format("model.prune = {}", prune)); };
      columns.push_back(measure(options, prune, truth, device, tick, warning));
    }
  }
  if (!warning.empty()) fmt::print(stderr, "warning: {}\n", warning);
  if (!options.json.empty()) write_file(options.json, json_of(columns));
  if (options.quiet) return;
  fmt::print("{} on {} images of {}, {}\n\n", options.checkpoint.string(), images, options.data, to_string(device));
  fmt::print("{:<30}{:>8}{:>16}{:>18}{:>14}\n", "model.prune", "map_iou", "F1 at IoU .5", "GFLOP an image", "ms an image");
  for (const Column& c : columns) {
    const std::string name = c.prune == 0 ? "0: the mean of all heads" : fmt::format("{}", c.prune);
    fmt::print("{:<30}{:>8.3f}{:>16.3f}{:>18.2f}{:>14.1f}\n", name, c.map_iou, c.f1_at_50, c.gflop, 1000 * c.seconds);
  }
  fmt::print("\nTo predict by one of them: glia predict {} --set model.prune=N\n", options.checkpoint.string());
}

}  // namespace glia
