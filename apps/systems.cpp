// From a configuration to the system that it describes: the one place that knows all of them.
#include <fmt/format.h>

#include <algorithm>

#include "apps/segmentation.h"
#include "models/unet_segmenter.h"

namespace glia {
namespace {

Normalization normalization_of(const std::string& name) {
  if (name == "unit") return Normalization::unit;
  if (name == "percentile") return Normalization::percentile;
  return name == "standard" ? Normalization::standard : Normalization::none;
}

UnetSegmenterOptions unet_options(const Config& config) {
  UnetSegmenterOptions options;
  const ModelConfig& model = config.model;
  options.network = {
      .name = model.name, .in_channels = config.data.channels, .base_channels = model.base_channels, .depth = model.depth};
  options.network.head = model.head;
  options.network.bilinear = model.upsample == "bilinear";
  options.network.dropout = model.dropout;
  options.target = model.target == "border" ? UnetTarget::border : UnetTarget::binary;
  options.normalization = normalization_of(config.data.normalize);
  options.resize = config.data.resize;
  options.image_size = {config.data.image_size.height, config.data.image_size.width};
  options.tile = {model.tile.height, model.tile.width};
  options.overlap = model.overlap;
  options.border_width = model.border_width;
  options.seed_threshold = model.seed_threshold;
  options.seed_size = model.seed_size;
  options.grow = model.grow;
  options.threshold = model.threshold;
  options.connectivity = static_cast<int>(model.connectivity);
  options.min_size = model.min_size;
  options.fill_holes = model.fill_holes;
  options.losses.clear();
  for (const auto& [name, weight] : config.loss.terms) {
    options.losses.push_back(name);
    options.loss_weights.push_back(weight);
  }
  if (options.losses.empty()) options.losses = {model.target == "border" ? "cross_entropy" : "bce"};
  options.class_weights = config.loss.class_weights;
  options.positive_weight = config.loss.positive_weight;
  options.focal_gamma = config.loss.focal_gamma;
  options.focal_alpha = config.loss.focal_alpha;
  options.tversky_alpha = config.loss.tversky_alpha;
  options.tversky_beta = config.loss.tversky_beta;
  options.smooth = config.loss.smooth;
  return options;
}

}  // namespace

std::unique_ptr<Segmenter> make_segmenter(const Config& config) {
  if (system_of(config) != "unet") throw UsageError("model.name = \"{}\": this build does not have it yet", config.model.name);
  return make_unet_segmenter(unet_options(config));
}

std::vector<std::string> training_classes(const Config& config, const Dataset& dataset) {
  const int64_t wanted = config.model.num_classes;
  if (!config.data.classes.empty()) return config.data.classes;
  const auto count = static_cast<int64_t>(dataset.categories.size());
  if (wanted == 0 || wanted == count) return dataset.categories;
  if (wanted == 1) return {"cell"};
  throw DataError(
      "the data have {} classes ({}), but model.num_classes = {}: want that number, 0 (as the data), or 1 (all as one class)",
      count, fmt::join(dataset.categories, ", "), wanted);
}

void use_classes(Dataset& dataset, const std::vector<std::string>& classes) {
  std::vector<int> index;
  for (const std::string& name : dataset.categories) {
    const auto found = std::find(classes.begin(), classes.end(), name);
    if (found == classes.end() && classes.size() > 1)
      throw DataError("the data have a class '{}', which is not among data.classes: {}", name, fmt::join(classes, ", "));
    index.push_back(found == classes.end() ? 0 : static_cast<int>(found - classes.begin()));
  }
  for (Sample& sample : dataset.samples)
    for (Instance& instance : sample.instances) instance.category = index[static_cast<size_t>(instance.category)];
  dataset.categories = classes;
  dataset.category_ids.clear();
}

}  // namespace glia
