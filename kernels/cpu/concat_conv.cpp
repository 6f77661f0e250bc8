// The convolution of two images side by side, whose pixels Winograd's algorithm transforms from where they are. Where another algorithm
// is chosen, the images are joined first.
#include "kernels/concat_conv.h"

#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/winograd.h"

namespace glia::cpu {
namespace {

ConvGeometry joined_geometry(const ConcatConv2d& op, const Tensor& a, const Tensor& w, const Tensor& y) {
  ConvGeometry g = geometry(op.conv, a, w, y);
  g.c = w.dim(3);
  return g;
}

bool by_winograd(const ConvGeometry& g, ConvPass pass, const Tensor& a) {
  return a.dim(3) % 16 == 0 && chosen_algorithm(g, pass).pack == winograd_pack;
}

}  // namespace

void concat_conv2d(const ConcatConv2d& op, const Tensor& a, const Tensor& b, const Tensor& w, const Tensor& bias, Tensor& y) {
  const ConvGeometry g = joined_geometry(op, a, w, y);
  if (!by_winograd(g, ConvPass::forward, a)) return glia::concat_conv2d(op, a, b, w, bias, y);
  winograd_forward(g, Pixels<const float>{a.data<float>(), a.dim(3), b.data<float>()}, w.data<float>(),
                   packed_filter(chosen_algorithm(g, ConvPass::forward), g, w, op.conv.packed),
                   {.bias = bias ? bias.data<float>() : nullptr, .relu = op.conv.activation == Activation::relu},
                   y.data<float>());
}

void concat_conv2d_backward(const ConcatConv2d& op, const Tensor& a, const Tensor& b, const Tensor& w, const Tensor& bias,
                            const Tensor& y, const Tensor& dy, Tensor* da, Tensor* db, Tensor* dw, Tensor* dbias) {
  const ConvGeometry g = joined_geometry(op, a, w, dy);
  const bool data = da || db;
  if ((data && (!da || !db || !by_winograd(g, ConvPass::data_gradient, a))) ||
      (dw && !by_winograd(g, ConvPass::weight_gradient, a)))
    return glia::concat_conv2d_backward(op, a, b, w, bias, y, dy, da, db, dw, dbias);
  const Tensor dsum = output_gradient(op.conv.activation, y, Tensor(), dy, dbias, nullptr);
  if (dw)
    winograd_weight_gradient(g, Pixels<const float>{a.data<float>(), a.dim(3), b.data<float>()}, dsum.data<float>(),
                             dw->data<float>());
  if (data)
    winograd_data_gradient(g, dsum.data<float>(), w.data<float>(), {},
                           {.first = da->data<float>(), .split = a.dim(3), .rest = db->data<float>(), .over = op.over});
}

}  // namespace glia::cpu

namespace glia {

bool ConcatConv2d::overwrites(const Tensor& a, const Tensor&, const Tensor& w, const Tensor&, const Tensor& y) const {
  if (backward.pick(y.device(), y.dtype()) != cpu::concat_conv2d_backward) return false;
  const ConvGeometry g = cpu::joined_geometry(*this, a, w, y);
  return cpu::by_winograd(g, ConvPass::data_gradient, a) && cpu::by_winograd(g, ConvPass::weight_gradient, a);
}

}  // namespace glia
