// Background, interior, border, at full resolution.
#include <algorithm>
#include <cmath>

#include "autograd/operators.h"
#include "kernels/labels.h"
#include "kernels/loss.h"
#include "models/unet_input.h"
#include "models/unet_segmenter_base.h"
#include "models/unet_targets.h"

namespace glia {
namespace {

class BorderUnet final : public UnetSegmenter {
 public:
  explicit BorderUnet(const UnetSegmenterOptions& options) : UnetSegmenter(options) {
    for (const std::string& name : options.losses)
      if (name != "cross_entropy")
        throw UsageError("loss.terms: '{}' is no loss of model.target = \"border\"; want cross_entropy", name);
    if (!options.class_weights.empty() && options.class_weights.size() != size_t(num_border_classes))
      throw UsageError("loss.class_weights: {} values, want 3 (background, interior, border)", options.class_weights.size());
    check_weighted(options, "cross_entropy");
    if (!options.class_weights.empty())
      class_weights_ = Tensor::from<double>({num_border_classes}, options.class_weights).cast(DType::float32);
  }

  std::array<int64_t, 2> crop() const override { return options_.image_size; }

  Example fit(const Example& example) const override {
    Example fitted = example;
    fitted.image = fit_image(example.image);
    return fitted;
  }

  std::vector<Tensor> collate(std::span<const Example> examples) const override {
    std::vector<Tensor> images, targets, weights;
    for (const Example& example : examples) {
      const Tensor image = network_input(example.image);
      const int64_t in_height = input_side(*net_, options_.network.depth, image.dim(0));
      const int64_t in_width = input_side(*net_, options_.network.depth, image.dim(1));
      const Tensor window = mirrored_window(image, -net_->margin(), -net_->margin(), in_height, in_width);
      images.push_back(window.reshape({in_height, in_width, image.dim(2)}));
      targets.push_back(border_classes(example.labels, options_.border_width));
      if (weighted()) weights.push_back(weights_of(example.labels));
    }
    std::vector<Tensor> batch{stacked(images), stacked(targets)};
    if (weighted()) batch.push_back(stacked(weights));
    return batch;
  }

  NamedLosses losses(std::span<const Tensor> batch) override {
    const Tensor target = at_network(batch[1]);
    const Tensor weight = weighted() ? at_network(batch[2]) : Tensor();
    const std::vector<Tensor> heads = batch_logits(batch[0], target);
    return {{"cross_entropy", mean_over(heads, [&](const Tensor& z) { return cross_entropy(z, target, weight); })}};
  }

  NamedValues validate(const Example& example, Prediction& prediction) override {
    const Tensor p = probabilities(fit(example).image);  // (H, W, 3)
    const Tensor target = border_classes(example.labels, options_.border_width);
    const Tensor weight = weighted() ? weights_of(example.labels) : Tensor();
    double sum = 0, weights = 0, both = 0, hard = 0, truth = 0;
    for (int64_t i = 0; i < target.size(); ++i) {
      const auto c = static_cast<size_t>(target.data<int64_t>()[i]);
      const float* q = p.data<float>() + i * num_border_classes;
      const double w = options_.class_weights.empty() ? 1 : options_.class_weights[c];
      sum -= w * (weight ? double(weight.data<float>()[i]) : 1) * std::log(std::max(double(q[c]), 1e-12));
      weights += weight ? 1 : w;  // as the op's mean
      const double h = q[0] < 0.5f ? 1 : 0, t = c != 0 ? 1 : 0;
      both += h * t;
      hard += h;
      truth += t;
    }
    prediction = to_prediction(p);
    return {{"loss", loss_weight(0) * sum / std::max(weights, 1e-12)}, {"dice", (2 * both + 1e-7) / (hard + truth + 1e-7)}};
  }

  std::vector<std::string> metric_names() const override { return {"loss", "dice"}; }

  Prediction predict(const Tensor& image) override {
    return to_prediction(probabilities(fit({.image = image, .labels = {}, .categories = {}, .index = 0, .id = {}}).image));
  }

 private:
  Tensor cross_entropy(const Tensor& z, const Tensor& target, const Tensor& weight) {
    if (class_weights_) class_weights_ = class_weights_.to(z.device());  // once
    return apply(CrossEntropy{}, z, target, class_weights_, weight)[0];
  }

  // Class probabilities (H, W, 3) of a fitted image (H, W, C): tiles blended with weights that fall off linearly towards their edges.
  Tensor probabilities(const Tensor& image) {
    const Tensor x = network_input(image);
    const int64_t height = x.dim(0), width = x.dim(1);
    const int64_t tile_height = options_.tile[0] ? std::min(options_.tile[0], height) : height;
    const int64_t tile_width = options_.tile[1] ? std::min(options_.tile[1], width) : width;
    const Tensor sum = Tensor::zeros({height, width, num_border_classes}), weight = Tensor::zeros({height, width});
    const auto taper = [&](int64_t i, int64_t size) {
      return static_cast<float>(std::min<int64_t>(std::min(i + 1, size - i), options_.overlap / 2 + 1));
    };
    for (const int64_t top : tile_starts(height, tile_height, options_.overlap)) {
      for (const int64_t left : tile_starts(width, tile_width, options_.overlap)) {
        const Tensor p = mean_over(logits(x, top, left, tile_height, tile_width), [](const Tensor& z) { return softmax(z); });
        for (int64_t i = 0; i < tile_height; ++i) {
          for (int64_t j = 0; j < tile_width; ++j) {
            const float w = taper(i, tile_height) * taper(j, tile_width);
            const int64_t at = (top + i) * width + left + j;
            weight.data<float>()[at] += w;
            for (int64_t c = 0; c < num_border_classes; ++c)
              sum.data<float>()[at * num_border_classes + c] +=
                  w * p.data<float>()[(i * tile_width + j) * num_border_classes + c];
          }
        }
      }
    }
    for (int64_t i = 0; i < height * width; ++i)
      for (int64_t c = 0; c < num_border_classes; ++c) sum.data<float>()[i * num_border_classes + c] /= weight.data<float>()[i];
    return sum;
  }

  Prediction to_prediction(const Tensor& p) const {
    const int64_t height = p.dim(0), width = p.dim(1);
    Prediction prediction;
    prediction.foreground = Tensor({height, width});
    const Tensor interior({height, width}, DType::uint8), cell({height, width}, DType::uint8);
    for (int64_t i = 0; i < height * width; ++i) {
      const float* q = p.data<float>() + i * num_border_classes;
      prediction.foreground.data<float>()[i] = 1 - q[0];
      cell.data<uint8_t>()[i] = double(1 - q[0]) > options_.threshold;
      interior.data<uint8_t>()[i] = double(q[1]) > options_.seed_threshold && q[1] > q[2];
    }
    Tensor seeds = connected_components(interior, {.connectivity = options_.connectivity});
    if (options_.seed_size > 1) seeds = remove_small_labels(seeds, options_.seed_size);
    prediction.instances = instances_of(grow_labels(seeds, static_cast<int>(options_.grow), cell));
    score_instances(prediction.instances, prediction.foreground);
    return prediction;
  }

  Tensor class_weights_;
};

}  // namespace

std::unique_ptr<Segmenter> make_border_unet(const UnetSegmenterOptions& options) { return std::make_unique<BorderUnet>(options); }

}  // namespace glia
