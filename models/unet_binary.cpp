// Cells against background, at one size.
#include <algorithm>

#include "autograd/operators.h"
#include "data/image_resize.h"
#include "kernels/labels.h"
#include "kernels/loss.h"
#include "kernels/loss_region.h"
#include "models/unet_input.h"
#include "models/unet_segmenter_base.h"
#include "models/unet_targets.h"

namespace glia {
namespace {

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

}  // namespace

std::unique_ptr<Segmenter> make_binary_unet(const UnetSegmenterOptions& options) { return std::make_unique<BinaryUnet>(options); }

}  // namespace glia
