#pragma once
// Ops that move elements: concatenation, slices, pads, permutations, flips. Elements of any type; gradients of float32, float64.
// (A differentiable reshape, which moves nothing, is in autograd/view.h.)
#include <vector>

#include "kernels/axis_map.h"
#include "kernels/op.h"

namespace glia {

// Joins tensors along an axis; the other axes agree. Parts of size 0 are allowed. Run by apply_list.
struct Concat {
  int axis = 0;
  TensorSpec infer(std::span<const Tensor> xs) const;
  using Forward = void(const Concat&, std::span<const Tensor> xs, Tensor& y);
  using Backward = void(const Concat&, std::span<const TensorSpec> xs, const Tensor& dy, std::span<Tensor* const> dxs);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// Elements start, start + step, ... before stop of each axis. An empty list means 0, the size, 1; negative start and stop count
// from the end. 0 <= start <= stop <= size and step >= 1, else it throws.
struct Slice {
  std::vector<int64_t> start{}, stop{}, step{};
  AxisMap map(const Shape& x) const;
  TensorSpec infer(const Tensor& x) const { return {map(x.shape()).y, x.dtype()}; }
  using Forward = void(const Slice&, const Tensor& x, Tensor& y);
  using Backward = void(const Slice&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);
  static constexpr SaveSet saves = save::nothing;
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// [begin, end) of one axis, the others whole.
Slice slice_of(const Shape& x, int axis, int64_t begin, int64_t end);
// The central (height, width) of images (N, H, W, C); an odd rest leaves one more row at the bottom, one more column at the
// right.
Slice centre_crop(const Shape& x, int64_t height, int64_t width);

enum class PadMode { constant, reflect, edge };

// "constant", "reflect" or "edge"; throws UsageError for other text.
PadMode parse_pad_mode(std::string_view text);

// (before, after) per axis; negative ones crop. reflect doesn't repeat the border (pads < size), edge repeats it.
struct Pad {
  std::vector<std::array<int64_t, 2>> pads{};
  PadMode mode = PadMode::constant;
  double value = 0;
  AxisMap map(const Shape& x) const;
  TensorSpec infer(const Tensor& x) const { return {map(x.shape()).y, x.dtype()}; }
  using Forward = void(const Pad&, const Tensor& x, Tensor& y);
  using Backward = void(const Pad&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);
  static constexpr SaveSet saves = save::nothing;
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// Axis i of y is axis axes[i] of x.
struct Permute {
  std::vector<int> axes{};
  Permute inverse() const;
  TensorSpec infer(const Tensor& x) const;
  using Forward = void(const Permute&, const Tensor& x, Tensor& y);
  using Backward = void(const Permute&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);
  static constexpr SaveSet saves = save::nothing;
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// Reverses the given axes.
struct Flip {
  std::vector<int> axes{};
  AxisMap map(const Shape& x) const;
  TensorSpec infer(const Tensor& x) const { return {map(x.shape()).y, x.dtype()}; }
  using Forward = void(const Flip&, const Tensor& x, Tensor& y);
  using Backward = void(const Flip&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);
  static constexpr SaveSet saves = save::nothing;
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

#define GLIA_DECLARE_SHAPE(space)       \
  namespace space {                    \
  Concat::Forward concat;               \
  Concat::Backward concat_backward;     \
  Slice::Forward slice;                 \
  Slice::Backward slice_backward;       \
  Pad::Forward pad;                     \
  Pad::Backward pad_backward;           \
  Permute::Forward permute;             \
  Permute::Backward permute_backward;   \
  Flip::Forward flip;                   \
  Flip::Backward flip_backward;         \
  }
GLIA_DECLARE_SHAPE(reference)
GLIA_DECLARE_SHAPE(cpu)
GLIA_DECLARE_SHAPE(emulated)
GLIA_DECLARE_SHAPE(cuda)
#undef GLIA_DECLARE_SHAPE

inline constexpr Variants<Concat::Forward> Concat::forward{
    .name = "concat", .reference = reference::concat, .cpu = cpu::concat,
    .emulated = emulated::concat, .cuda = GLIA_CUDA(cuda::concat)};
inline constexpr Variants<Concat::Backward> Concat::backward{
    .name = "concat_backward", .reference = reference::concat_backward, .cpu = cpu::concat_backward,
    .emulated = emulated::concat_backward, .cuda = GLIA_CUDA(cuda::concat_backward)};
inline constexpr Variants<Slice::Forward> Slice::forward{
    .name = "slice", .reference = reference::slice, .cpu = cpu::slice,
    .emulated = emulated::slice, .cuda = GLIA_CUDA(cuda::slice)};
inline constexpr Variants<Slice::Backward> Slice::backward{
    .name = "slice_backward", .reference = reference::slice_backward, .cpu = cpu::slice_backward,
    .emulated = emulated::slice_backward, .cuda = GLIA_CUDA(cuda::slice_backward)};
inline constexpr Variants<Pad::Forward> Pad::forward{
    .name = "pad", .reference = reference::pad, .cpu = cpu::pad,
    .emulated = emulated::pad, .cuda = GLIA_CUDA(cuda::pad)};
inline constexpr Variants<Pad::Backward> Pad::backward{
    .name = "pad_backward", .reference = reference::pad_backward, .cpu = cpu::pad_backward,
    .emulated = emulated::pad_backward, .cuda = GLIA_CUDA(cuda::pad_backward)};
inline constexpr Variants<Permute::Forward> Permute::forward{
    .name = "permute", .reference = reference::permute, .cpu = cpu::permute,
    .emulated = emulated::permute, .cuda = GLIA_CUDA(cuda::permute)};
inline constexpr Variants<Permute::Backward> Permute::backward{
    .name = "permute_backward", .reference = reference::permute_backward, .cpu = cpu::permute_backward,
    .emulated = emulated::permute_backward, .cuda = GLIA_CUDA(cuda::permute_backward)};
inline constexpr Variants<Flip::Forward> Flip::forward{
    .name = "flip", .reference = reference::flip, .cpu = cpu::flip,
    .emulated = emulated::flip, .cuda = GLIA_CUDA(cuda::flip)};
inline constexpr Variants<Flip::Backward> Flip::backward{
    .name = "flip_backward", .reference = reference::flip_backward, .cpu = cpu::flip_backward,
    .emulated = emulated::flip_backward, .cuda = GLIA_CUDA(cuda::flip_backward)};

}  // namespace glia
