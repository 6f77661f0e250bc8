// glia split: annotation_all.json, annotation_train.json, annotation_val.json; images linked, or copied on demand.
#include "data/split.h"

#include <fmt/core.h>

#include <filesystem>
#include <memory>

#include "apps/cli.h"
#include "apps/segmentation.h"
#include "data/coco_json.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

struct Options {
  CommonOptions common;
  DataOptions data;
  std::string path, out, method = "seeded";
  double val = 0.2;
  int64_t seed = 0;
  bool copy = false;
};

int run(const Options& options) {
  options.common.apply();
  if (options.method != "seeded" && options.method != "every_nth")
    throw UsageError("--method '{}': want seeded or every_nth", options.method);
  if (!(options.val >= 0 && options.val < 1))
    throw UsageError("--val {}: want a part of the images, 0 to less than 1", options.val);
  make_folder(options.out);
  const Dataset all = open_data(options.path, options.data.options(), options.common.quiet);
  const Split split = split_samples(all, {.method = options.method == "seeded" ? SplitMethod::seeded : SplitMethod::every_nth,
                                          .fraction = options.val,
                                          .seed = static_cast<uint64_t>(options.seed)});
  const fs::path out = options.out;
  place_images(all, out / "images", options.copy);
  write_coco(out / "annotation_all.json", all);
  write_coco(out / "annotation_train.json", subset(all, split.train));
  write_coco(out / "annotation_val.json", subset(all, split.validation));
  if (!options.common.quiet)
    fmt::print("{}: {} images: {} for training, {} for validation\n", options.out, all.samples.size(), split.train.size(),
               split.validation.size());
  return 0;
}

}  // namespace

Command split_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "split",
          .summary = "divide a data set into training and validation, as COCO files",
          .example = "glia split cells --out parts --val 0.2 --seed 1",
          .declare =
              [options](Arguments& a) {
                a.positional("DATA", &options->path, "folder with train.csv, a COCO file, or images/ and labels/");
                a.option("--out", &options->out, "the folder to write to", true);
                a.option("--val", &options->val, "part of the images for validation");
                a.option("--seed", &options->seed, "same seed, same split");
                a.option("--method", &options->method, "seeded, or every_nth: ids sorted as text, every 5th (for 0.2)");
                a.flag("--copy", &options->copy, "copy the images instead of linking them");
                options->data.declare(a);
                options->common.declare(a);
              },
          .run = [options] { return run(*options); }};
}

}  // namespace glia
