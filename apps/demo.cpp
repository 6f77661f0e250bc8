// glia demo: everything once, on synthetic cells: data, training, prediction, scores, pictures.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "apps/cli.h"
#include "tensor/error.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

struct Options {
  CommonOptions common;
  std::string out = "demo";
  bool overwrite = false;
};

// Runs another command of this program as the command line would; prints it first, so that the reader can repeat it.
void step(const std::vector<Command>& commands, const std::string& text) {
  fmt::print("\n$ glia {}\n", text);
  std::fflush(stdout);
  std::vector<std::string> words{"glia"};
  for (size_t at = 0; at < text.size();) {
    const size_t space = std::min(text.find(' ', at), text.size());
    words.push_back(text.substr(at, space - at));
    at = space + 1;
  }
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  const int code = run_program(static_cast<int>(pointers.size()), pointers.data(), commands);
  if (code != 0) throw Error(fmt::format("the step '{}' failed", text), static_cast<ExitCode>(code));
}

int run(const Options& options) {
  options.common.apply();
  if (options.out.find(' ') != std::string::npos)
    throw UsageError("--out '{}': the demo's folder must not contain spaces", options.out);
  const fs::path out = options.out;
  if (fs::exists(out) && !fs::is_empty(out)) {
    if (!options.overwrite)
      throw UsageError("{}: the folder is not empty; --overwrite replaces it, --out DIR names another", options.out);
    for (const char* part : {"cells", "unseen", "run", "found", "pictures"}) fs::remove_all(out / part);
  }
  const std::vector<Command> commands{synth_command(),   check_data_command(), train_command(),
                                      predict_command(), evaluate_command(),   show_command()};
  const std::string d = options.out + "/", device = " --device " + options.common.device;
  step(commands, "synth --out " + d + "cells --images 24 --size 256x256 --style phase --seed 1");
  step(commands, "synth --out " + d + "unseen --images 6 --size 256x256 --style phase --seed 2");
  step(commands, "check-data " + d + "cells");
  step(commands,
       "train unet_border --data " + d + "cells --out " + d +
           "run --set solver.max_iterations=240 --set solver.batch_size=4 --set eval.every=60 --set run.log_every=20" + device);
  step(commands, "predict " + d + "run/checkpoints/best.safetensors --images " + d + "unseen/train --out " + d +
                     "found --write labels,overlay,coco,submission,cells" + device);
  step(commands, "evaluate --truth " + d + "unseen --pred " + d + "found --json " + d + "scores.json");
  step(commands, "show " + d + "found --images " + d + "unseen --out " + d + "pictures");
  fmt::print(
      "\nLook at {0}pictures/mosaic.png (found beside true cells) and {0}run/pictures (how it learned).\n"
      "Next: docs/quick-start.md, or your own images: glia train unet_border --data YOUR_DATA --out RUN\n",
      d);
  return 0;
}

}  // namespace

Command demo_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "demo",
          .summary = "everything once, on synthetic cells: train, predict, score, draw; some minutes",
          .example = "glia demo --out demo",
          .declare =
              [options](Arguments& a) {
                a.option("--out", &options->out, "the folder to write to");
                a.flag("--overwrite", &options->overwrite, "replace an earlier demo");
                options->common.declare(a);
              },
          .run = [options] { return run(*options); }};
}

}  // namespace glia
