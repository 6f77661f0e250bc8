#pragma once
// What the kernels of index.h share.
#include <cstdio>

#include "kernels/cuda/launch.cuh"

namespace glia::GPU_NS {

constexpr int index_threads = 256;

// An axis seen from outside and inside: x is (outer, size, inner).
struct AxisView {
  int64_t outer, size, inner;
  AxisView(const Shape& x, int given_axis) {
    const int axis = normalize_axis(given_axis, x.rank(), "index");
    outer = x.product(0, axis);
    size = x[axis];
    inner = x.product(axis + 1, x.rank());
  }
};

// Ends the kernel, and with it the use of the device: the host learns of it when it next waits.
#if GPU_EMULATED
[[noreturn]] inline void refuse_index(int64_t index, int64_t size) {
  gpu::emulator::fail("index %lld, want 0 to %lld", static_cast<long long>(index), static_cast<long long>(size - 1));
}
#else
__device__ __noinline__ inline void refuse_index(int64_t index, int64_t size) {
  printf("index %lld, want 0 to %lld\n", static_cast<long long>(index), static_cast<long long>(size - 1));
  __trap();
}
#endif

__device__ inline int64_t checked_index(int64_t index, int64_t size) {
  if (uint64_t(index) >= uint64_t(size)) refuse_index(index, size);
  return index;
}

// Blocks for a thread each of `count` pieces of work, of which there may be 2^31 - 1.
inline int64_t index_grid(int64_t count) {
  GLIA_CHECK(count <= INT32_MAX, "{} elements, want fewer than 2^31 in one launch", count);
  return divide_up(count, index_threads);
}
__device__ inline unsigned index_thread() { return blockIdx.x * index_threads + threadIdx.x; }

// y = base, or 0 where that is absent; then y[.., index[i], ..] += src[.., i, ..], or index[.., i, ..] where `per_element`. `axis` is y's.
void add_at(const AxisView& axis, const Tensor& index, bool per_element, const Tensor& src, const Tensor& base, const Tensor& y);
// y[.., i, ..] = x[.., index[i], ..], or index[.., i, ..] where `per_element`, of any type. `axis` is x's.
void take_at(const AxisView& axis, const Tensor& x, const Tensor& index, bool per_element, const Tensor& y);

}  // namespace glia::GPU_NS
