#pragma once
// ResNet of bottleneck blocks (He et al. 2016) without its classifier, by detectron2's names: stem.conv1, res2.0.conv1, ...
#include <array>
#include <deque>

#include "models/mask_rcnn_options.h"

namespace glia {

// Bottlenecks of res2, ..., res5 at `depth` 50 or 101; UsageError for others.
std::array<int64_t, 4> resnet_blocks(int64_t depth);

// 1x1, 3x3, 1x1 convolutions and a shortcut; each with a norm, and a ReLU but for the last, which has it after the sum.
class Bottleneck : public Module {
 public:
  Bottleneck(const ResnetOptions& options, int64_t in, int64_t width, int64_t out, int64_t stride, nn::NormKind norm);
  Tensor operator()(const Tensor& x);

 private:
  std::optional<nn::ConvNorm2d> shortcut_;  // absent: the identity
  nn::ConvNorm2d conv1_, conv2_, conv3_;
};

class Resnet : public Module {
 public:
  explicit Resnet(const ResnetOptions& options);
  // images (N, H, W, in_channels) -> res2, res3, res4, res5 at strides 4, 8, 16, 32.
  std::array<Tensor, 4> operator()(const Tensor& images);
  std::array<int64_t, 4> out_channels() const { return out_channels_; }

 private:
  struct Stem : Module {
    nn::ConvNorm2d conv1;
    Stem(const ResnetOptions& options, nn::NormKind norm);
    Tensor operator()(const Tensor& images);
  };
  struct Stage : Module {
    std::deque<Bottleneck> blocks;
    bool counts = false;  // norms with running statistics: no block may run twice
    void add_block(const ResnetOptions& options, int64_t in, int64_t width, int64_t out, int64_t stride, nn::NormKind norm);
    Tensor operator()(Tensor x);
  };

  Stem stem_;
  std::array<Stage, 4> stages_;
  std::array<int64_t, 4> out_channels_{};
};

}  // namespace glia
