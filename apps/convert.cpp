// glia convert: data sets between train.csv, COCO JSON and label-map folders; files of weights (convert_weights.h).
#include <fmt/core.h>

#include <filesystem>
#include <memory>

#include "apps/cli.h"
#include "apps/convert_weights.h"
#include "apps/segmentation.h"
#include "data/coco_json.h"
#include "data/image_io.h"
#include "data/rle.h"
#include "data/sartorius.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

struct Options {
  CommonOptions common;
  DataOptions data;
  std::string from, to, from_format, format, names, recipe;
  std::vector<std::string> settings;
};

void check_format(const std::string& format, const char* option) {
  if (format != "coco" && format != "sartorius" && format != "labels")
    throw UsageError("{} '{}': want coco, sartorius or labels; of weights: safetensors, pth, pkl, npz, h5 or onnx", option,
                     format);
}

std::string format_of(const Options& options) {
  if (!options.format.empty()) return options.format;
  const std::string extension = fs::path(options.to).extension().string();
  if (extension == ".json") return "coco";
  if (extension == ".csv") return "sartorius";
  throw UsageError(
      "cannot tell the format of '{}': end it in .json or .csv, or give --to coco, sartorius or labels; of weights: "
      ".safetensors, .pth, .pkl, .npz, .weights.h5, .onnx",
      options.to);
}

void write_folder(const Dataset& dataset, const fs::path& folder, const std::string& format) {
  if (fs::exists(folder) && !fs::is_empty(folder)) throw IoError("{}: the folder is not empty", folder.string());
  make_folder(folder);
  if (format == "sartorius") {
    place_images(dataset, folder / "train", false);
    write_sartorius(folder / "train.csv", dataset);
    return;
  }
  place_images(dataset, folder / "images", false);
  fs::create_directories(folder / "labels");
  int64_t hidden = 0;
  for (const Sample& sample : dataset.samples) {
    const Tensor labels = labels_of_instances(sample.instances, sample.height, sample.width);
    for (const Instance& instance : sample.instances) hidden += instance.crowd ? 0 : area(instance.mask);
    for (const int32_t v : labels.values<int32_t>()) hidden -= v > 0;
    write_label_map(folder / "labels" / sample.id, labels);
  }
  if (hidden > 0)
    fmt::print(stderr, "warning: {} pixels belong to several cells; a label map keeps one of them (the smaller cell)\n", hidden);
}

int run(const Options& options) {
  options.common.apply();
  const WeightsConversion weights{.from = options.from,
                                  .to = options.to,
                                  .format = options.format,
                                  .names = options.names,
                                  .recipe = options.recipe,
                                  .settings = options.settings,
                                  .quiet = options.common.quiet};
  if (is_weights_conversion(weights)) {
    convert_weights(weights);
    return 0;
  }
  if (!options.names.empty())
    throw UsageError("--names belongs to files of weights: end '{}' in .safetensors, .pth, .pkl or .npz", options.to);
  const std::string format = format_of(options);
  check_format(format, "--to");
  if (!options.from_format.empty()) check_format(options.from_format, "--from");
  DatasetOptions read = options.data.options();
  read.layout = options.from_format;
  const bool folder = fs::path(options.to).extension().empty();
  read.need_images = folder;
  if (format == "labels" && !folder) throw UsageError("'{}': label maps go to a folder", options.to);
  const Dataset dataset = open_data(options.from, read, options.common.quiet);
  if (folder && format != "coco") {
    write_folder(dataset, options.to, format);
  } else if (format == "coco") {
    write_coco(options.to, dataset);
  } else {
    write_sartorius(options.to, dataset);
  }
  int64_t instances = 0;
  for (const Sample& sample : dataset.samples) instances += static_cast<int64_t>(sample.instances.size());
  if (!options.common.quiet) fmt::print("{}: {} images, {} instances\n", options.to, dataset.samples.size(), instances);
  return 0;
}

}  // namespace

Command convert_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "convert",
          .summary = "turn train.csv, COCO JSON and label-map folders into each other; files of weights too",
          .example = "glia convert cells cells.json",
          .declare =
              [options](Arguments& a) {
                a.positional("FROM", &options->from,
                             "a data set, or a file of weights: safetensors, .pth, .pkl, .npz, .h5; for ONNX a checkpoint");
                a.positional("TO", &options->to,
                             "a .json or .csv file, or a folder (with --to sartorius or labels); weights: .safetensors, .pth, "
                             ".pkl, .npz, .weights.h5, .onnx");
                a.option("--to", &options->format,
                         "coco, sartorius or labels; safetensors, pth, pkl, npz, h5 or onnx; default: by the ending of TO");
                a.option("--from", &options->from_format,
                         "the same; default: what FROM holds (train.csv, then COCO, then label maps)");
                a.option("--names", &options->names, "weights of Mask R-CNN get the names of detectron2 or torchvision");
                a.option("--recipe", &options->recipe, "weights become a checkpoint of this recipe's network, for glia predict");
                a.repeated("--set", &options->settings, "KEY=VALUE of the recipe, such as model.num_classes=8");
                options->data.declare(a);
                options->common.declare(a);
              },
          .run = [options] { return run(*options); }};
}

}  // namespace glia
