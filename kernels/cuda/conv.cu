// The convolutions of devices: the bodies of the ops, and the list of algorithms that they pick from for each pass. A transposed
// convolution is the adjoint of a convolution in its image, so its forward is a data gradient and its data gradient a forward.
#include <algorithm>
#include <atomic>

#include "kernels/cuda/conv_parts.cuh"

namespace glia::GPU_NS {
namespace {

// In the order in which they are tried.
constexpr DeviceConvAlgorithm algorithms[] = {
    {"mma", mma_conv::applicable, mma_conv::forward, mma_conv::data_gradient, mma_conv::weight_gradient},
    {"simt", simt_conv::applicable, simt_conv::forward, simt_conv::data_gradient, simt_conv::weight_gradient},
    {"direct", direct_conv::applicable, direct_conv::forward, direct_conv::data_gradient, direct_conv::weight_gradient},
};

std::atomic<const DeviceConvAlgorithm*> forced{nullptr};
std::atomic<int> tile_forced{-1};

// On a GPU cuDNN comes first unless --kernels hand: until hand-written ones are measured to win there.
const DeviceConvAlgorithm& choose(const ConvGeometry& g, ConvPass pass) {
  if (const DeviceConvAlgorithm* wanted = forced.load()) {
    if (wanted->applicable(g, pass)) return *wanted;
  } else {
#if !GPU_EMULATED && defined(GLIA_WITH_CUDNN)
    if (kernel_choice() != KernelChoice::hand && cudnn::conv_algorithm().applicable(g, pass)) return cudnn::conv_algorithm();
#endif
  }
  return *std::find_if(std::begin(algorithms), std::end(algorithms), [&](const auto& a) { return a.applicable(g, pass); });
}

const float* data_or_null(const Tensor& t) { return t ? t.device_data<float>() : nullptr; }

}  // namespace

std::span<const DeviceConvAlgorithm> conv_algorithms() { return algorithms; }
void force_conv_algorithm(const DeviceConvAlgorithm* algorithm, int tile) {
  forced.store(algorithm);
  tile_forced.store(tile);
}
int forced_tile() { return tile_forced.load(std::memory_order_relaxed); }

void conv2d(const Conv2d& op, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& scale, const Tensor& residual,
            Tensor& y) {
  const ConvGeometry g = geometry(op, x, w, y);
  const ConvEpilogue e{.scale = data_or_null(scale),
                       .bias = data_or_null(bias),
                       .residual = data_or_null(residual),
                       .relu = op.activation == Activation::relu};
  choose(g, ConvPass::forward).forward(g, x, w, e, y);
}

void conv2d_backward(const Conv2d& op, const Tensor& x, const Tensor& w, const Tensor&, const Tensor& scale, const Tensor&,
                     const Tensor& y, const Tensor& dy, Tensor* dx, Tensor* dw, Tensor* dbias, Tensor* dscale,
                     Tensor* dresidual) {
  GLIA_CHECK(!dscale, "conv2d: scale is a constant and has no gradient; train an affine layer of its own instead");
  const ConvGeometry g = geometry(op, x, w, dy);
  const Tensor dsum = output_gradient(op.activation, y, scale, dy, dbias, dresidual);
  if (dx) choose(g, ConvPass::data_gradient).data_gradient(g, dsum, w, {}, *dx);
  if (dw) choose(g, ConvPass::weight_gradient).weight_gradient(g, x, dsum, *dw);
}

void conv_transpose2d(const ConvTranspose2d& op, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y) {
  const ConvGeometry g = geometry(op, x, w, y);
  const ConvEpilogue e{.bias = data_or_null(bias), .relu = op.activation == Activation::relu};
  choose(g, ConvPass::data_gradient).data_gradient(g, x, w, e, y);
}

void conv_transpose2d_backward(const ConvTranspose2d& op, const Tensor& x, const Tensor& w, const Tensor&, const Tensor& y,
                               const Tensor& dy, Tensor* dx, Tensor* dw, Tensor* dbias) {
  const ConvGeometry g = geometry(op, x, w, dy);
  const Tensor dsum = output_gradient(op.activation, y, Tensor(), dy, dbias, nullptr);
  if (dx) choose(g, ConvPass::forward).forward(g, dsum, w, {}, *dx);
  if (dw) choose(g, ConvPass::weight_gradient).weight_gradient(g, dsum, x, *dw);
}

}  // namespace glia::GPU_NS
