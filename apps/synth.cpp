// glia synth: a synthetic data set in the Sartorius layout.
#include "data/synth.h"

#include <fmt/core.h>

#include <memory>
#include <tuple>

#include "apps/cli.h"

namespace glia {
namespace {

struct Options {
  CommonOptions common;
  std::string out, size = "520x704", style = "phase";
  int64_t images = 20, classes = 3, seed = 0;
};

int run(const Options& options) {
  options.common.apply();
  SynthOptions synth;
  synth.images = options.images;
  std::tie(synth.height, synth.width) = parse_size(options.size, "--size");
  if (options.style != "phase" && options.style != "fluorescence")
    throw UsageError("--style '{}': want phase or fluorescence", options.style);
  synth.style = options.style == "phase" ? SynthStyle::phase : SynthStyle::fluorescence;
  if (options.classes < 1 || options.classes > 3) throw UsageError("--classes {}: want 1 to 3", options.classes);
  synth.classes = static_cast<int>(options.classes);
  synth.seed = static_cast<uint64_t>(options.seed);
  check(synth);
  const SynthSummary summary = write_synth(synth, options.out);
  if (!options.common.quiet)
    fmt::print("{}: {} images, {} instances (train.csv, train/, labels/)\n", options.out, summary.images, summary.instances);
  return 0;
}

}  // namespace

Command synth_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "synth",
          .summary = "write a synthetic data set: images, train.csv of run-length masks, label maps",
          .example = "glia synth --out cells --images 40 --size 520x704 --style phase",
          .declare =
              [options](Arguments& a) {
                a.option("--out", &options->out, "the folder to create", true);
                a.option("--images", &options->images, "how many images");
                a.option("--size", &options->size, "HxW in pixels");
                a.option("--style", &options->style, "phase or fluorescence");
                a.option("--classes", &options->classes, "1 to 3 kinds of cells, one kind an image");
                a.option("--seed", &options->seed, "same seed, same data");
                options->common.declare(a);
              },
          .run = [options] { return run(*options); }};
}

}  // namespace glia
