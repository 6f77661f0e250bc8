// glia show: pictures of a data set, of predictions on their images, or of what trainings reached.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "apps/cli.h"
#include "apps/comparison.h"
#include "apps/plots.h"
#include "apps/segmentation.h"
#include "data/coco_json.h"
#include "data/draw.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

struct Options {
  CommonOptions common;
  DataOptions data;
  std::vector<std::string> paths;
  std::string path, images, out;  // path: the one of paths, where they are no runs
  int64_t limit = 0, mosaic = 12;
  bool scores = false;
};

bool has_instances(const Dataset& dataset) {
  return std::any_of(dataset.samples.begin(), dataset.samples.end(), [](const Sample& s) { return !s.instances.empty(); });
}

// Truth and predictions of the same images; predictions may be absent (a data set shown alone), and so may the truth.
struct Pair {
  Dataset truth;
  std::optional<Dataset> predictions;
};

bool are_predictions(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error))
    return fs::exists(path / prediction_files::coco) || fs::exists(path / prediction_files::submission);
  return path.extension() == ".json" && fs::exists(path) && is_coco_results(path);
}

Pair open_pair(const Options& options) {
  DatasetOptions read = options.data.options();
  if (options.images.empty() && are_predictions(options.path))
    throw UsageError("{}: these are predictions; --images names the images (or the data set) that they were made for",
                     options.path);
  if (options.images.empty()) return {open_data(options.path, read, options.common.quiet), std::nullopt};
  Faults faults;
  try {
    Dataset truth = open_dataset(options.images, read, &faults);
    return {truth, open_predictions(options.path, truth, read, &faults)};
  } catch (const DataError&) {  // images without annotations
    Dataset images = open_images({options.images}, read, &faults);
    return {images, open_predictions(options.path, images, read, &faults)};
  }
}

int show_runs(const Options& options) {
  const std::vector<fs::path> runs(options.paths.begin(), options.paths.end());
  if (!options.images.empty()) throw UsageError("--images goes with predictions; {} is a training's folder", options.paths[0]);
  make_output_folder(options.out, {});
  const auto names = draw_runs(runs, options.out);
  if (!options.common.quiet) fmt::print("{}: {} (.png, .svg)\n", options.out, fmt::join(names, ", "));
  return 0;
}

int run(Options& options) {
  options.common.apply();
  if (std::all_of(options.paths.begin(), options.paths.end(), is_run)) return show_runs(options);
  if (options.paths.size() > 1)
    throw UsageError("{}: {} paths, want one, or folders that `glia train` wrote (with results.csv)",
                     fmt::join(options.paths, " "), options.paths.size());
  options.path = options.paths[0];
  if (options.limit < 0 || options.mosaic < 0) throw UsageError("--limit and --mosaic: want 0 or more");
  const Pair pair = open_pair(options);
  const bool both = pair.predictions && has_instances(pair.truth);
  const fs::path out = options.out;
  make_output_folder(out, pair.truth);
  const std::string title = both ? matches_legend : "";
  std::vector<Panel> panels;
  int64_t done = 0;
  for (size_t i = 0; i < pair.truth.samples.size(); ++i) {
    if (options.limit > 0 && done == options.limit) break;
    const Sample& truth = pair.truth.samples[i];
    const Tensor image = read_pixels(truth);
    const auto& shown = pair.predictions ? pair.predictions->samples[i].instances : truth.instances;
    std::array<Panel, 2> row;
    if (both) {
      row = truth_beside_prediction(truth, shown, image, options.scores);
    } else {
      row[0] = {to_picture(image), truth.id};
      row[1] = {overlay(image, shown), fmt::format("{} cell{}", shown.size(), shown.size() == 1 ? "" : "s")};
      if (options.scores && pair.predictions) draw_scores(row[1].picture, shown);
    }
    write_png(out / (truth.id + ".png"), mosaic(row, {.columns = 2,
                                                      .panel_height = std::max<int64_t>(row[1].picture.dim(0), 256),
                                                      .panel_width = std::max<int64_t>(row[1].picture.dim(1), 256),
                                                      .title = title}));
    if (static_cast<int64_t>(panels.size()) < 2 * options.mosaic)
      for (const Panel& panel : row) panels.push_back(panel);
    ++done;
  }
  if (!panels.empty())
    write_png(out / "mosaic.png", mosaic(panels, {.columns = 4, .panel_height = 320, .panel_width = 420, .title = title}));
  if (!options.common.quiet) fmt::print("{}: {} pictures and mosaic.png\n", options.out, done);
  return 0;
}

}  // namespace

Command show_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "show",
          .summary = "draw outlines on images: a data set, or predictions beside the truth; or charts of trainings",
          .example = "glia show found --images cells --out pictures\n  glia show run run-with-other-settings --out charts",
          .declare =
              [options](Arguments& a) {
                a.positional("PATH", &options->paths,
                             "a data set; with --images: predictions; or trainings' folders, to compare their curves");
                a.option("--images", &options->images, "the images (or data set) that PATH was predicted for");
                a.option("--out", &options->out, "the folder to write to", true);
                a.option("--limit", &options->limit, "most images to draw; 0: all");
                a.flag("--scores", &options->scores, "write each prediction's score on it");
                a.option("--mosaic", &options->mosaic, "images in mosaic.png");
                options->data.declare(a, false);
                options->common.declare(a);
              },
          .run = [options] { return run(*options); }};
}

}  // namespace glia
