#pragma once
// The convolution of two images side by side in channels: a UNet's way up, where the skip joins. As one op, so that nobody has to
// hold the joined image, or its gradient.
#include "kernels/conv.h"

namespace glia {

// Inputs a (N, H, W, A), b (N, H, W, B), w (K, R, S, A + B), bias (K) or absent; output as of `conv` on (N, H, W, A + B).
// `conv` has one group. infer throws on shapes that do not fit.
struct ConcatConv2d {
  Conv2d conv;
  std::array<bool, 2> over{};  // backward: da is a itself, db is b; zeroed where they are not above 0
  TensorSpec infer(const Tensor& a, const Tensor& b, const Tensor& w, const Tensor& bias) const;
  using Forward = void(const ConcatConv2d&, const Tensor& a, const Tensor& b, const Tensor& w, const Tensor& bias, Tensor& y);
  using Backward = void(const ConcatConv2d&, const Tensor& a, const Tensor& b, const Tensor& w, const Tensor& bias,
                        const Tensor& y, const Tensor& dy, Tensor* da, Tensor* db, Tensor* dw, Tensor* dbias);
  SaveSet saves() const {
    const SaveSet inputs = save::input(0) | save::input(1) | save::input(2);
    return conv.activation == Activation::relu ? inputs | save::output(0) : inputs;
  }
  bool overwrites(const Tensor& a, const Tensor& b, const Tensor& w, const Tensor& bias, const Tensor& y) const;
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// It joins the images and runs the convolution by whatever implementation is chosen; on the CPU Winograd's algorithm reads the two
// where they are.
ConcatConv2d::Forward concat_conv2d;
ConcatConv2d::Backward concat_conv2d_backward;
namespace cpu {
ConcatConv2d::Forward concat_conv2d;
ConcatConv2d::Backward concat_conv2d_backward;
}  // namespace cpu

inline constexpr Variants<ConcatConv2d::Forward> ConcatConv2d::forward{.name = "concat_conv2d",
                                                                       .reference = concat_conv2d,
                                                                       .cpu = cpu::concat_conv2d,
                                                                       .emulated = concat_conv2d,
                                                                       .cuda = GLIA_CUDA(concat_conv2d)};
inline constexpr Variants<ConcatConv2d::Backward> ConcatConv2d::backward{.name = "concat_conv2d_backward",
                                                                         .reference = concat_conv2d_backward,
                                                                         .cpu = cpu::concat_conv2d_backward,
                                                                         .emulated = concat_conv2d_backward,
                                                                         .cuda = GLIA_CUDA(concat_conv2d_backward)};

}  // namespace glia
