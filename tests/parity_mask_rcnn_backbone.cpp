// The feature pyramid against detectron2.
#include <doctest/doctest.h>

#include "autograd/operators.h"
#include "models/fpn.h"
#include "tests/mask_rcnn_fixture.h"

namespace glia::tests {
namespace {

// uint8 (3, H, W) -> (1, H, W, 3), less the mean, divided by the deviation.
Tensor normalised(const Tensor& image, const rapidjson::Value& config) {
  const Tensor pixels = permuted(image, {1, 2, 0}).cast(DType::float32);
  Tensor x({1, pixels.dim(0), pixels.dim(1), 3});
  for (int64_t i = 0; i < x.size(); ++i) {
    const unsigned c = unsigned(i % 3);
    x.data<float>()[i] =
        (pixels.data<float>()[i] - config["MODEL.PIXEL_MEAN"][c].GetFloat()) / config["MODEL.PIXEL_STD"][c].GetFloat();
  }
  return x;
}

PARITY_MODEL(resnet_fpn) {
  const auto& config = c.params()["config"];
  const MaskRcnnOptions options = mask_rcnn_options(config);
  Fpn net(options.resnet, options.fpn_channels);
  Part root("backbone", net);
  load_formula_weights(c, root);
  const auto stages = net.bottom_up(normalised(c.input("image"), config));
  for (size_t i = 0; i < 4; ++i) c.check(fmt::format("res{}", i + 2), stages[i], to_nchw);
  const Pyramid p = net.merge(stages);
  const auto cotangents = formula_tensors(c, "formula_gout");
  Tensor total;
  for (size_t i = 0; i < 5; ++i) {
    c.check(fmt::format("p{}", i + 2), p[i], to_nchw);
    const Tensor part = apply(Sum{}, p[i] * cotangents[i].tensor);
    total = total ? total + part : part;
  }
  backward(total);
  check_parameter_gradients(c, root);
}

}  // namespace
}  // namespace glia::tests
