// glia evaluate: all metrics of predictions against a data set, their curves, and the settings that would score best.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <memory>

#include "apps/cli.h"
#include "apps/comparison.h"
#include "apps/segmentation.h"
#include "data/atomic_file.h"
#include "data/image_io.h"
#include "train/evaluation.h"
#include "train/evaluation_plots.h"
#include "train/threshold_search.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

struct Options {
  CommonOptions common;
  DataOptions data;
  std::string truth, predictions, json, protocol = "coco", max_detections, plots, tune, tune_metric = "map_iou";
  int64_t worst = 0;
  bool class_of_image = false;
};

std::array<int, 3> parse_limits(const std::string& text) {
  constexpr int most = 1'000'000;
  std::array<int, 3> limits{};
  const char *at = text.data(), *end = at + text.size();
  bool good = true;
  for (size_t i = 0; i < 3 && good; ++i) {
    const auto [next, error] = std::from_chars(at, end, limits[i]);
    good = error == std::errc() && limits[i] >= 1 && limits[i] <= most && (i == 2 ? next == end : next != end && *next == ',');
    at = next + 1;
  }
  if (!good || !std::is_sorted(limits.begin(), limits.end()))
    throw UsageError("--max-detections '{}': want three ascending numbers up to {} such as 1,10,100", text, most);
  return limits;
}

CocoProtocol protocol_of(const Options& options) {
  if (options.protocol != "coco" && options.protocol != "livecell")
    throw UsageError("--protocol '{}': want coco or livecell", options.protocol);
  CocoProtocol protocol = options.protocol == "coco" ? CocoProtocol{} : livecell_protocol;
  if (!options.max_detections.empty()) protocol.max_detections = parse_limits(options.max_detections);
  return protocol;
}

void check_usage(const Options& options) {
  if (options.worst < 0) throw UsageError("--worst {}: want 0 or more", options.worst);
  if (options.worst > 0 && options.plots.empty())
    throw UsageError("--worst {}: --plots DIR names the folder for the pictures", options.worst);
  if (options.tune.empty() && (options.class_of_image || options.tune_metric != "map_iou"))
    throw UsageError("--class-of-image and --tune-metric belong to --tune FILE");
}

void tune(const Options& options, const Dataset& truth, const Dataset& predictions) {
  const ThresholdSearch search =
      search_thresholds(truth, predictions, {.metric = options.tune_metric, .class_of_image = options.class_of_image});
  for (const std::string& warning : search.warnings) fmt::print(stderr, "warning: {}\n", warning);
  write_file(options.tune, search.to_toml());
  if (!options.common.quiet)
    fmt::print("\n{}{}: the settings, for glia predict --settings {}\n", search.table(), options.tune, options.tune);
}

void draw(const Options& options, const Evaluation& evaluation, const Dataset& truth, const Dataset& predictions) {
  const fs::path folder = options.plots;
  for (const auto& [name, plot] : evaluation_plots(evaluation)) write_png(folder / (name + ".png"), plot_picture(plot));
  if (options.worst > 0) draw_worst(evaluation, truth, predictions, options.worst, folder / "worst.png");
}

int run(const Options& options) {
  options.common.apply();
  const EvaluateOptions how{.protocol = protocol_of(options)};
  check_usage(options);
  DatasetOptions read = options.data.options();
  read.need_images = options.worst > 0;
  read.instances = Instances::optional;
  const Dataset truth = open_data(options.truth, read, options.common.quiet);
  Faults faults;
  const Dataset predictions = open_predictions(options.predictions, truth, read, &faults);
  if (!options.plots.empty()) make_output_folder(options.plots, truth);
  const Evaluation evaluation = evaluate(truth, predictions, how);
  print_faults(faults, options.common.quiet);
  for (const std::string& warning : evaluation.warnings) fmt::print(stderr, "warning: {}\n", warning);
  if (!options.common.quiet) fmt::print("{}", evaluation.table());
  if (!options.json.empty()) write_file(options.json, evaluation.to_json());
  if (!options.plots.empty()) draw(options, evaluation, truth, predictions);
  if (!options.tune.empty()) tune(options, truth, predictions);
  return 0;
}

}  // namespace

Command evaluate_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "evaluate",
          .summary = "score predictions: Kaggle's mAP, COCO's AP, dice, per class and image; curves, worst images, thresholds",
          .example =
              "glia evaluate --truth cells --pred found --json scores.json --plots charts --worst 8\n"
              "  glia evaluate --truth livecell_test.json --pred found --protocol livecell\n"
              "  glia evaluate --truth run/annotation_val.json --pred found --tune tuned.toml",
          .declare =
              [options](Arguments& a) {
                a.option("--truth", &options->truth, "a data set", true);
                a.option("--pred", &options->predictions, "a folder of glia predict, COCO results, a submission, or label maps",
                         true);
                a.option("--json", &options->json, "also write all numbers to this file");
                a.option("--protocol", &options->protocol,
                         "coco, or livecell: cells are small up to 324 pixels, large from 961; limits 100,500,2000");
                a.option("--max-detections", &options->max_detections,
                         "COCO's three limits, of an image and class; 1,10,100 unless the protocol has others");
                a.option("--plots", &options->plots, "draw precision-recall and F1 curves (PNG) into this folder");
                a.option("--worst", &options->worst,
                         "with --plots: also the N images with the lowest map_iou, truth beside prediction");
                a.option(
                    "--tune", &options->tune,
                    "search score thresholds and smallest sizes per class, for predictions of a low threshold; write them to "
                    "this TOML file, for predict --settings");
                a.option("--tune-metric", &options->tune_metric, "map_iou, map_iou_compat or f1_at_50");
                a.flag("--class-of-image", &options->class_of_image,
                       "with --tune: settings by the class of most predictions of an image, not by each one's own");
                options->data.declare(a);
                options->common.declare(a);
              },
          .run = [options] { return run(*options); }};
}

}  // namespace glia
