// glia evaluate: all metrics of predictions against a data set.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "apps/cli.h"
#include "apps/segmentation.h"
#include "data/atomic_file.h"
#include "train/evaluation.h"

namespace glia {
namespace {

struct Options {
  CommonOptions common;
  DataOptions data;
  std::string truth, predictions, json, max_detections = "1,10,100";
};

std::array<int, 3> parse_limits(const std::string& text) {
  std::array<int, 3> limits{};
  char rest = 0;
  if (std::sscanf(text.c_str(), "%d,%d,%d%c", &limits[0], &limits[1], &limits[2], &rest) != 3 || limits[0] < 1 ||
      !std::is_sorted(limits.begin(), limits.end()))
    throw UsageError("--max-detections '{}': want three ascending numbers such as 1,10,100", text);
  return limits;
}

int run(const Options& options) {
  options.common.apply();
  EvaluateOptions how;
  how.max_detections = parse_limits(options.max_detections);
  DatasetOptions read = options.data.options();
  read.need_images = false;
  const Dataset truth = open_data(options.truth, read, options.common.quiet);
  Faults faults;
  const Dataset predictions = open_predictions(options.predictions, truth, read, &faults);
  const Evaluation evaluation = evaluate(truth, predictions, how);
  print_faults(faults, options.common.quiet);
  for (const std::string& warning : evaluation.warnings) fmt::print(stderr, "warning: {}\n", warning);
  if (!options.common.quiet) fmt::print("{}", evaluation.table());
  if (!options.json.empty()) write_file(options.json, evaluation.to_json());
  return 0;
}

}  // namespace

Command evaluate_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "evaluate",
          .summary = "score predictions: Kaggle's mAP, COCO's AP, dice, per class and image",
          .example = "glia evaluate --truth cells --pred found --json scores.json",
          .declare =
              [options](Arguments& a) {
                a.option("--truth", &options->truth, "a data set", true);
                a.option("--pred", &options->predictions, "a folder of glia predict, COCO results, a submission, or label maps",
                         true);
                a.option("--json", &options->json, "also write all numbers to this file");
                a.option("--max-detections", &options->max_detections, "COCO's three limits");
                options->data.declare(a);
                options->common.declare(a);
              },
          .run = [options] { return run(*options); }};
}

}  // namespace glia
