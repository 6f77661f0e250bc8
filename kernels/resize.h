#pragma once
// Resampling of images x (N, H, W, C) to y (N, size[0], size[1], C): y = R x K, with one sparse matrix of taps for the rows and
// one for the columns (PyTorch's interpolate, and torchvision's antialias).
#include <vector>

#include "kernels/op.h"

namespace glia {

enum class ResizeMode { nearest, nearest_exact, bilinear };

struct Resize {
  ResizeMode mode = ResizeMode::bilinear;
  std::array<int64_t, 2> size{};         // of y: rows, columns
  bool align_corners = false;            // bilinear: pixel centres of the corners coincide, source = o (in - 1) / (out - 1)
  bool antialias = false;                // bilinear: a triangle as wide as one output pixel, when shrinking
  std::array<double, 2> scale_factor{};  // if given, source coordinates use 1 / scale_factor instead of in / out
  TensorSpec infer(const Tensor& x) const;
  using Forward = void(const Resize&, const Tensor& x, Tensor& y);
  using Backward = void(const Resize&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);
  static constexpr SaveSet saves = save::nothing;
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// One axis: out[o] = sum of weight[k] in[index[k]] over k in [begin[o], begin[o + 1]); indices ascend.
struct ResizeTaps {
  std::vector<int64_t> begin, index;
  std::vector<double> weight;
  int64_t outputs() const { return static_cast<int64_t>(begin.size()) - 1; }
};

// The taps of axis 0 (rows) or 1 (columns) for an input of `in` pixels.
ResizeTaps resize_taps(const Resize& op, int axis, int64_t in);

// The transposed matrix: from gradients of the outputs to those of the `in` inputs.
ResizeTaps transposed(const ResizeTaps& taps, int64_t in);

namespace reference {
Resize::Forward resize;
Resize::Backward resize_backward;
}  // namespace reference
namespace cpu {
Resize::Forward resize;
Resize::Backward resize_backward;
}  // namespace cpu

inline constexpr Variants<Resize::Forward> Resize::forward{.name = "resize", .reference = reference::resize, .cpu = cpu::resize};
inline constexpr Variants<Resize::Backward> Resize::backward{
    .name = "resize_backward", .reference = reference::resize_backward, .cpu = cpu::resize_backward};

}  // namespace glia
