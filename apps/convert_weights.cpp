#include "apps/convert_weights.h"

#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include "apps/segmentation.h"
#include "data/atomic_file.h"
#include "data/weights.h"
#include "models/weight_names.h"
#include "models/weight_names_keras.h"
#include "train/transfer.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

std::optional<WeightsFormat> format_named(std::string_view name) {
  if (name == "safetensors") return WeightsFormat::safetensors;
  if (name == "pth" || name == "pt") return WeightsFormat::torch;
  if (name == "pkl") return WeightsFormat::pickle;
  if (name == "npz") return WeightsFormat::npz;
  if (name == "h5") return WeightsFormat::hdf5;
  return std::nullopt;
}

std::optional<WeightsFormat> format_of(const WeightsConversion& c) {
  if (!c.format.empty()) return format_named(c.format);
  const std::string extension = fs::path(c.to).extension().string();
  return extension.empty() ? std::nullopt : format_named(std::string_view(extension).substr(1));
}

Weights renamed(const Weights& weights, const std::string& names) {
  if (names.empty()) return weights;
  const Weights own = with_own_names(weights);
  if (names == "detectron2") return own;
  StateDict state;
  for (const StoredTensor& t : own.tensors) state[t.name] = own.load(t);
  try {
    return weights_of(to_torchvision(state), weights.source);
  } catch (const DataError& e) {
    throw DataError("{}: {}", weights.source, e.what());
  }
}

// A checkpoint of step 0 of the recipe's network with the file's weights, all of them.
void write_as_checkpoint(const WeightsConversion& c, const Weights& weights) {
  const Config config = load_config(c.recipe, c.settings);
  const auto segmenter = make_segmenter(config);
  const TransferReport report = transfer_weights(segmenter->module(), with_own_names(weights), {});
  if (!report.missing.empty() || !report.reinitialized.empty())
    throw DataError(
        "{}: layers of the network would stay random; start a training from the file (init.weights), or give the number of "
        "classes it has (--set model.num_classes=N)\n{}",
        c.from, report.table());
  Checkpoint checkpoint;
  checkpoint.model = config.model.name;
  checkpoint.config = to_toml(config);
  checkpoint.seed = config.run.seed;
  checkpoint.weights = segmenter->module().state_dict();
  write_checkpoint(c.to, checkpoint);
  if (!c.quiet) fmt::print("{}\n", report.table());
}

bool asks_for_onnx(const WeightsConversion& c) {
  return c.format == "onnx" || (c.format.empty() && fs::path(c.to).extension() == ".onnx");
}

void write_onnx(const WeightsConversion& c) {
  if (!c.recipe.empty() || !c.settings.empty() || !c.names.empty())
    throw UsageError(
        "an ONNX file is made of a checkpoint: without --recipe, --set and --names (weights become a checkpoint before: glia "
        "convert {} weights.safetensors --recipe RECIPE)",
        c.from);
  const TrainedSystem system = load_system(c.from, {}, Device{});
  try {
    const OnnxExport made = system.segmenter->onnx();
    write_file(c.to, made.graph.model(system.config.model.name, {{"config", to_toml(system.config)}, {"part", made.part}}));
    if (!c.quiet) fmt::print("{}: {} of {} as ONNX, opset {}\n", c.to, made.part, system.config.model.name, OnnxGraph::opset);
  } catch (const DataError& e) {
    throw DataError("{} ({}): {}", c.from, system.config.model.name, e.what());
  }
}

}  // namespace

bool is_weights_conversion(const WeightsConversion& c) {
  return asks_for_onnx(c) || !c.recipe.empty() || format_of(c).has_value();
}

void convert_weights(const WeightsConversion& c) {
  if (asks_for_onnx(c)) return write_onnx(c);
  if (!c.names.empty() && c.names != "detectron2" && c.names != "torchvision")
    throw UsageError("--names '{}': want detectron2 or torchvision", c.names);
  const auto format = format_of(c);
  if (!c.recipe.empty() && (format != WeightsFormat::safetensors || !c.names.empty()))
    throw UsageError("--recipe makes a checkpoint of Glia: TO ends in .safetensors, and there are no --names");
  if (!c.settings.empty() && c.recipe.empty()) throw UsageError("--set belongs to --recipe");
  if (format == WeightsFormat::hdf5 && (!c.names.empty() || !c.to.ends_with(".weights.h5")))
    throw UsageError("'{}': Keras loads weights from a file that ends in .weights.h5, under its own names (without --names)",
                     c.to);
  const Weights weights = model_weights(read_weights(c.from));
  if (weights.tensors.empty()) throw DataError("{}: it holds no tensors", c.from);
  if (!c.recipe.empty()) return write_as_checkpoint(c, weights);
  Weights out = format == WeightsFormat::hdf5 ? to_keras(with_own_names(weights)) : renamed(weights, c.names);
  out.scalars.clear();
  write_weights(c.to, out, *format);
  if (!c.quiet) fmt::print("{}: {} tensors of {} ({})\n", c.to, out.tensors.size(), c.from, weights.format);
}

}  // namespace glia
