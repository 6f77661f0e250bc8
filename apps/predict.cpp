// glia predict: cells of images, in the formats asked for.
#include <fmt/format.h>

#include <algorithm>
#include <array>
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
#include "models/cellpose_seg.h"
#include "train/progress.h"
#include "train/signals.h"

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

const std::vector<std::string> all_kinds{"labels", "overlay", "coco", "submission", "cells", "rois", "geojson", "seg"};

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
                       const std::vector<std::string>& categories, const CellposeSeg& seg) {
  const auto place = [&](const char* folder) {
    const fs::path path = out / folder / sample.id;
    make_folder(path.parent_path());
    return path;
  };
  if (kinds.has("labels")) write_label_map(place("labels"), labels_of_instances(sample.instances, sample.height, sample.width));
  if (kinds.has("overlay")) write_png(place("overlay").string() + ".png", overlay(image, sample.instances));
  if (kinds.has("rois")) write_roi_set(place("rois").string() + ".zip", rois_of(sample));
  if (kinds.has("seg")) {
    CellposeSeg all = seg;
    all.labels = labels_of_instances(sample.instances, sample.height, sample.width);
    all.image = sample.file.filename().string();
    write_cellpose_seg(place("seg").string() + "_seg.npy", all);
  }
  if (kinds.has("geojson")) write_geojson(place("geojson").string() + ".geojson", sample, categories);
}

// The files of the kinds that are written once for all images.
constexpr std::array<std::pair<const char*, const char*>, 3> joint_files{
    {{"coco", prediction_files::coco}, {"submission", prediction_files::submission}, {"cells", "cells.csv"}}};

// glia evaluate reads what is there: results of an earlier run must not be taken for this one's.
void warn_of_other_results(const Kinds& kinds, const fs::path& out) {
  for (const auto& [kind, name] : joint_files)
    if (!kinds.has(kind) && fs::exists(out / name))
      fmt::print(stderr, "warning: {} is of an earlier prediction: '{}' is not among --write\n", (out / name).string(), kind);
}

// Predicts image after image; what is complete is in `finished`, whatever ends it.
class ImagePredictor {
 public:
  ImagePredictor(const Options& options, const Kinds& kinds, const TrainedSystem& system, Dataset& inputs)
      : options_(options), kinds_(kinds), system_(system), inputs_(inputs), finished_(inputs) {
    finished_.samples.clear();
    progress_.start(0, static_cast<int64_t>(inputs.samples.size()), 20);
  }

  // Throws what ends it, with the images named.
  void predict_all() {
    const auto at_once = static_cast<size_t>(system_.config.eval.batch_size);
    for (size_t begin = 0; begin < inputs_.samples.size(); begin += at_once) {
      if (stop_requested()) throw ErrorOf<ExitCode::interrupted>("stopped by a signal");
      predict_some(std::span(inputs_.samples).subspan(begin, std::min(at_once, inputs_.samples.size() - begin)));
    }
  }

  void write_joint_files() {
    const fs::path out = options_.out;
    if (kinds_.has("coco")) write_coco_results(out / prediction_files::coco, finished_);
    if (kinds_.has("cells")) write_file(out / "cells.csv", cells_);
    if (kinds_.has("submission")) {
      // Kaggle refuses overlaps: where instances overlap, the one with the higher score keeps the pixels.
      for (Sample& sample : finished_.samples) sample.instances = select_instances(sample.instances, {.remove_overlaps = true});
      write_submission(out / prediction_files::submission, finished_);
    }
    progress_.line(fmt::format("{}: {} cells in {} images ({})", options_.out, found_, finished_.samples.size(), options_.kinds));
    if (const std::string warning = seeds_.warning(); !warning.empty()) progress_.warn(warning);
  }

  size_t finished() const { return finished_.samples.size(); }

 private:
  void predict_some(std::span<Sample> samples) {
    std::vector<Tensor> images;
    std::vector<Sample*> kept;
    for (Sample& sample : samples) {
      try {
        images.push_back(read_pixels(sample));
        kept.push_back(&sample);
      } catch (const Error& e) {
        if (options_.data.on_corrupt != "skip" || (e.code() != ExitCode::data && e.code() != ExitCode::io)) throw;
        fmt::print(stderr, "warning: left out: {}\n", e.what());
      }
    }
    if (images.empty()) return;
    std::vector<Prediction> predictions;
    try {
      predictions = system_.segmenter->predict_batch(images);
    } catch (const OutOfMemoryError& e) {
      const std::string message = e.what();  // without its advice, which is for training
      throw OutOfMemoryError("{} ({}x{} pixels): {}\nless is needed with {}, or allow more with --mem-limit", kept[0]->id,
                             images[0].dim(0), images[0].dim(1), message.substr(0, message.find("\nless is needed by")),
                             advice_on_memory());
    } catch (const Error& e) {
      const std::string first = kept[0]->file.string();
      throw Error(kept.size() == 1 ? fmt::format("{}: {}", first, e.what())
                                   : fmt::format("{} or one of the next {}: {}", first, kept.size() - 1, e.what()),
                  e.code());
    }
    for (size_t i = 0; i < kept.size(); ++i) finish(*kept[i], images[i], std::move(predictions[i]));
  }

  const char* advice_on_memory() const {
    const std::string_view system = system_of(system_.config);
    if (system == "cellpose") return "--set cellpose.tile_batch=1, a larger cellpose.diameter, --write without seg";
    if (system == "mask_rcnn")
      return "--set input.tile=1024, or smaller input.min_size_test, input.max_size_test or eval.batch_size";
    return "a smaller model.tile";
  }

  void finish(Sample sample, const Tensor& image, Prediction prediction) {
    const CellposeConfig& cellpose = system_.config.cellpose;
    const CellposeSeg seg{.labels = {},
                          .maps = kinds_.has("seg") ? prediction.maps : Tensor{},  // an image of 10^8 pixels wants its memory
                          .channels = {cellpose.chan, cellpose.chan2},
                          .image = {},
                          .diameter = prediction.diameter};
    sample.height = image.dim(0);
    sample.width = image.dim(1);
    seeds_.add(prediction);
    sample.instances = std::move(prediction.instances);
    prediction = {};
    write_image_files(kinds_, options_.out, sample, image, inputs_.categories, seg);
    if (kinds_.has("cells")) cells_ += cells_csv_rows(sample, inputs_.categories, image);
    found_ += static_cast<int64_t>(sample.instances.size());
    finished_.samples.push_back(std::move(sample));
    progress_.step(static_cast<int64_t>(finished_.samples.size()), fmt::format("{} cells", found_));
  }

  const Options& options_;
  const Kinds& kinds_;
  const TrainedSystem& system_;
  Dataset& inputs_;
  Dataset finished_;
  SeedCheck seeds_{system_.config};
  Progress progress_{options_.common.quiet};
  std::string cells_ = cells_csv_header();
  int64_t found_ = 0;
};

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
  make_output_folder(options.out, dataset);
  warn_of_other_results(kinds, options.out);
  for (const char* part : {"", "labels", "overlay", "rois", "seg", "geojson"})
    remove_stale_temporaries(fs::path(options.out) / part);  // of a prediction that was killed

  const NoGrad no_grad;
  const StopSignals signals;
  ImagePredictor predictor(options, kinds, system, dataset);
  try {
    predictor.predict_all();
  } catch (const Error& e) {
    if (predictor.finished() == 0) throw;  // files of an earlier prediction stay
    std::string fate =
        fmt::format("{} of {} images are in the files of {}", predictor.finished(), dataset.samples.size(), options.out);
    try {
      predictor.write_joint_files();
    } catch (const Error& second) {
      fate = second.what();
    }
    throw Error(fmt::format("{}\n{}", e.what(), fate), e.code());
  }
  if (predictor.finished() == 0) throw DataError("not one of the {} images can be read", dataset.samples.size());
  predictor.write_joint_files();
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
                a.option(
                    "--write", &options->kinds,
                    "some of labels, overlay, coco, submission, cells, rois, geojson, seg (Cellpose's _seg.npy), with commas");
                a.option("--settings", &options->settings_file, "a file of settings, such as glia evaluate --tune writes");
                a.repeated("--set", &options->settings, "KEY=VALUE, such as model.threshold=0.4 or eval.score_threshold=0.3");
                options->data.declare(a, false);
                options->common.declare(a);
              },
          .run = [options] { return run(*options); }};
}

}  // namespace glia
