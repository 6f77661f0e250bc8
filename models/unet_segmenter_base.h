#pragma once
// What the segmenters of UNets share, whatever their target.
#include <span>
#include <vector>

#include "autograd/operators.h"
#include "models/unet_segmenter.h"

namespace glia {

// UsageError where weights of pixels are asked for, and none of the losses takes them.
void check_weighted(const UnetSegmenterOptions& options, const char* loss);

// A batch (N, H, W, C) float32 of images, or (N, H, W) of label maps.
Tensor stacked(const std::vector<Tensor>& parts);

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
  OnnxExport onnx() override;
  void infer(std::span<const Tensor> batch) override { net_->heads(at_network(batch[0])); }

 protected:
  Tensor network_input(const Tensor& image) const;

  // The network's channels, normalised once here; only bytes stay bytes (network_input() scales them).
  Tensor fit_image(const Tensor& image) const;

  // A tensor of a batch where the network is: the trainer has brought it there already, others do it now.
  Tensor at_network(const Tensor& t) { return t.to(net_->device()); }

  // Logits of each head for a batch, cropped to the target's sides where the network gives more.
  std::vector<Tensor> batch_logits(const Tensor& images, const Tensor& target);

  // Logits (height, width, K) of each head, on the host, of the window at (top, left) of x (H, W, C); what the network needs around it is
  // mirrored.
  std::vector<Tensor> logits(const Tensor& x, int64_t top, int64_t left, int64_t height, int64_t width);

  std::vector<Instance> instances_of(Tensor labels) const;

  // Every instance's score is the mean probability over its pixels.
  static void score_instances(std::vector<Instance>& instances, const Tensor& foreground);

  // Pixel weights of a label map (H, W), where asked for.
  Tensor weights_of(const Tensor& labels) const { return pixel_weights(labels, options_.pixel_weights); }
  bool weighted() const { return options_.pixel_weights.any(); }

  double loss_weight(size_t i) const { return i < options_.loss_weights.size() ? options_.loss_weights[i] : 1; }

  UnetSegmenterOptions options_;
  std::unique_ptr<Unet> net_;
};

// The segmenter of each target (unet_binary.cpp, unet_border.cpp).
std::unique_ptr<Segmenter> make_binary_unet(const UnetSegmenterOptions& options);
std::unique_ptr<Segmenter> make_border_unet(const UnetSegmenterOptions& options);

}  // namespace glia
