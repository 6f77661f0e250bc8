#pragma once
// Element-wise kernels: out[i] = f(in0[i], in1[i], ...) over float tensors of one size, in 16-byte accesses where all addresses are
// multiples of 16, with a scalar tail.
#include "kernels/cuda/launch.cuh"

namespace glia::GPU_NS {

constexpr int elementwise_threads = 256;
constexpr int64_t elementwise_blocks = 132 * 16;  // enough to fill any device; the loop strides over the rest

template <class F, class... In>
__global__ void __launch_bounds__(elementwise_threads) map_kernel(F f, int64_t count, float* out, const In*... in) {
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) out[i] = f(in[i]...);
}

template <class F, class... In>
__global__ void __launch_bounds__(elementwise_threads)
    map4_kernel(F f, int64_t count, float* out, const In*... in) {
  const int64_t stride = int64_t(gridDim.x) * blockDim.x, quads = count / 4;
  const int64_t first = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  for (int64_t i = first; i < quads; i += stride) {
    const auto quad = [&](auto... v) {
      return make_float4(f(v.x...), f(v.y...), f(v.z...), f(v.w...));
    };
    reinterpret_cast<float4*>(out)[i] = quad(reinterpret_cast<const float4*>(in)[i]...);
  }
  if (first < count % 4) {
    const int64_t i = quads * 4 + first;
    out[i] = f(in[i]...);
  }
}

// `float` for each of a pack.
template <class>
struct FloatFor {
  using type = float;
};

inline bool aligned16(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// out = f(in...), element by element. `f` is a functor with a __device__ operator(), `in` float tensors of out's size; out may be one of them.
template <class F, class... In>
void map_elements(const F& f, const Tensor& out, const In&... in) {
  const int64_t n = out.size();
  if (n == 0) return;
  float* const to = out.device_data<float>();
  const bool vectors = aligned16(to) && (aligned16(in.template device_data<float>()) && ...);
  const int64_t work = vectors ? divide_up(n, 4) : n;
  const gpu::LaunchShape shape(unsigned(std::min(divide_up(work, elementwise_threads), elementwise_blocks)), elementwise_threads);
  if (vectors) {
    launch(shape, map4_kernel<F, typename FloatFor<In>::type...>, f, n, to, in.template device_data<float>()...);
  } else {
    launch(shape, map_kernel<F, typename FloatFor<In>::type...>, f, n, to, in.template device_data<float>()...);
  }
}

}  // namespace glia::GPU_NS
