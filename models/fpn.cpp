#include "models/fpn.h"

#include "autograd/operators.h"

namespace glia {

Fpn::Fpn(const ResnetOptions& resnet, int64_t channels, nn::NormKind norm) : bottom_up(resnet) {
  const bool bias = norm == nn::NormKind::none;
  for (size_t i = 0; i < 4; ++i) {
    const nn::ConvOptions lateral{
        .in = bottom_up.out_channels()[i], .out = channels, .kernel = 1, .bias = bias, .init = nn::xavier_fill};
    const nn::ConvOptions output{
        .in = channels, .out = channels, .kernel = 3, .pad = nn::same_pad(3), .bias = bias, .init = nn::xavier_fill};
    add(fmt::format("fpn_lateral{}", i + 2), lateral_.emplace_back(lateral, norm));
    add(fmt::format("fpn_output{}", i + 2), output_.emplace_back(output, norm));
  }
  add("bottom_up", bottom_up);
}

Pyramid Fpn::merge(const std::array<Tensor, 4>& stages) {
  Pyramid p;
  Tensor above;
  for (size_t i = 4; i-- > 0;) {
    above = lateral_[i](stages[i], above ? upsample_nearest(above, 2) : Tensor());
    p[i] = output_[i](above);
  }
  p[4] = apply(Slice{.step = {1, 2, 2, 1}}, p[3]);
  return p;
}

}  // namespace glia
