// glia export: a checkpoint for other programs. The same as glia convert of that file.
#include <memory>

#include "apps/cli.h"
#include "apps/convert_weights.h"
#include "tensor/error.h"

namespace glia {
namespace {

struct Options {
  CommonOptions common;
  std::string checkpoint, to;
};

int run(const Options& options) {
  options.common.apply();
  const WeightsConversion conversion{.from = options.checkpoint,
                                     .to = options.to,
                                     .format = "",
                                     .names = "",
                                     .recipe = "",
                                     .settings = {},
                                     .quiet = options.common.quiet};
  if (!is_weights_conversion(conversion))
    throw UsageError("--to '{}': end it in .onnx, .safetensors, .pth, .pkl, .npz or .weights.h5 (glia convert has more options)",
                     options.to);
  convert_weights(conversion);
  return 0;
}

}  // namespace

Command export_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "export",
          .summary =
              "write a checkpoint for other programs: .onnx, .pth, .pkl, .npz, Keras' .weights.h5, weights alone as .safetensors",
          .example = "glia export run/checkpoints/best.safetensors --to model.onnx",
          .declare =
              [options](Arguments& a) {
                a.positional("CHECKPOINT", &options->checkpoint, "a checkpoint of a training, or any file of weights");
                a.option("--to", &options->to, "the file; its ending says the format", true);
                options->common.declare(a);
              },
          .run = [options] { return run(*options); }};
}

}  // namespace glia
