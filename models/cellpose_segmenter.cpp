#include "models/cellpose_segmenter.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "autograd/operators.h"
#include "data/rle.h"
#include "kernels/labels.h"
#include "models/cellpose_size.h"

namespace glia {
namespace {

constexpr int64_t network_channels = 2;
constexpr double least_diameter = 5;       // as Cellpose
constexpr int64_t estimation_steps = 200;  // as Cellpose

std::vector<int64_t> areas_of(const Tensor& labels) {
  std::vector<int64_t> areas;
  const std::vector<LabelFacts> facts = label_facts(labels);
  for (size_t i = 1; i < facts.size(); ++i)
    if (facts[i].pixels > 0) areas.push_back(facts[i].pixels);
  return areas;
}

Tensor stacked(const std::vector<Tensor>& parts) {  // (h, w, C) each
  std::vector<Tensor> rows;
  for (const Tensor& t : parts) rows.push_back(t.reshape({1, t.dim(0), t.dim(1), t.dim(2)}));
  return concat(rows, 0);
}

Tensor channels_of(const Tensor& x, int64_t begin, int64_t end) { return apply(slice_of(x.shape(), 2, begin, end), x); }

// Cell or not, (h, w, 1).
Tensor cell_mask(const Tensor& labels) {
  Tensor cell({labels.dim(0), labels.dim(1), 1});
  for (int64_t i = 0; i < cell.size(); ++i) cell.data<float>()[i] = labels.data<int32_t>()[i] > 0 ? 1.0f : 0.0f;
  return cell;
}

class CellposeSegmenter final : public Segmenter {
 public:
  explicit CellposeSegmenter(const CellposeSegmenterOptions& options) : options_(options), net_(options.network) {
    net_.set_diameters(options.diam_mean, 0);
  }

  Module& module() override { return net_; }

  void load(const StateDict& state, std::string_view source) override {
    StateDict weights = state;
    std::erase_if(weights, [](const auto& entry) { return is_cellpose_size(entry.first); });
    net_.load_state_dict(weights, source);
    size_model_ = cellpose_size_of(state, net_.style_size(), source);
    if (options_.estimate_diameter && !size_model_)
      throw DataError("{}: cellpose.diameter = \"auto\", but there is no size model in it; make one: glia size-model", source);
  }

  void study(const Dataset& training) override {
    double sum = 0;
    int64_t count = 0;
    for (const Sample& sample : training.samples) {
      std::vector<int64_t> areas;
      for (const Instance& instance : sample.instances)
        if (!instance.crowd) areas.push_back(area(instance.mask));
      if (areas.empty()) continue;
      sum += std::max(least_diameter, cellpose_diameter(areas));
      ++count;
    }
    net_.set_diameters(net_.diam_mean(), count ? sum / double(count) : 0);
  }

  // The image becomes four channels: the network's two, normalised, and the flows of the cells.
  Example fit(const Example& example) const override {
    Example fitted = example;
    fitted.image = prepared(example.image);
    if (example.labels) fitted.image = concat({fitted.image, cellpose_flow_targets(example.labels)}, 2);
    return fitted;
  }

  Augmenter augmenter() const override {
    const double diam_mean = net_.diam_mean();
    return [options = options_.augment, diam_mean](Example& example, uint64_t seed, int64_t epoch, int64_t index) {
      const double diameter = std::max(least_diameter, cellpose_training_diameter(example.labels));
      const CellposeAugmentation a = draw_cellpose_augmentation(options, example.image.dim(0), example.image.dim(1),
                                                                diam_mean / diameter, seed, epoch, index);
      example.image = augment_cellpose_image(example.image, a);
      example.labels = augment_cellpose_labels(example.labels, a);
    };
  }

  std::vector<Tensor> collate(std::span<const Example> examples) const override {
    std::vector<Tensor> images, flows, cells;
    for (const Example& example : examples) {
      images.push_back(channels_of(example.image, 0, network_channels));
      flows.push_back(5.0 * channels_of(example.image, network_channels, network_channels + 2));
      cells.push_back(cell_mask(example.labels));
    }
    return {stacked(images), stacked(flows), stacked(cells)};
  }

  void infer(std::span<const Tensor> batch) override { net_(batch[0].to(net_.device())); }

  NamedLosses losses(std::span<const Tensor> batch) override {
    const Device device = net_.device();
    const auto [flow, cell] = cellpose_losses(net_(batch[0].to(device)).maps, batch[1].to(device), batch[2].to(device));
    return {{"flow", flow}, {"cell", cell}};
  }

  NamedValues validate(const Example& example, Prediction& prediction) override {
    const Tensor x = prepared(example.image);
    const Tensor maps = cellpose_maps_resampled(x, net_.diam_mean() / diameter(x), options_.tiling, network());
    const Shape whole{1, maps.dim(0), maps.dim(1), 3};
    const Tensor target = 5.0 * cellpose_flow_targets(example.labels), cell = cell_mask(example.labels);
    const auto [flow_loss, cell_loss] = cellpose_losses(maps.reshape(whole), target.reshape({1, maps.dim(0), maps.dim(1), 2}),
                                                        cell.reshape({1, maps.dim(0), maps.dim(1), 1}));
    double both = 0, found = 0, truth = 0;
    for (int64_t i = 0; i < cell.size(); ++i) {
      const double p = maps.data<float>()[3 * i + 2] > 0 ? 1 : 0, t = cell.data<float>()[i];
      both += p * t;
      found += p;
      truth += t;
    }
    prediction = options_.resample ? to_prediction(maps, maps) : predict(example.image);
    return {{"loss", options_.flow_weight * flow_loss.item() + options_.cell_weight * cell_loss.item()},
            {"dice", (2 * both + 1e-7) / (found + truth + 1e-7)}};
  }

  std::vector<std::string> metric_names() const override { return {"loss", "dice"}; }

  Prediction predict(const Tensor& image) override {
    Tensor x = prepared(image);
    const double cells = diameter(x), rescale = net_.diam_mean() / cells;
    const Tensor maps = cellpose_maps_resampled(x, rescale, options_.tiling, network());
    const Tensor flows = options_.resample ? maps : cellpose_maps(x, rescale, options_.tiling, network());
    x = {};  // an image of 10^8 pixels wants its memory
    Prediction prediction = to_prediction(maps, flows);
    prediction.maps = maps;
    prediction.diameter = cells;
    return prediction;
  }

 private:
  Tensor prepared(const Tensor& image) const {
    return cellpose_normalized(cellpose_channels(image, options_.channel, options_.nucleus_channel), options_.normalization);
  }

  std::function<Tensor(const Tensor&)> network() {
    return [this](const Tensor& tiles) { return net_(tiles.to(net_.device())).maps.to(Device{}); };
  }

  // What the cells of an image x are taken to measure, in pixels.
  double diameter(const Tensor& x) {
    const int64_t longest = std::max(x.dim(0), x.dim(1));
    if (options_.diameter > double(longest))
      throw UsageError(
          "cellpose.diameter = {}: larger than the image, {}x{}; want the diameter of a cell in pixels, or 0 for that of the "
          "training images",
          options_.diameter, x.dim(0), x.dim(1));
    if (options_.estimate_diameter) return estimated_diameter(x);
    const double trained = net_.diam_labels();
    return options_.diameter > 0 ? options_.diameter : trained > 0 ? trained : net_.diam_mean();
  }

  // By the style of the whole image at its own size, then the median of the cells that are found with that, by Cellpose's own settings
  // (models.SizeModel.eval); what is estimated is no larger than the image.
  double estimated_diameter(const Tensor& x) {
    GLIA_CHECK(size_model_, "cellpose: a diameter to be estimated without a size model");
    std::vector<double> style(static_cast<size_t>(net_.style_size()), 0.0);
    const auto network_of_styles = [&](const Tensor& tiles) {
      const CellposeOutput out = net_(tiles.to(net_.device()));
      const Tensor styles = out.style.to(Device{});
      for (int64_t i = 0; i < styles.size(); ++i) style[static_cast<size_t>(i) % style.size()] += double(styles.data<float>()[i]);
      return out.maps.to(Device{});
    };
    cellpose_run(x, 1, options_.tiling, network_of_styles, [](int64_t, const Tensor&) {});
    double squares = 1e-24;
    for (const double s : style) squares += s * s;
    for (double& s : style) s /= std::sqrt(squares);
    const double longest = double(std::max(x.dim(0), x.dim(1)));
    const double by_style = std::min(size_model_->diameter(style), std::max(longest, least_diameter));

    const CellposeDynamics how{.steps = estimation_steps, .interpolate = false, .device = net_.device()};
    const Tensor maps = cellpose_maps(x, net_.diam_mean() / by_style, options_.tiling, network());
    const Tensor cells = cellpose_masks(maps, how, x.dim(0), x.dim(1));
    const double by_cells = cellpose_diameter(areas_of(cells));
    return by_cells > 0 ? std::min(by_cells, longest) : net_.diam_mean();
  }

  // maps: at the image's size; flows: those to follow, at its or the network's size.
  Prediction to_prediction(const Tensor& maps, const Tensor& flows) const {
    CellposeDynamics how = options_.dynamics;
    how.device = net_.device();
    Tensor labels = cellpose_masks(flows, how, maps.dim(0), maps.dim(1));
    Prediction prediction;
    prediction.foreground = Tensor({maps.dim(0), maps.dim(1)});
    std::vector<double> sum, pixels;
    for (int64_t i = 0; i < labels.size(); ++i) {
      const float p = 1 / (1 + std::exp(-maps.data<float>()[3 * i + 2]));
      prediction.foreground.data<float>()[i] = p;
      const auto label = static_cast<size_t>(labels.data<int32_t>()[i]);
      if (label >= sum.size()) sum.resize(label + 1, 0.0), pixels.resize(label + 1, 0.0);
      sum[label] += double(p);
      pixels[label] += 1;
    }
    labels = relabel(labels);
    std::vector<double> scores;
    for (size_t label = 1; label < sum.size(); ++label)
      if (pixels[label] > 0) scores.push_back(sum[label] / pixels[label]);
    for (Rle& mask : masks_of_labels(labels)) {
      Instance instance;
      instance.score = scores[prediction.instances.size()];
      instance.box = bounding_box(mask);
      instance.mask = std::move(mask);
      prediction.instances.push_back(std::move(instance));
    }
    return prediction;
  }

  CellposeSegmenterOptions options_;
  CellposeNet net_;
  std::optional<CellposeSizeModel> size_model_;
};

}  // namespace

Tensor cellpose_channels(const Tensor& image, int64_t channel, int64_t nucleus_channel) {
  if (image.rank() != 3) throw DataError("image of shape {}: want (H, W, C); take one page of a stack", image.shape());
  const int64_t have = image.dim(2) == 2 || image.dim(2) == 4 ? image.dim(2) - 1 : image.dim(2);  // alpha dropped
  const bool gray = have == 1;
  for (const int64_t wanted : {channel, nucleus_channel})
    if (!gray && wanted > have)
      throw DataError("image with {} channels has no channel {} (cellpose.chan, cellpose.chan2)", have, wanted);
  const Tensor source = image.cast(DType::float32);
  Tensor result = Tensor::zeros({image.dim(0), image.dim(1), network_channels});
  const float* from = source.data<float>();
  float* to = result.data<float>();
  for (int64_t i = 0; i < image.dim(0) * image.dim(1); ++i, from += image.dim(2), to += network_channels) {
    if (gray) {
      to[0] = from[0];
    } else if (channel > 0) {
      to[0] = from[channel - 1];
    } else {
      for (int64_t c = 0; c < have; ++c) to[0] += from[c] / static_cast<float>(have);
    }
    if (!gray && nucleus_channel > 0) to[1] = from[nucleus_channel - 1];
  }
  return result;
}

double cellpose_training_diameter(const Tensor& labels) {
  const std::vector<int64_t> areas = areas_of(labels);
  return areas.empty() ? 0 : std::max(least_diameter, cellpose_diameter(areas));
}

std::unique_ptr<Segmenter> make_cellpose_segmenter(const CellposeSegmenterOptions& options) {
  CellposeSegmenterOptions full = options;
  full.network.in_channels = network_channels;
  return std::make_unique<CellposeSegmenter>(full);
}

}  // namespace glia
