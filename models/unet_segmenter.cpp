#include "models/unet_segmenter.h"

#include <algorithm>
#include <cmath>

#include "autograd/operators.h"
#include "data/image_resize.h"
#include "data/rle.h"
#include "kernels/labels.h"
#include "kernels/loss.h"
#include "kernels/loss_region.h"
#include "models/unet_input.h"
#include "models/unet_onnx.h"
#include "models/unet_targets.h"

namespace glia {
namespace {

// UsageError where weights of pixels are asked for, and none of the losses takes them.
void check_weighted(const UnetSegmenterOptions& options, const char* loss) {
  if (options.pixel_weights.any() && std::find(options.losses.begin(), options.losses.end(), loss) == options.losses.end())
    throw UsageError("loss.weights: of the losses of this target only {} takes weights of pixels, and loss.terms has none", loss);
}

// A batch (N, H, W, C) float32 of images, or (N, H, W) of label maps.
Tensor stacked(const std::vector<Tensor>& parts) {
  const Tensor& first = parts.front();
  std::vector<int64_t> dims{static_cast<int64_t>(parts.size())};
  dims.insert(dims.end(), first.shape().begin(), first.shape().end());
  Tensor all(Shape(std::span<const int64_t>(dims)), first.dtype());
  for (size_t i = 0; i < parts.size(); ++i) {
    GLIA_CHECK(parts[i].shape() == first.shape(), "batch: images of {} and {}", first.shape(), parts[i].shape());
    copy_bytes(all.raw() + i * first.bytes(), parts[i].raw(), first.bytes());
  }
  return all;
}

// The mean of f over the logits of all heads.
template <class F>
Tensor mean_over(std::span<const Tensor> heads, F f) {
  Tensor sum = f(heads[0]);
  for (const Tensor& z : heads.subspan(1)) sum = sum + f(z);
  return heads.size() == 1 ? sum : sum * (1.0 / double(heads.size()));
}

// What both targets share: the network, its inputs, and how margins and sides are met.
class UnetSegmenter : public Segmenter {
 public:
  explicit UnetSegmenter(const UnetSegmenterOptions& options) : options_(options), net_(make_unet(options_.network)) {}

  Module& module() override { return *net_; }
  OnnxExport onnx() override { return {"the network", onnx_of_unet(options_.network, net_->state_dict())}; }
  void infer(std::span<const Tensor> batch) override { net_->heads(at_network(batch[0])); }

 protected:
  Tensor network_input(const Tensor& image) const {
    return image.dtype() == DType::uint8 ? normalized(image, Normalization::unit, value_range(DType::uint8)) : image;
  }

  // The network's channels, normalised once here; only bytes stay bytes (network_input() scales them).
  Tensor fit_image(const Tensor& image) const {
    const Tensor x = to_channels(image, options_.network.in_channels);
    const bool stays = options_.normalization == Normalization::unit && x.dtype() == DType::uint8;
    return stays ? x : normalized(x, options_.normalization, value_range(image.dtype()));
  }

  // A tensor of a batch where the network is: the trainer has brought it there already, others do it now.
  Tensor at_network(const Tensor& t) { return t.to(net_->device()); }

  // Logits of each head for a batch, cropped to the target's sides where the network gives more.
  std::vector<Tensor> batch_logits(const Tensor& images, const Tensor& target) {
    std::vector<Tensor> heads = net_->heads(at_network(images));
    for (Tensor& z : heads) z = pad2d(z, 0, 0, target.dim(1) - z.dim(1), target.dim(2) - z.dim(2));
    return heads;
  }

  // Logits (height, width, K) of each head, on the host, of the window at (top, left) of x (H, W, C); what the network needs around it is
  // mirrored.
  std::vector<Tensor> logits(const Tensor& x, int64_t top, int64_t left, int64_t height, int64_t width) {
    const int64_t depth = options_.network.depth, margin = net_->margin();
    const int64_t in_height = input_side(*net_, depth, height), in_width = input_side(*net_, depth, width);
    const Tensor window = mirrored_window(x, top - margin, left - margin, in_height, in_width);
    std::vector<Tensor> heads = net_->heads(at_network(window));
    for (Tensor& z : heads) {
      const Tensor y = z.to(Device{});  // (1, P, Q, K)
      z = Tensor({height, width, y.dim(3)});
      for (int64_t i = 0; i < height; ++i)
        std::copy_n(y.data<float>() + i * y.dim(2) * y.dim(3), width * y.dim(3), z.data<float>() + i * width * y.dim(3));
    }
    return heads;
  }

  std::vector<Instance> instances_of(Tensor labels) const {
    if (options_.fill_holes) labels = fill_label_holes(labels);
    if (options_.min_size > 0) labels = remove_small_labels(labels, options_.min_size);
    std::vector<Instance> instances;
    for (Rle& mask : masks_of_labels(labels)) {
      Instance instance;
      instance.box = bounding_box(mask);
      instance.mask = std::move(mask);
      instances.push_back(std::move(instance));
    }
    return instances;
  }

  // Every instance's score is the mean probability over its pixels.
  static void score_instances(std::vector<Instance>& instances, const Tensor& foreground) {
    for (Instance& instance : instances) {
      const Rle& mask = instance.mask;
      double sum = 0;
      int64_t count = 0, at = 0;
      for (size_t i = 0; i < mask.counts.size(); at += mask.counts[i++]) {
        if (i % 2 == 0) continue;
        for (int64_t p = at; p < at + mask.counts[i]; ++p, ++count)
          sum += foreground.data<float>()[(p % mask.height) * mask.width + p / mask.height];
      }
      instance.score = count ? sum / double(count) : 0;
    }
  }

  // Pixel weights of a label map (H, W), where asked for.
  Tensor weights_of(const Tensor& labels) const { return pixel_weights(labels, options_.pixel_weights); }
  bool weighted() const { return options_.pixel_weights.any(); }

  double loss_weight(size_t i) const { return i < options_.loss_weights.size() ? options_.loss_weights[i] : 1; }

  UnetSegmenterOptions options_;
  std::unique_ptr<Unet> net_;
};

// ---- cells against background, at one size ------------------------------------------------------------------------------

ResizeMethod image_method(const std::string& name) {
  if (name == "pil") return ResizeMethod::pillow_bilinear;
  if (name == "opencv") return ResizeMethod::opencv_bilinear;
  if (name == "keras") return ResizeMethod::keras_bilinear;
  throw UsageError("data.resize = '{}': want pil, opencv or keras", name);
}

class BinaryUnet final : public UnetSegmenter {
 public:
  explicit BinaryUnet(const UnetSegmenterOptions& options) : UnetSegmenter(options), method_(image_method(options.resize)) {
    for (const std::string& name : options.losses)
      loss(name, Tensor({1, 1, 1, 1}), Tensor::zeros({1, 1, 1, 1}), Tensor());  // known?
    check_weighted(options, "bce");
  }

  // labels become 0 and 1: the union of the instances, resized as a picture of 0 and 255 and cut at 128. For weights of pixels they keep the
  // instances apart where they are not 0.
  Example fit(const Example& example) const override {
    const auto [height, width] = options_.image_size;
    Example fitted = example;
    fitted.image = resize_image(fit_image(example.image), height, width, method_);
    if (!example.labels) return fitted;
    Tensor mask({example.labels.dim(0), example.labels.dim(1)}, DType::uint8);
    std::transform(example.labels.data<int32_t>(), example.labels.data<int32_t>() + mask.size(), mask.data<uint8_t>(),
                   [](int32_t label) { return static_cast<uint8_t>(label > 0 ? 255 : 0); });
    mask = resize_image(mask, height, width, method_);
    fitted.labels = Tensor({height, width}, DType::int32);
    std::transform(mask.data<uint8_t>(), mask.data<uint8_t>() + mask.size(), fitted.labels.data<int32_t>(),
                   [](uint8_t v) { return v >= 128 ? 1 : 0; });
    if (weighted()) name_instances(fitted.labels, resize_labels(example.labels, height, width));
    return fitted;
  }

  std::vector<Tensor> collate(std::span<const Example> examples) const override {
    std::vector<Tensor> images, masks, weights;
    for (const Example& example : examples) {
      const Tensor image = network_input(example.image);
      const int64_t in_height = input_side(*net_, options_.network.depth, image.dim(0));
      const int64_t in_width = input_side(*net_, options_.network.depth, image.dim(1));
      const Tensor window = mirrored_window(image, -net_->margin(), -net_->margin(), in_height, in_width);
      images.push_back(window.reshape({in_height, in_width, image.dim(2)}));
      const Tensor mask = cells_of(example.labels).reshape({example.labels.dim(0), example.labels.dim(1), 1});
      masks.push_back(mask);
      if (weighted()) weights.push_back(weights_of(example.labels).reshape(mask.shape()));
    }
    std::vector<Tensor> batch{stacked(images), stacked(masks)};
    if (weighted()) batch.push_back(stacked(weights));
    return batch;
  }

  NamedLosses losses(std::span<const Tensor> batch) override {
    const Tensor target = at_network(batch[1]);
    const Tensor weight = weighted() ? at_network(batch[2]) : Tensor();
    const std::vector<Tensor> heads = batch_logits(batch[0], target);
    NamedLosses result;
    for (const std::string& name : options_.losses)
      result.emplace_back(name, mean_over(heads, [&](const Tensor& z) { return loss(name, z, target, weight); }));
    return result;
  }

  NamedValues validate(const Example& example, Prediction& prediction) override {
    const Example fitted = fit(example);
    const int64_t height = fitted.image.dim(0), width = fitted.image.dim(1);
    std::vector<Tensor> heads = logits(network_input(fitted.image), 0, 0, height, width);
    for (Tensor& z : heads) z = z.reshape({1, height, width, 1});
    const Tensor y = cells_of(fitted.labels).reshape({1, height, width, 1});
    const Tensor weight = weighted() ? weights_of(fitted.labels).reshape(y.shape()) : Tensor();
    const auto mean_loss = [&](const std::string& name) {
      return mean_over(heads, [&](const Tensor& z) { return loss(name, z, y, weight); }).item();
    };
    double total = 0;
    for (size_t i = 0; i < options_.losses.size(); ++i) total += loss_weight(i) * mean_loss(options_.losses[i]);
    const Tensor p = mean_over(heads, sigmoid);
    double both = 0, both_soft = 0, hard = 0, soft = 0, truth = 0;
    for (int64_t i = 0; i < p.size(); ++i) {
      const double q = p.data<float>()[i], t = y.data<float>()[i], h = q > 0.5 ? 1 : 0;
      both += h * t;
      both_soft += q * t;
      hard += h;
      soft += q;
      truth += t;
    }
    prediction = to_prediction(p.reshape({height, width}), example.image.dim(0), example.image.dim(1));
    return {{"loss", total},
            {"bce", mean_over(heads, [&](const Tensor& z) { return apply(BceWithLogits{}, z, y, Tensor{}, Tensor{}); }).item()},
            {"dice", (2 * both + 1e-7) / (hard + truth + 1e-7)},
            {"dice_soft", (2 * both_soft + 1) / (soft + truth + 1)}};
  }

  std::vector<std::string> metric_names() const override { return {"loss", "bce", "dice", "dice_soft"}; }

  Prediction predict(const Tensor& image) override {
    const Tensor x = fit({.image = image, .labels = {}, .categories = {}, .index = 0, .id = {}}).image;
    const Tensor p = mean_over(logits(network_input(x), 0, 0, x.dim(0), x.dim(1)), sigmoid);
    return to_prediction(p.reshape({x.dim(0), x.dim(1)}), image.dim(0), image.dim(1));
  }

 private:
  // weight like y, or absent.
  Tensor loss(const std::string& name, const Tensor& z, const Tensor& y, const Tensor& weight) const {
    if (name == "bce") {
      const Tensor positive =
          options_.positive_weight == 1 ? Tensor() : Tensor::full({1}, options_.positive_weight, z.dtype(), z.device());
      return apply(BceWithLogits{}, z, y, weight, positive);
    }
    if (name == "dice") return apply(DiceLoss{.per = options_.per, .smooth = options_.smooth}, apply(Sigmoid{}, z), y)[0];
    if (name == "focal") return apply(FocalLoss{.alpha = options_.focal_alpha, .gamma = options_.focal_gamma}, z, y);
    if (name == "tversky") {
      const TverskyLoss op{
          .per = options_.per, .alpha = options_.tversky_alpha, .beta = options_.tversky_beta, .smooth = options_.smooth};
      return apply(op, z, y)[0];
    }
    if (name == "lovasz") return apply(LovaszHinge{}, z, y)[0];
    throw UsageError("loss.terms: '{}' is no loss of model.target = \"binary\"; want bce, dice, focal, tversky or lovasz", name);
  }

  Prediction to_prediction(const Tensor& probability, int64_t height, int64_t width) const {
    Prediction prediction;
    prediction.foreground = resize_image(probability, height, width, method_);
    Tensor mask({height, width}, DType::uint8);
    std::transform(prediction.foreground.data<float>(), prediction.foreground.data<float>() + mask.size(), mask.data<uint8_t>(),
                   [&](float p) { return static_cast<uint8_t>(double(p) > options_.threshold); });
    prediction.instances = instances_of(connected_components(mask, {.connectivity = options_.connectivity}));
    score_instances(prediction.instances, prediction.foreground);
    return prediction;
  }

  ResizeMethod method_;
};

// ---- background, interior, border at full resolution --------------------------------------------------------------------

constexpr int64_t num_classes = 3;

class BorderUnet final : public UnetSegmenter {
 public:
  explicit BorderUnet(const UnetSegmenterOptions& options) : UnetSegmenter(options) {
    for (const std::string& name : options.losses)
      if (name != "cross_entropy")
        throw UsageError("loss.terms: '{}' is no loss of model.target = \"border\"; want cross_entropy", name);
    if (!options.class_weights.empty() && options.class_weights.size() != size_t(num_classes))
      throw UsageError("loss.class_weights: {} values, want 3 (background, interior, border)", options.class_weights.size());
    check_weighted(options, "cross_entropy");
    if (!options.class_weights.empty())
      class_weights_ = Tensor::from<double>({num_classes}, options.class_weights).cast(DType::float32);
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
      const float* q = p.data<float>() + i * num_classes;
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
    const Tensor sum = Tensor::zeros({height, width, num_classes}), weight = Tensor::zeros({height, width});
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
            for (int64_t c = 0; c < num_classes; ++c)
              sum.data<float>()[at * num_classes + c] += w * p.data<float>()[(i * tile_width + j) * num_classes + c];
          }
        }
      }
    }
    for (int64_t i = 0; i < height * width; ++i)
      for (int64_t c = 0; c < num_classes; ++c) sum.data<float>()[i * num_classes + c] /= weight.data<float>()[i];
    return sum;
  }

  Prediction to_prediction(const Tensor& p) const {
    const int64_t height = p.dim(0), width = p.dim(1);
    Prediction prediction;
    prediction.foreground = Tensor({height, width});
    const Tensor interior({height, width}, DType::uint8), cell({height, width}, DType::uint8);
    for (int64_t i = 0; i < height * width; ++i) {
      const float* q = p.data<float>() + i * num_classes;
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

std::unique_ptr<Segmenter> make_unet_segmenter(const UnetSegmenterOptions& options) {
  UnetSegmenterOptions full = options;
  full.network.out_channels = options.target == UnetTarget::binary ? 1 : num_classes;
  if (options.connectivity != 4 && options.connectivity != 8)
    throw UsageError("model.connectivity = {}: want 4 or 8", options.connectivity);
  full.network.validate();
  if (options.target == UnetTarget::binary) return std::make_unique<BinaryUnet>(full);
  for (const int64_t tile : options.tile)
    if (tile > 0 && options.overlap >= tile)
      throw UsageError("model.overlap = {}: want less than model.tile = {}", options.overlap, tile);
  return std::make_unique<BorderUnet>(full);
}

}  // namespace glia
