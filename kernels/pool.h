#pragma once
// Pooling of images x (N, H, W, C) to y (N, P, Q, C). Sizes: P = floor((H + top + bottom - kernel) / stride) + 1, or ceil in
// ceil_mode, where a last window that would start beyond the input and its top padding is dropped (PyTorch's rule).
#include <algorithm>

#include "kernels/op.h"

namespace glia {

// Padding counts as -inf. The gradient of a window goes to its first maximum in row-major order; backward finds it again from x.
struct MaxPool2d {
  std::array<int64_t, 2> kernel{2, 2};
  std::array<int64_t, 2> stride{2, 2};
  std::array<int64_t, 4> pad{};  // top, left, bottom, right; each less than the kernel
  bool ceil_mode = false;
  TensorSpec infer(const Tensor& x) const;
  using Forward = void(const MaxPool2d&, const Tensor& x, Tensor& y);
  using Backward = void(const MaxPool2d&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);
  static constexpr SaveSet saves = save::input(0);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// The sum over a window divided by the size of the window clipped to the padded input or, without count_include_pad, by the
// number of pixels inside the input.
struct AvgPool2d {
  std::array<int64_t, 2> kernel{2, 2};
  std::array<int64_t, 2> stride{2, 2};
  std::array<int64_t, 4> pad{};
  bool ceil_mode = false;
  bool count_include_pad = true;
  TensorSpec infer(const Tensor& x) const;
  using Forward = void(const AvgPool2d&, const Tensor& x, Tensor& y);
  using Backward = void(const AvgPool2d&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);
  static constexpr SaveSet saves = save::nothing;
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// Mean over H and W: (N, 1, 1, C).
struct GlobalAvgPool {
  TensorSpec infer(const Tensor& x) const;
  using Forward = void(const GlobalAvgPool&, const Tensor& x, Tensor& y);
  using Backward = void(const GlobalAvgPool&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);
  static constexpr SaveSet saves = save::nothing;
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// One axis of a pooling: window o covers [begin(o), end(o)) of the input.
struct PoolAxis {
  int64_t in, out, kernel, stride, before, after;
  int64_t begin(int64_t o) const { return std::max<int64_t>(o * stride - before, 0); }
  int64_t end(int64_t o) const { return std::min(o * stride - before + kernel, in); }
  int64_t padded_length(int64_t o) const { return std::min(o * stride - before + kernel, in + after) - (o * stride - before); }
  // Windows [first(i), last(i)) cover input i.
  int64_t first(int64_t i) const { return std::max<int64_t>((i + before - kernel + stride) / stride, 0); }
  int64_t last(int64_t i) const { return std::min((i + before) / stride + 1, out); }
};

struct PoolGeometry {
  int64_t n, c;
  PoolAxis rows, columns;
  Shape output() const { return {n, rows.out, columns.out, c}; }
};

// Throws naming `op` for a shape, kernel, stride or padding that makes no sense.
PoolGeometry pool_geometry(const char* op, const Shape& x, const std::array<int64_t, 2>& kernel,
                           const std::array<int64_t, 2>& stride, const std::array<int64_t, 4>& pad, bool ceil_mode);
template <class Op>
PoolGeometry pool_geometry(const Op& op, const Shape& x) {
  return pool_geometry(Op::forward.name, x, op.kernel, op.stride, op.pad, op.ceil_mode);
}

// What AvgPool2d divides window (p, q) by.
inline int64_t avg_pool_count(const AvgPool2d& op, const PoolGeometry& g, int64_t p, int64_t q) {
  if (op.count_include_pad) return g.rows.padded_length(p) * g.columns.padded_length(q);
  return (g.rows.end(p) - g.rows.begin(p)) * (g.columns.end(q) - g.columns.begin(q));
}

namespace reference {
MaxPool2d::Forward max_pool2d;
MaxPool2d::Backward max_pool2d_backward;
AvgPool2d::Forward avg_pool2d;
AvgPool2d::Backward avg_pool2d_backward;
GlobalAvgPool::Forward global_avg_pool;
GlobalAvgPool::Backward global_avg_pool_backward;
}  // namespace reference
namespace cpu {
MaxPool2d::Forward max_pool2d;
MaxPool2d::Backward max_pool2d_backward;
AvgPool2d::Forward avg_pool2d;
AvgPool2d::Backward avg_pool2d_backward;
GlobalAvgPool::Forward global_avg_pool;
GlobalAvgPool::Backward global_avg_pool_backward;
}  // namespace cpu

inline constexpr Variants<MaxPool2d::Forward> MaxPool2d::forward{
    .name = "max_pool2d", .reference = reference::max_pool2d, .cpu = cpu::max_pool2d};
inline constexpr Variants<MaxPool2d::Backward> MaxPool2d::backward{
    .name = "max_pool2d_backward", .reference = reference::max_pool2d_backward, .cpu = cpu::max_pool2d_backward};
inline constexpr Variants<AvgPool2d::Forward> AvgPool2d::forward{
    .name = "avg_pool2d", .reference = reference::avg_pool2d, .cpu = cpu::avg_pool2d};
inline constexpr Variants<AvgPool2d::Backward> AvgPool2d::backward{
    .name = "avg_pool2d_backward", .reference = reference::avg_pool2d_backward, .cpu = cpu::avg_pool2d_backward};
inline constexpr Variants<GlobalAvgPool::Forward> GlobalAvgPool::forward{
    .name = "global_avg_pool", .reference = reference::global_avg_pool, .cpu = cpu::global_avg_pool};
inline constexpr Variants<GlobalAvgPool::Backward> GlobalAvgPool::backward{
    .name = "global_avg_pool_backward", .reference = reference::global_avg_pool_backward, .cpu = cpu::global_avg_pool_backward};

}  // namespace glia
