// glia size-model: fits Cellpose's size model to a trained network, or takes that of a file of Cellpose's, and keeps it in a checkpoint.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <optional>

#include "apps/cli.h"
#include "apps/segmentation.h"
#include "autograd/tape.h"
#include "data/atomic_file.h"
#include "models/cellpose_segmenter.h"
#include "models/cellpose_size.h"
#include "train/progress.h"
#include "train/signals.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

struct Options {
  CommonOptions common;
  DataOptions data_options;
  std::string checkpoint, data, from, out;
  int64_t seed = 0, epochs = CellposeSizeWindows{}.epochs;
};

CellposeSizeModel fitted(const Options& options, const TrainedSystem& system, CellposeNet& net) {
  const Dataset dataset = open_data(options.data, options.data_options.options(), options.common.quiet);
  const CellposeSizeWindows windows{.epochs = options.epochs, .seed = static_cast<uint64_t>(options.seed)};
  const auto images = static_cast<int64_t>(dataset.samples.size());
  const NoGrad no_grad;
  const StopSignals signals;
  Progress progress(options.common.quiet);
  progress.start(0, images, 20, "image");
  CellposeSizeSamples samples;
  int64_t few = 0;
  for (int64_t i = 0; i < images; ++i) {
    if (stop_requested()) throw ErrorOf<ExitCode::interrupted>("stopped by a signal; nothing was written");
    Example example = load_example(*system.segmenter, dataset, i);
    const auto cells = static_cast<int64_t>(dataset.samples[static_cast<size_t>(i)].instances.size());
    const double diameter = cellpose_training_diameter(example.labels);
    if (diameter == 0 || cells < system.config.cellpose.min_train_masks) {
      ++few;
      continue;
    }
    example.labels = {};  // the image alone is wanted of fit()
    add_cellpose_size_samples(net, system.segmenter->fit(example).image, diameter, i, windows, samples);
    progress.step(i + 1, fmt::format("{} windows", samples.diameters.size()));
  }
  if (samples.styles.empty())
    throw DataError("{}: not one of {} images has {} cells (cellpose.min_train_masks)", options.data, images,
                    system.config.cellpose.min_train_masks);
  CellposeSizeModel model = fit_cellpose_size(samples, net.diam_mean());
  progress.line(fmt::format("{} windows of {} images{}; correlation of log diameters {:.3f}", samples.diameters.size(),
                            images - few, few ? fmt::format(" ({} with too few cells left out)", few) : "",
                            cellpose_size_correlation(model, samples)));
  return model;
}

int run(const Options& options) {
  const Device device = options.common.apply_to_device();
  if (!options.data.empty() && !options.from.empty())
    throw UsageError("--data fits a size model, --from takes one of Cellpose's: give one of them");
  if (options.epochs < 1) throw UsageError("--epochs {}: want 1 or more windows of each image", options.epochs);
  const bool to_npy = fs::path(options.out).extension() == ".npy";
  if (!to_npy && fs::path(options.out).extension() != ".safetensors")
    throw UsageError("--out {}: want a name that ends in .safetensors (a checkpoint) or .npy (Cellpose's size model)",
                     options.out);
  Checkpoint checkpoint = read_checkpoint(options.checkpoint);
  if (checkpoint.model != "cellpose")
    throw UsageError("{}: a checkpoint of {}; only cellpose has a size model", options.checkpoint, checkpoint.model);
  const TrainedSystem system = load_system(options.checkpoint, {"cellpose.diameter=0"}, device);
  auto& net = dynamic_cast<CellposeNet&>(system.segmenter->module());
  std::optional<CellposeSizeModel> model;
  if (!options.from.empty()) {
    model = read_cellpose_size(options.from, net.style_size());
  } else if (!options.data.empty()) {
    model = fitted(options, system, net);
  } else if (to_npy) {
    model = cellpose_size_of(checkpoint.weights, net.style_size(), options.checkpoint);
    if (!model) throw DataError("{}: no size model in it; fit one with --data", options.checkpoint);
  } else {
    throw UsageError("--data or --from is required: images to fit the size model to, or a size_*.npy of Cellpose's");
  }
  if (to_npy) {
    write_file(options.out, encode_cellpose_size(*model));
  } else {
    for (auto& [name, tensor] : cellpose_size_state(*model)) checkpoint.weights[name] = tensor;
    write_checkpoint(options.out, checkpoint);
  }
  if (!options.common.quiet)
    fmt::print("{}: {}\n", options.out, to_npy ? "Cellpose's size model" : "a checkpoint with its size model");
  return 0;
}

}  // namespace

Command size_model_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "size-model",
          .summary = "teach a cellpose checkpoint to estimate how large the cells of an image are",
          .example =
              "glia size-model run/checkpoints/best.safetensors --data run/annotation_train.json --images cells/train --out "
              "sized.safetensors",
          .declare =
              [options](Arguments& a) {
                a.positional("CHECKPOINT", &options->checkpoint, "a checkpoint of glia train, of cellpose");
                a.option("--data", &options->data, "the images that the network was trained on, to fit the size model to");
                a.option("--from", &options->from, "a size model of Cellpose's, size_*.npy, instead");
                a.option("--out", &options->out,
                         "a checkpoint (.safetensors) with the size model in it, or Cellpose's file (.npy)", true);
                a.option("--epochs", &options->epochs, "windows of each image");
                a.option("--seed", &options->seed, "of the windows");
                options->data_options.declare(a);
                options->common.declare(a);
              },
          .run = [options] { return run(*options); }};
}

}  // namespace glia
