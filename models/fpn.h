#pragma once
// Feature pyramid (Lin et al. 2017) over a ResNet, by detectron2's names: fpn_lateral2, fpn_output2, ..., bottom_up.
#include "models/resnet.h"

namespace glia {

// p2, p3, p4, p5, p6 (N, H / stride, W / stride, channels) at strides 4, 8, 16, 32, 64.
using Pyramid = std::array<Tensor, 5>;
inline constexpr std::array<int64_t, 5> pyramid_strides{4, 8, 16, 32, 64};

class Fpn : public Module {
 public:
  Fpn(const ResnetOptions& resnet, int64_t channels, nn::NormKind norm = nn::NormKind::none);
  // Sides of the images must be multiples of 32.
  Pyramid operator()(const Tensor& images) { return merge(bottom_up(images)); }
  Pyramid merge(const std::array<Tensor, 4>& stages);  // res2 .. res5

  Resnet bottom_up;

 private:
  std::deque<nn::ConvNorm2d> lateral_, output_;  // of levels 2 to 5
};

}  // namespace glia
