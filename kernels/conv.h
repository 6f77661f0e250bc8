#pragma once
// Convolutions. Images are NHWC, filters KRSC: (output channels, filter rows, filter columns, input channels of one group).
//   y[n,p,q,k] = activation(scale[k] sum_{r,s,c} x[n, p sh - top + r dh, q sw - left + s dw, c] w[k,r,s,c] + bias[k] +
//   residual[n,p,q,k])
// Start reading at Conv2d; the bodies in reference/conv.cpp say the same in loops.
#include <span>
#include <vector>

#include "kernels/op.h"
#include "kernels/packed_filter.h"

namespace glia {

enum class Activation { none, relu };

// Inputs x (N, H, W, C), w (K, R, S, C/groups), and any of bias (K), scale (K), residual (N, P, Q, K), each of which may be
// absent. Output y (N, P, Q, K) with P = (H + top + bottom - (R - 1) dh - 1) / sh + 1, rounded down. Scale and bias are how a
// frozen batch norm is folded in; scale is a constant: asking for its gradient throws. infer throws on shapes that do not fit.
struct Conv2d {
  std::array<int64_t, 2> stride{1, 1};
  std::array<int64_t, 4> pad{};  // top, left, bottom, right
  std::array<int64_t, 2> dilation{1, 1};
  int64_t groups = 1;
  Activation activation = Activation::none;
  PackedFilter* packed = nullptr;  // where the CPU keeps what it makes of w; only for a call that no tape remembers
  std::array<bool, 1> over{};      // backward: dx is x itself; it is zeroed where x is not above 0

  static constexpr int residual = 4;  // the number of the input that is added in front of the activation

  TensorSpec infer(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& scale, const Tensor& residual) const;
  using Forward = void(const Conv2d&, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& scale,
                       const Tensor& residual, Tensor& y);
  using Backward = void(const Conv2d&, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& scale,
                        const Tensor& residual, const Tensor& y, const Tensor& dy, Tensor* dx, Tensor* dw, Tensor* dbias,
                        Tensor* dscale, Tensor* dresidual);
  SaveSet saves() const;  // x, w, scale, and y where a ReLU masks the gradient
  bool overwrites(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& scale, const Tensor& residual,
                  const Tensor& y) const;  // backward knows `over`
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// The adjoint of Conv2d in x: inputs x (N, H, W, C), w (C, R, S, K/groups) and bias (K) or absent; output y (N, P, Q, K) with
// P = (H - 1) sh - top - bottom + (R - 1) dh + 1 + output_padding. So w has the layout of the convolution's filter that takes
// y's shape to x's. Other systems' (C, K/groups, R, S) filters come in by filter_from_kcrs.
struct ConvTranspose2d {
  std::array<int64_t, 2> stride{1, 1};
  std::array<int64_t, 4> pad{};             // top, left, bottom, right: cropped from the output
  std::array<int64_t, 2> output_padding{};  // more rows at the bottom, more columns at the right
  std::array<int64_t, 2> dilation{1, 1};
  int64_t groups = 1;
  Activation activation = Activation::none;

  TensorSpec infer(const Tensor& x, const Tensor& w, const Tensor& bias) const;
  using Forward = void(const ConvTranspose2d&, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y);
  using Backward = void(const ConvTranspose2d&, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y,
                        const Tensor& dy, Tensor* dx, Tensor* dw, Tensor* dbias);
  SaveSet saves() const;
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// Filters (K, C, R, S) of other systems to ours (K, R, S, C) and back; also for transposed ones, (C, K/g, R, S) <-> (C, R, S,
// K/g).
Tensor filter_from_kcrs(const Tensor& w);
Tensor filter_to_kcrs(const Tensor& w);

// The sizes of one convolution in one place: of Conv2d, or of the convolution whose adjoint a ConvTranspose2d is.
struct ConvGeometry {
  int64_t n = 0, h = 0, w = 0, c = 0;  // image
  int64_t k = 0, r = 0, s = 0;         // filter
  int64_t p = 0, q = 0;                // result
  std::array<int64_t, 2> stride{1, 1};
  std::array<int64_t, 2> before{};  // pad at the top and at the left
  std::array<int64_t, 2> dilation{1, 1};
  int64_t groups = 1;

  int64_t c_group() const { return c / groups; }
  int64_t k_group() const { return k / groups; }
  double flops() const;  // 2 n p q k r s c / groups: of forward, and of each of the two gradients
  bool operator==(const ConvGeometry&) const = default;
};
ConvGeometry geometry(const Conv2d& op, const Tensor& x, const Tensor& w, const Tensor& y);
ConvGeometry geometry(const ConvTranspose2d& op, const Tensor& x, const Tensor& w, const Tensor& y);

namespace reference {
Conv2d::Forward conv2d;
Conv2d::Backward conv2d_backward;
ConvTranspose2d::Forward conv_transpose2d;
ConvTranspose2d::Backward conv_transpose2d_backward;
}  // namespace reference

// Each pass of each convolution picks its algorithm on its own: the first of the list that is applicable and pays.
enum class ConvPass { forward, data_gradient, weight_gradient };

// What happens to a result before it is stored: max(0, sum * scale + bias + residual); null: not wanted.
struct ConvEpilogue {
  const float* scale = nullptr;
  const float* bias = nullptr;
  const float* residual = nullptr;
  bool relu = false;
  bool over = false;  // data gradients, where the algorithm overwrites: zero where what the result is written over is not above 0
};

namespace cpu {

Conv2d::Forward conv2d;
Conv2d::Backward conv2d_backward;
ConvTranspose2d::Forward conv_transpose2d;
ConvTranspose2d::Backward conv_transpose2d_backward;

struct ConvAlgorithm {
  const char* name;
  bool (*applicable)(const ConvGeometry&, ConvPass);  // it gives the right result
  bool (*pays)(const ConvGeometry&, ConvPass);        // it should be faster than those behind it in the list
  // What forward can be spared when the filter was seen before: it takes `pack`'s result for any geometry with the same filter and the
  // same form, or an absent tensor. No form: nothing worth its memory.
  const char* (*packed_form)(const ConvGeometry&);
  Tensor (*pack)(const ConvGeometry&, const float* w);
  void (*forward)(const ConvGeometry&, const float* x, const float* w, const Tensor& packed, const ConvEpilogue&, float* y);
  void (*data_gradient)(const ConvGeometry&, const float* dy, const float* w, const ConvEpilogue&, float* dx);
  void (*weight_gradient)(const ConvGeometry&, const float* x, const float* dy, float* dw);
  bool overwrites = false;
};

std::span<const ConvAlgorithm> conv_algorithms();  // the last one always is both

// Uses this algorithm wherever it is applicable, for tests and benchmarks; nullptr: back to the choice above.
void force_conv_algorithm(const ConvAlgorithm* algorithm);

struct ConvChoice {
  ConvGeometry geometry;
  ConvPass pass;
  const ConvAlgorithm* algorithm;
};
// From now on every choice that is made, each once, is added to `to`, for reports; nullptr: no longer. For one computing thread.
void record_conv_choices(std::vector<ConvChoice>* to);

}  // namespace cpu

// The algorithms of kernels/cuda, of which `applicable` also asks precision(). The epilogue's pointers are addresses on the device.
struct DeviceConvAlgorithm {
  const char* name;
  bool (*applicable)(const ConvGeometry&, ConvPass);
  void (*forward)(const ConvGeometry&, const Tensor& x, const Tensor& w, const ConvEpilogue&, const Tensor& y);
  void (*data_gradient)(const ConvGeometry&, const Tensor& dy, const Tensor& w, const ConvEpilogue&, const Tensor& dx);
  void (*weight_gradient)(const ConvGeometry&, const Tensor& x, const Tensor& dy, const Tensor& dw);
  int (*tiles)(ConvPass) = nullptr;  // sizes of tiles that it has for a pass; null: nothing to choose
};

// One source compiled twice: conv2d() and the rest for each. A forced tile is a number among the sizes that the algorithm has for a
// pass, modulo how many these are; -1: by shape.
#define GLIA_DECLARE_DEVICE_CONVOLUTIONS                                                    \
  Conv2d::Forward conv2d;                                                                   \
  Conv2d::Backward conv2d_backward;                                                         \
  ConvTranspose2d::Forward conv_transpose2d;                                                \
  ConvTranspose2d::Backward conv_transpose2d_backward;                                      \
  std::span<const DeviceConvAlgorithm> conv_algorithms(); /* the last: always applicable */ \
  void force_conv_algorithm(const DeviceConvAlgorithm* algorithm, int tile = -1);
namespace emulated {
GLIA_DECLARE_DEVICE_CONVOLUTIONS
}
namespace cuda {
GLIA_DECLARE_DEVICE_CONVOLUTIONS
}
#undef GLIA_DECLARE_DEVICE_CONVOLUTIONS

namespace cudnn {
const DeviceConvAlgorithm& conv_algorithm();  // applicable where the library can be opened (GLIA_WITH_CUDNN)
std::string fault();                          // why the library cannot be used; empty when it can
}

namespace onednn {
Conv2d::Forward conv2d;
Conv2d::Backward conv2d_backward;
ConvTranspose2d::Forward conv_transpose2d;
ConvTranspose2d::Backward conv_transpose2d_backward;
}  // namespace onednn

inline constexpr Variants<Conv2d::Forward> Conv2d::forward{
    .name = "conv2d",
    .reference = reference::conv2d,
    .cpu = cpu::conv2d,
    .onednn = GLIA_ONEDNN(onednn::conv2d),
    .emulated = emulated::conv2d,
    .cuda = GLIA_CUDA(cuda::conv2d),
    .vendor = GLIA_CUDNN_SLOT(cuda::conv2d)};  // picks cuDNN itself
inline constexpr Variants<Conv2d::Backward> Conv2d::backward{
    .name = "conv2d_backward",
    .reference = reference::conv2d_backward,
    .cpu = cpu::conv2d_backward,
    .onednn = GLIA_ONEDNN(onednn::conv2d_backward),
    .emulated = emulated::conv2d_backward,
    .cuda = GLIA_CUDA(cuda::conv2d_backward),
    .vendor = GLIA_CUDNN_SLOT(cuda::conv2d_backward)};
inline constexpr Variants<ConvTranspose2d::Forward> ConvTranspose2d::forward{
    .name = "conv_transpose2d",
    .reference = reference::conv_transpose2d,
    .cpu = cpu::conv_transpose2d,
    .onednn = GLIA_ONEDNN(onednn::conv_transpose2d),
    .emulated = emulated::conv_transpose2d,
    .cuda = GLIA_CUDA(cuda::conv_transpose2d),
    .vendor = GLIA_CUDNN_SLOT(cuda::conv_transpose2d)};
inline constexpr Variants<ConvTranspose2d::Backward> ConvTranspose2d::backward{
    .name = "conv_transpose2d_backward",
    .reference = reference::conv_transpose2d_backward,
    .cpu = cpu::conv_transpose2d_backward,
    .onednn = GLIA_ONEDNN(onednn::conv_transpose2d_backward),
    .emulated = emulated::conv_transpose2d_backward,
    .cuda = GLIA_CUDA(cuda::conv_transpose2d_backward),
    .vendor = GLIA_CUDNN_SLOT(cuda::conv_transpose2d_backward)};

}  // namespace glia
