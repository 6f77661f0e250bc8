#include "kernels/pool.h"

namespace glia {
namespace {

PoolAxis pool_axis(const char* op, const Shape& x, int axis, int64_t kernel, int64_t stride, int64_t before, int64_t after,
                   bool ceil_mode) {
  const int64_t in = x[axis];
  GLIA_CHECK(kernel >= 1 && stride >= 1, "{}: kernel {} and stride {}, want at least 1", op, kernel, stride);
  GLIA_CHECK(before >= 0 && after >= 0 && before < kernel && after < kernel, "{}: padding ({}, {}) with kernel {}, want less", op,
             before, after, kernel);
  GLIA_CHECK(in >= 1 && in + before + after >= kernel, "{}: x is {}, smaller than the window of {} with padding ({}, {})", op, x,
             kernel, before, after);
  const int64_t room = in + before + after - kernel;
  int64_t out = (ceil_mode ? (room + stride - 1) / stride : room / stride) + 1;
  if (ceil_mode && (out - 1) * stride >= in + before) --out;
  return {in, out, kernel, stride, before, after};
}

}  // namespace

PoolGeometry pool_geometry(const char* op, const Shape& x, const std::array<int64_t, 2>& kernel,
                           const std::array<int64_t, 2>& stride, const std::array<int64_t, 4>& pad, bool ceil_mode) {
  GLIA_CHECK(x.rank() == 4, "{}: x is {}, want (N, H, W, C)", op, x);
  return {x[0], x[3], pool_axis(op, x, 1, kernel[0], stride[0], pad[0], pad[2], ceil_mode),
          pool_axis(op, x, 2, kernel[1], stride[1], pad[1], pad[3], ceil_mode)};
}

TensorSpec MaxPool2d::infer(const Tensor& x) const { return {pool_geometry(*this, x.shape()).output(), x.dtype()}; }
TensorSpec AvgPool2d::infer(const Tensor& x) const { return {pool_geometry(*this, x.shape()).output(), x.dtype()}; }

TensorSpec GlobalAvgPool::infer(const Tensor& x) const {
  GLIA_CHECK(x.rank() == 4 && x.dim(1) * x.dim(2) >= 1, "global_avg_pool: x is {}, want (N, H, W, C) with H, W >= 1", x.shape());
  return {{x.dim(0), 1, 1, x.dim(3)}, x.dtype()};
}

}  // namespace glia
