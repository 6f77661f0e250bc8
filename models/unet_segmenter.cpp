#include "models/unet_segmenter.h"

#include <algorithm>

#include "data/rle.h"
#include "kernels/labels.h"
#include "models/unet_input.h"
#include "models/unet_onnx.h"
#include "models/unet_segmenter_base.h"
#include "models/unet_targets.h"

namespace glia {

void check_weighted(const UnetSegmenterOptions& options, const char* loss) {
  if (options.pixel_weights.any() && std::find(options.losses.begin(), options.losses.end(), loss) == options.losses.end())
    throw UsageError("loss.weights: of the losses of this target only {} takes weights of pixels, and loss.terms has none", loss);
}

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

OnnxExport UnetSegmenter::onnx() { return {"the network", onnx_of_unet(options_.network, net_->state_dict())}; }

Tensor UnetSegmenter::network_input(const Tensor& image) const {
  return image.dtype() == DType::uint8 ? normalized(image, Normalization::unit, value_range(DType::uint8)) : image;
}

Tensor UnetSegmenter::fit_image(const Tensor& image) const {
  const Tensor x = to_channels(image, options_.network.in_channels);
  const bool stays = options_.normalization == Normalization::unit && x.dtype() == DType::uint8;
  return stays ? x : normalized(x, options_.normalization, value_range(image.dtype()));
}

std::vector<Tensor> UnetSegmenter::batch_logits(const Tensor& images, const Tensor& target) {
  std::vector<Tensor> heads = net_->heads(at_network(images));
  for (Tensor& z : heads) z = pad2d(z, 0, 0, target.dim(1) - z.dim(1), target.dim(2) - z.dim(2));
  return heads;
}

std::vector<Tensor> UnetSegmenter::logits(const Tensor& x, int64_t top, int64_t left, int64_t height, int64_t width) {
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

std::vector<Instance> UnetSegmenter::instances_of(Tensor labels) const {
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

void UnetSegmenter::score_instances(std::vector<Instance>& instances, const Tensor& foreground) {
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

std::unique_ptr<Segmenter> make_unet_segmenter(const UnetSegmenterOptions& options) {
  UnetSegmenterOptions full = options;
  full.network.out_channels = options.target == UnetTarget::binary ? 1 : num_border_classes;
  if (options.connectivity != 4 && options.connectivity != 8)
    throw UsageError("model.connectivity = {}: want 4 or 8", options.connectivity);
  full.network.validate();
  if (options.target == UnetTarget::binary) return make_binary_unet(full);
  for (const int64_t tile : options.tile)
    if (tile > 0 && options.overlap >= tile)
      throw UsageError("model.overlap = {}: want less than model.tile = {}", options.overlap, tile);
  return make_border_unet(full);
}

}  // namespace glia
