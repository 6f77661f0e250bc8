// Shape rules of the convolutions and what both kinds share.
#include "kernels/conv.h"

namespace glia {
namespace {

void check_common(const char* name, const std::array<int64_t, 2>& stride, const std::array<int64_t, 4>& pad,
                  const std::array<int64_t, 2>& dilation, int64_t groups) {
  GLIA_CHECK(stride[0] >= 1 && stride[1] >= 1, "{}: stride {} x {}, want at least 1", name, stride[0], stride[1]);
  GLIA_CHECK(dilation[0] >= 1 && dilation[1] >= 1, "{}: dilation {} x {}, want at least 1", name, dilation[0], dilation[1]);
  GLIA_CHECK(groups >= 1, "{}: {} groups, want at least 1", name, groups);
  for (const int64_t side : pad) GLIA_CHECK(side >= 0, "{}: pad {}, want at least 0", name, side);
}

void check_images(const char* name, const Tensor& x, const Tensor& w) {
  GLIA_CHECK(x && x.rank() == 4, "{}: x is {}, want (N, H, W, C)", name, x.shape());
  GLIA_CHECK(w && w.rank() == 4, "{}: w is {}, want rank 4: (K, R, S, C/groups)", name, w.shape());
  GLIA_CHECK(w.dtype() == x.dtype(), "{}: x is {}, w is {}", name, name_of(x.dtype()), name_of(w.dtype()));
  GLIA_CHECK(w.dim(1) >= 1 && w.dim(2) >= 1, "{}: w is {}: the filter has no elements", name, w.shape());
}

void check_vector(const char* name, const char* what, const Tensor& v, int64_t k, DType dtype) {
  if (!v) return;
  GLIA_CHECK(v.rank() == 1 && v.dim(0) == k, "{}: {} is {}, want ({}): one number per output channel", name, what, v.shape(), k);
  GLIA_CHECK(v.dtype() == dtype, "{}: {} is {}, want {} as x", name, what, name_of(v.dtype()), name_of(dtype));
}

}  // namespace

TensorSpec Conv2d::infer(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& scale,
                         const Tensor& residual) const {
  constexpr const char* name = "conv2d";
  check_common(name, stride, pad, dilation, groups);
  check_images(name, x, w);
  const int64_t c = x.dim(3), k = w.dim(0);
  GLIA_CHECK(c == w.dim(3) * groups, "{}: x is {} with {} channels, w is {}: want C/groups = {} with {} groups", name, x.shape(),
             c, w.shape(), w.dim(3), groups);
  GLIA_CHECK(k % groups == 0, "{}: {} output channels in {} groups", name, k, groups);
  check_vector(name, "bias", bias, k, x.dtype());
  check_vector(name, "scale", scale, k, x.dtype());
  Shape shape{x.dim(0), 0, 0, k};
  for (int i = 0; i < 2; ++i) {
    const size_t axis = static_cast<size_t>(i);
    const int64_t room = x.dim(1 + i) + pad[axis] + pad[axis + 2] - (w.dim(1 + i) - 1) * dilation[axis] - 1;
    GLIA_CHECK(room >= 0, "{}: filter {} with dilation {} x {} is larger than the padded image {}", name, w.shape(), dilation[0],
               dilation[1], x.shape());
    shape.set(1 + i, room / stride[axis] + 1);
  }
  GLIA_CHECK(!residual || (residual.shape() == shape && residual.dtype() == x.dtype()), "{}: residual is {} {}, want {} {} as y",
             name, name_of(residual.dtype()), residual.shape(), name_of(x.dtype()), shape);
  return {shape, x.dtype()};
}

SaveSet Conv2d::saves() const {
  const SaveSet inputs = save::input(0) | save::input(1) | save::input(3);
  return activation == Activation::relu ? inputs | save::output(0) : inputs;
}

TensorSpec ConvTranspose2d::infer(const Tensor& x, const Tensor& w, const Tensor& bias) const {
  constexpr const char* name = "conv_transpose2d";
  check_common(name, stride, pad, dilation, groups);
  check_images(name, x, w);
  GLIA_CHECK(x.dim(3) == w.dim(0), "{}: x is {}, w is {}: want w (C, R, S, K/groups) with C = {}", name, x.shape(), w.shape(),
             x.dim(3));
  GLIA_CHECK(x.dim(3) % groups == 0, "{}: {} input channels in {} groups", name, x.dim(3), groups);
  const int64_t k = w.dim(3) * groups;
  check_vector(name, "bias", bias, k, x.dtype());
  Shape shape{x.dim(0), 0, 0, k};
  for (int i = 0; i < 2; ++i) {
    const size_t axis = static_cast<size_t>(i);
    GLIA_CHECK(output_padding[axis] >= 0 && output_padding[axis] < std::max(stride[axis], dilation[axis]),
               "{}: output_padding {}, want 0 to below the stride or the dilation", name, output_padding[axis]);
    const int64_t size = (x.dim(1 + i) - 1) * stride[axis] - pad[axis] - pad[axis + 2] + (w.dim(1 + i) - 1) * dilation[axis] + 1 +
                         output_padding[axis];
    GLIA_CHECK(size >= 0 && x.dim(1 + i) > 0, "{}: nothing is left of x {} under filter {} after cropping {} and {}", name,
               x.shape(), w.shape(), pad[axis], pad[axis + 2]);
    shape.set(1 + i, size);
  }
  return {shape, x.dtype()};
}

SaveSet ConvTranspose2d::saves() const {
  const SaveSet inputs = save::input(0) | save::input(1);
  return activation == Activation::relu ? inputs | save::output(0) : inputs;
}

Tensor filter_from_kcrs(const Tensor& w) { return permuted(w, {0, 2, 3, 1}); }
Tensor filter_to_kcrs(const Tensor& w) { return permuted(w, {0, 3, 1, 2}); }

double ConvGeometry::flops() const {
  return 2.0 * static_cast<double>(n * p * q) * static_cast<double>(k) * static_cast<double>(r * s * c_group());
}

ConvGeometry geometry(const Conv2d& op, const Tensor& x, const Tensor& w, const Tensor& y) {
  return {.n = x.dim(0),
          .h = x.dim(1),
          .w = x.dim(2),
          .c = x.dim(3),
          .k = w.dim(0),
          .r = w.dim(1),
          .s = w.dim(2),
          .p = y.dim(1),
          .q = y.dim(2),
          .stride = op.stride,
          .before = {op.pad[0], op.pad[1]},
          .dilation = op.dilation,
          .groups = op.groups};
}

ConvGeometry geometry(const ConvTranspose2d& op, const Tensor& x, const Tensor& w, const Tensor& y) {
  return {.n = y.dim(0),
          .h = y.dim(1),
          .w = y.dim(2),
          .c = y.dim(3),
          .k = w.dim(0),
          .r = w.dim(1),
          .s = w.dim(2),
          .p = x.dim(1),
          .q = x.dim(2),
          .stride = op.stride,
          .before = {op.pad[0], op.pad[1]},
          .dilation = op.dilation,
          .groups = op.groups};
}

}  // namespace glia
