#pragma once
// Nearest x2, then a convolution with stride 1: the way up in Keras' UNets. As one op, so that the image four times as large as x
// lives only while it is needed: it is made again in backward instead of being saved.
#include "kernels/conv.h"

namespace glia {

// Inputs x (N, H, W, C), w (K, R, S, C), bias (K) or absent; output (N, P, Q, K) as of `conv` on (N, 2H, 2W, C). `conv` has
// stride and dilation 1 and one group.
struct UpsampleConv2d {
  Conv2d conv;
  TensorSpec infer(const Tensor& x, const Tensor& w, const Tensor& bias) const;
  using Forward = void(const UpsampleConv2d&, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y);
  using Backward = void(const UpsampleConv2d&, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y,
                        const Tensor& dy, Tensor* dx, Tensor* dw, Tensor* dbias);
  SaveSet saves() const {
    const SaveSet both = save::input(0) | save::input(1);
    return conv.activation == Activation::relu ? both | save::output(0) : both;
  }
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// It runs the two ops by whatever implementation is chosen; on the CPU a 2x2 filter has a body of its own.
UpsampleConv2d::Forward upsample_conv2d;
UpsampleConv2d::Backward upsample_conv2d_backward;
namespace cpu {
UpsampleConv2d::Forward upsample_conv2d;
UpsampleConv2d::Backward upsample_conv2d_backward;
}  // namespace cpu

inline constexpr Variants<UpsampleConv2d::Forward> UpsampleConv2d::forward{.name = "upsample_conv2d",
                                                                           .reference = upsample_conv2d,
                                                                           .cpu = cpu::upsample_conv2d,
                                                                           .emulated = upsample_conv2d,
                                                                           .cuda = GLIA_CUDA(upsample_conv2d)};
inline constexpr Variants<UpsampleConv2d::Backward> UpsampleConv2d::backward{.name = "upsample_conv2d_backward",
                                                                             .reference = upsample_conv2d_backward,
                                                                             .cpu = cpu::upsample_conv2d_backward,
                                                                             .emulated = upsample_conv2d_backward,
                                                                             .cuda = GLIA_CUDA(upsample_conv2d_backward)};

}  // namespace glia
