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

// One axis of a pooling: window o covers [begin(o), end(o)) of the input. Kernels count in int.
template <class I>
struct PoolAxisOf {
  I in, out, kernel, stride, before, after;
  GLIA_HOST_DEVICE constexpr I begin(I o) const { return std::max<I>(o * stride - before, 0); }
  GLIA_HOST_DEVICE constexpr I end(I o) const { return std::min(o * stride - before + kernel, in); }
  GLIA_HOST_DEVICE constexpr I padded_length(I o) const {
    return std::min(o * stride - before + kernel, in + after) - (o * stride - before);
  }
  // Windows [first(i), last(i)) cover input i.
  GLIA_HOST_DEVICE constexpr I first(I i) const { return std::max<I>((i + before - kernel + stride) / stride, 0); }
  GLIA_HOST_DEVICE constexpr I last(I i) const { return std::min((i + before) / stride + 1, out); }
};
using PoolAxis = PoolAxisOf<int64_t>;

template <class I>
struct PoolGeometryOf {
  I n, c;
  PoolAxisOf<I> rows, columns;
  Shape output() const { return {n, rows.out, columns.out, c}; }
};
using PoolGeometry = PoolGeometryOf<int64_t>;

// Throws naming `op` for a shape, kernel, stride or padding that makes no sense.
PoolGeometry pool_geometry(const char* op, const Shape& x, const std::array<int64_t, 2>& kernel,
                           const std::array<int64_t, 2>& stride, const std::array<int64_t, 4>& pad, bool ceil_mode);
template <class Op>
PoolGeometry pool_geometry(const Op& op, const Shape& x) {
  return pool_geometry(Op::forward.name, x, op.kernel, op.stride, op.pad, op.ceil_mode);
}

// What AvgPool2d divides window (p, q) by.
template <class I>
GLIA_HOST_DEVICE constexpr I avg_pool_count(bool count_include_pad, const PoolGeometryOf<I>& g, I p, I q) {
  if (count_include_pad) return g.rows.padded_length(p) * g.columns.padded_length(q);
  return (g.rows.end(p) - g.rows.begin(p)) * (g.columns.end(q) - g.columns.begin(q));
}
inline int64_t avg_pool_count(const AvgPool2d& op, const PoolGeometry& g, int64_t p, int64_t q) {
  return avg_pool_count(op.count_include_pad, g, p, q);
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
namespace emulated {
MaxPool2d::Forward max_pool2d;
MaxPool2d::Backward max_pool2d_backward;
AvgPool2d::Forward avg_pool2d;
AvgPool2d::Backward avg_pool2d_backward;
GlobalAvgPool::Forward global_avg_pool;
GlobalAvgPool::Backward global_avg_pool_backward;
}  // namespace emulated
namespace cuda {
MaxPool2d::Forward max_pool2d;
MaxPool2d::Backward max_pool2d_backward;
AvgPool2d::Forward avg_pool2d;
AvgPool2d::Backward avg_pool2d_backward;
GlobalAvgPool::Forward global_avg_pool;
GlobalAvgPool::Backward global_avg_pool_backward;
}  // namespace cuda

inline constexpr Variants<MaxPool2d::Forward> MaxPool2d::forward{.name = "max_pool2d",
                                                                 .reference = reference::max_pool2d,
                                                                 .cpu = cpu::max_pool2d,
                                                                 .emulated = emulated::max_pool2d,
                                                                 .cuda = GLIA_CUDA(cuda::max_pool2d)};
inline constexpr Variants<MaxPool2d::Backward> MaxPool2d::backward{.name = "max_pool2d_backward",
                                                                   .reference = reference::max_pool2d_backward,
                                                                   .cpu = cpu::max_pool2d_backward,
                                                                   .emulated = emulated::max_pool2d_backward,
                                                                   .cuda = GLIA_CUDA(cuda::max_pool2d_backward)};
inline constexpr Variants<AvgPool2d::Forward> AvgPool2d::forward{.name = "avg_pool2d",
                                                                 .reference = reference::avg_pool2d,
                                                                 .cpu = cpu::avg_pool2d,
                                                                 .emulated = emulated::avg_pool2d,
                                                                 .cuda = GLIA_CUDA(cuda::avg_pool2d)};
inline constexpr Variants<AvgPool2d::Backward> AvgPool2d::backward{.name = "avg_pool2d_backward",
                                                                   .reference = reference::avg_pool2d_backward,
                                                                   .cpu = cpu::avg_pool2d_backward,
                                                                   .emulated = emulated::avg_pool2d_backward,
                                                                   .cuda = GLIA_CUDA(cuda::avg_pool2d_backward)};
inline constexpr Variants<GlobalAvgPool::Forward> GlobalAvgPool::forward{.name = "global_avg_pool",
                                                                         .reference = reference::global_avg_pool,
                                                                         .cpu = cpu::global_avg_pool,
                                                                         .emulated = emulated::global_avg_pool,
                                                                         .cuda = GLIA_CUDA(cuda::global_avg_pool)};
inline constexpr Variants<GlobalAvgPool::Backward> GlobalAvgPool::backward{.name = "global_avg_pool_backward",
                                                                           .reference = reference::global_avg_pool_backward,
                                                                           .cpu = cpu::global_avg_pool_backward,
                                                                           .emulated = emulated::global_avg_pool_backward,
                                                                           .cuda = GLIA_CUDA(cuda::global_avg_pool_backward)};

}  // namespace glia
