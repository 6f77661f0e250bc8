// glia check-data: reads everything, names faults, prints statistics.
#include "data/check_data.h"

#include <fmt/core.h>

#include <memory>

#include "apps/cli.h"
#include "apps/segmentation.h"
#include "data/atomic_file.h"

namespace glia {
namespace {

struct Options {
  CommonOptions common;
  DataOptions data;
  std::string path, json;
};

int run(const Options& options) {
  options.common.apply();
  const DataReport report = check_data(options.path, options.data.options());
  if (!options.common.quiet) fmt::print("{}", to_text(report));
  if (!options.json.empty()) write_file(options.json, to_json(report));
  return static_cast<int>(report.exit_code());
}

}  // namespace

Command check_data_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "check-data",
          .summary = "read a whole data set, name its faults, print its statistics",
          .example = "glia check-data cells",
          .declare =
              [options](Arguments& a) {
                a.positional("DATA", &options->path, "folder with train.csv, a COCO file, or images/ and labels/");
                a.option("--json", &options->json, "also write the report to this file");
                options->data.declare(a);
                options->common.declare(a);
              },
          .run = [options] { return run(*options); }};
}

}  // namespace glia
