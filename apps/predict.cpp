// glia predict: cells of images, in the formats asked for.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "apps/cli.h"
#include "apps/segmentation.h"
#include "autograd/tape.h"
#include "data/atomic_file.h"
#include "data/coco_json.h"
#include "data/contours.h"
#include "data/draw.h"
#include "data/export.h"
#include "data/imagej_roi.h"
#include "data/rle.h"
#include "data/sartorius.h"
#include "data/selection.h"
#include "train/progress.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

struct Options {
  CommonOptions common;
  DataOptions data;
  std::string checkpoint, out;
  std::vector<std::string> images, settings;
  std::string settings_file;
  std::string kinds = "labels,overlay,coco";
};

const std::vector<std::string> all_kinds{"labels", "overlay", "coco", "submission", "cells", "rois", "geojson"};

class Kinds {
 public:
  explicit Kinds(const std::string& text) {
    for (size_t at = 0; at <= text.size();) {
      const size_t comma = std::min(text.find(',', at), text.size());
      const std::string kind = text.substr(at, comma - at);
      if (std::find(all_kinds.begin(), all_kinds.end(), kind) == all_kinds.end())
        throw UsageError("--write '{}': want some of {}", kind, fmt::join(all_kinds, ", "));
      kinds_.push_back(kind);
      at = comma + 1;
    }
  }
  bool has(const char* kind) const { return std::find(kinds_.begin(), kinds_.end(), kind) != kinds_.end(); }

 private:
  std::vector<std::string> kinds_;
};

std::vector<ImagejRoi> rois_of(const Sample& sample) {
  std::vector<ImagejRoi> rois;
  int number = 0;
  for (const Instance& instance : sample.instances) {
    ++number;
    for (const Contour& contour : contours(instance.mask, ContourPoints::simple, ContourParts::every)) {
      ImagejRoi roi;
      roi.name = fmt::format("{:04}", number);
      roi.type = ImagejRoi::Type::freehand;
      for (const auto& p : contour.points) roi.points.push_back({static_cast<float>(p[0]), static_cast<float>(p[1])});
      rois.push_back(std::move(roi));
    }
  }
  return rois;
}

void write_image_files(const Kinds& kinds, const fs::path& out, const Sample& sample, const Tensor& image,
                       const std::vector<std::string>& categories) {
  const auto place = [&](const char* folder) {
    const fs::path path = out / folder / sample.id;
    fs::create_directories(path.parent_path());
    return path;
  };
  if (kinds.has("labels")) write_label_map(place("labels"), labels_of_instances(sample.instances, sample.height, sample.width));
  if (kinds.has("overlay")) write_png(place("overlay").string() + ".png", overlay(image, sample.instances));
  if (kinds.has("rois")) write_roi_set(place("rois").string() + ".zip", rois_of(sample));
  if (kinds.has("geojson")) write_geojson(place("geojson").string() + ".geojson", sample, categories);
}

int run(const Options& options) {
  const Device device = options.common.apply_to_device();
  const Kinds kinds(options.kinds);
  if (options.images.empty()) throw UsageError("--images is required: images, folders of images, or data sets");
  const TrainedSystem system = load_system(options.checkpoint, options.settings, device, options.settings_file);
  std::vector<fs::path> paths(options.images.begin(), options.images.end());
  Faults faults;
  Dataset dataset = open_images(paths, options.data.options(), &faults);
  print_faults(faults, options.common.quiet);
  if (!system.config.data.classes.empty()) dataset.categories = system.config.data.classes;
  const fs::path out = options.out;
  make_output_folder(out, dataset);

  const NoGrad no_grad;
  Progress progress(options.common.quiet);
  progress.start(0, static_cast<int64_t>(dataset.samples.size()), 20);
  std::string cells = cells_csv_header();
  int64_t found = 0, done = 0;
  const auto at_once = static_cast<size_t>(system.config.eval.batch_size);
  for (size_t begin = 0; begin < dataset.samples.size(); begin += at_once) {
    const std::span<Sample> samples =
        std::span(dataset.samples).subspan(begin, std::min(at_once, dataset.samples.size() - begin));
    std::vector<Tensor> images;
    for (const Sample& sample : samples) images.push_back(read_pixels(sample));
    std::vector<Prediction> predictions = system.segmenter->predict_batch(images);
    for (size_t i = 0; i < samples.size(); ++i) {
      Sample& sample = samples[i];
      sample.height = images[i].dim(0);
      sample.width = images[i].dim(1);
      sample.instances = std::move(predictions[i].instances);
      found += static_cast<int64_t>(sample.instances.size());
      write_image_files(kinds, out, sample, images[i], dataset.categories);
      if (kinds.has("cells")) cells += cells_csv_rows(sample, dataset.categories, images[i]);
      progress.step(++done, fmt::format("{} cells", found));
    }
  }
  if (kinds.has("coco")) write_coco_results(out / prediction_files::coco, dataset);
  if (kinds.has("cells")) write_file(out / "cells.csv", cells);
  if (kinds.has("submission")) {
    // Kaggle refuses overlaps: where instances overlap, the one with the higher score keeps the pixels.
    for (Sample& sample : dataset.samples) sample.instances = select_instances(sample.instances, {.remove_overlaps = true});
    write_submission(out / prediction_files::submission, dataset);
  }
  progress.line(fmt::format("{}: {} cells in {} images ({})", options.out, found, dataset.samples.size(), options.kinds));
  return 0;
}

}  // namespace

Command predict_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "predict",
          .summary = "find the cells of images with a trained model",
          .example =
              "glia predict run/checkpoints/best.safetensors --images new_images --out found --write labels,overlay,submission",
          .declare =
              [options](Arguments& a) {
                a.positional("CHECKPOINT", &options->checkpoint, "a checkpoint of glia train");
                a.option("--images", &options->images, "images, folders of images, or data sets");
                a.option("--image-folder", &options->data.images, "where the images of a COCO file are, if not beside it");
                a.option("--out", &options->out, "the folder to write to", true);
                a.option("--write", &options->kinds,
                         "some of labels, overlay, coco, submission, cells, rois, geojson, with commas");
                a.option("--settings", &options->settings_file, "a file of settings, such as glia evaluate --tune writes");
                a.repeated("--set", &options->settings, "KEY=VALUE, such as model.threshold=0.4 or eval.score_threshold=0.3");
                options->data.declare(a, false);
                options->common.declare(a);
              },
          .run = [options] { return run(*options); }};
}

}  // namespace glia
