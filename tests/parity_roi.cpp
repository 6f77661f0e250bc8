#include "kernels/roi_align.h"
#include "tests/parity.h"

namespace glia::tests {
namespace {

// rois (R, 5) of boxes (n, 4) per image.
Tensor rois_of(const std::vector<Tensor>& boxes) {
  int64_t count = 0, r = 0;
  for (const Tensor& b : boxes) count += b.dim(0);
  Tensor rois({count, 5});
  for (size_t image = 0; image < boxes.size(); ++image)
    for (int64_t i = 0; i < boxes[image].dim(0); ++i, ++r) {
      rois.data<float>()[5 * r] = static_cast<float>(image);
      std::copy_n(boxes[image].data<float>() + 4 * i, 4, rois.data<float>() + 5 * r + 1);
    }
  return rois;
}

}  // namespace

PARITY_OP(roi_align) {
  const Tensor x = c.grad_input("x", to_nhwc);
  const RoiAlign op{.size = c.integers("output_size")[0],
                    .sampling = c.integer("sampling_ratio", 0),
                    .aligned = c.flag("aligned", true),
                    .scales = {c.number("spatial_scale", 1)}};
  const Tensor y = apply(op, x, Tensor(), Tensor(), Tensor(), c.input("rois"), Tensor());
  c.check("y", y, to_nchw);
  c.backward(y, "y", to_nhwc);
  c.check_grad("x", x, to_nchw);
}

PARITY_OP(fpn_level) {
  const FpnLevel op{.min_level = c.integer("min_level", 2),
                    .max_level = c.integer("max_level", 5),
                    .canonical_size = c.number("canonical_size", 224),
                    .canonical_level = c.integer("canonical_level", 4)};
  c.check("level", apply(op, c.input("boxes")));
}

PARITY_OP(roi_pooler) {
  std::array<Tensor, 4> x;
  std::vector<Tensor> boxes;
  RoiAlign op{.size = c.integer("output_size", 7), .sampling = c.integer("sampling_ratio", 0)};
  const auto strides = c.integers("strides");
  for (size_t i = 0; i < strides.size(); ++i) {
    x[i] = c.grad_input("features." + std::to_string(i), to_nhwc);
    op.scales[i] = 1 / double(strides[i]);
  }
  while (c.has("in/boxes." + std::to_string(boxes.size()))) boxes.push_back(c.input("boxes." + std::to_string(boxes.size())));
  const Tensor rois = rois_of(boxes);
  Tensor all({rois.dim(0), 4});
  for (int64_t r = 0; r < rois.dim(0); ++r) std::copy_n(rois.data<float>() + 5 * r + 1, 4, all.data<float>() + 4 * r);
  // Levels counted from the finest map, stride 2^first.
  const int64_t first = std::lround(std::log2(double(strides[0])));
  const FpnLevel level{.min_level = 0,
                       .max_level = int64_t(strides.size()) - 1,
                       .canonical_size = c.number("canonical_size", 224),
                       .canonical_level = c.integer("canonical_level", 4) - first};
  const Tensor y = apply(op, x[0], x[1], x[2], x[3], rois, apply(level, all));
  c.check("y", y, to_nchw);
  c.backward(y, "y", to_nhwc);
  for (size_t i = 0; i < strides.size(); ++i) c.check_grad("features." + std::to_string(i), x[i], to_nchw);
}

}  // namespace glia::tests
