#pragma once
// Element-wise work on float arrays of one size, bound by memory: a thread loads several packs of four elements before it stores
// the first, so that enough bytes are on their way; arrays whose addresses are no multiples of 16 go element by element.
//
// What is done is a functor with
//   static constexpr int arrays;               how many there are
//   static constexpr unsigned reads, writes;   bit k: array k is loaded, stored
//   void operator()(Pack<width> (&v)[arrays], int64_t first) const;  on [first, first + width) of each, width 1 and 4
// or, with PerElement<Functor>, `void update(float (&v)[arrays]) const` on one element of each. An array may be another one.
#include <utility>

#include "kernels/cuda/launch.cuh"

namespace glia::GPU_NS {

constexpr int elementwise_threads = 256;
constexpr int64_t elementwise_blocks = 132 * 16;  // enough to fill any device; the loop strides over the rest

inline bool aligned16(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// Floats that are loaded and stored at once.
template <int width>
struct alignas(4 * width) Pack {
  float at[width];
};

template <int width>
__device__ Pack<width> load_pack(const float* p) {
  return *reinterpret_cast<const Pack<width>*>(p);
}
template <int width>
__device__ void store_pack(float* p, const Pack<width>& v) {
  *reinterpret_cast<Pack<width>*>(p) = v;
}

template <int count>
struct Arrays {
  float* p[count];
};

template <class F>
struct PerElement {
  static constexpr int arrays = F::arrays;
  static constexpr unsigned reads = F::reads, writes = F::writes;
  F f;
  template <int width>
  __device__ void operator()(Pack<width> (&v)[arrays], int64_t) const {
    GPU_UNROLL
    for (int j = 0; j < width; ++j) {
      float e[arrays] = {};
      GPU_UNROLL
      for (int k = 0; k < arrays; ++k)
        if (reads >> k & 1) e[k] = v[k].at[j];
      f.update(e);
      GPU_UNROLL
      for (int k = 0; k < arrays; ++k)
        if (writes >> k & 1) v[k].at[j] = e[k];
    }
  }
};

template <class F>
constexpr int elementwise_batch = F::arrays > 3 ? 2 : 4;  // packs of a thread that are under way together

template <int width, class F>
__device__ void for_each_pack(const F& f, int64_t count, const Arrays<F::arrays>& arrays) {
  constexpr int batch = elementwise_batch<F>;
  constexpr int64_t tile = int64_t(batch) * elementwise_threads;
  const int64_t packs = count / width;
  for (int64_t start = blockIdx.x * tile; start < packs; start += gridDim.x * tile) {
    Pack<width> v[batch][F::arrays] = {};
    const int64_t first = start + threadIdx.x;
    GPU_UNROLL
    for (int b = 0; b < batch; ++b) {
      const int64_t i = first + b * elementwise_threads;
      if (i >= packs) continue;
      GPU_UNROLL
      for (int k = 0; k < F::arrays; ++k)
        if (F::reads >> k & 1) v[b][k] = load_pack<width>(arrays.p[k] + i * width);
    }
    GPU_UNROLL
    for (int b = 0; b < batch; ++b) {
      const int64_t i = first + b * elementwise_threads;
      if (i >= packs) continue;
      f(v[b], i * width);
      GPU_UNROLL
      for (int k = 0; k < F::arrays; ++k)
        if (F::writes >> k & 1) store_pack(arrays.p[k] + i * width, v[b][k]);
    }
  }
}

// All of the arrays by the whole grid: packs, then the elements behind the last one.
template <int width, class F>
__device__ void for_all_elements(const F& f, int64_t count, const Arrays<F::arrays>& arrays) {
  for_each_pack<width>(f, count, arrays);
  if constexpr (width > 1) {
    const int64_t i = count / width * width + threadIdx.x;
    if (blockIdx.x > 0 || i >= count) return;
    Pack<1> v[F::arrays] = {};
    GPU_UNROLL
    for (int k = 0; k < F::arrays; ++k)
      if (F::reads >> k & 1) v[k] = load_pack<1>(arrays.p[k] + i);
    f(v, i);
    GPU_UNROLL
    for (int k = 0; k < F::arrays; ++k)
      if (F::writes >> k & 1) store_pack(arrays.p[k] + i, v[k]);
  }
}

template <int width, class F>
__global__ void __launch_bounds__(elementwise_threads) elementwise_kernel(F f, int64_t count, Arrays<F::arrays> arrays) {
  for_all_elements<width>(f, count, arrays);
}

// Calls run(std::integral_constant<int, width>, shape) with what suits these arrays.
template <class F, class Run>
void with_elementwise_shape(int64_t count, const Arrays<F::arrays>& arrays, const Run& run) {
  if (count == 0) return;
  bool aligned = true;
  for (const float* p : arrays.p) aligned = aligned && aligned16(p);
  const int64_t tiles = divide_up(count, (aligned ? 4 : 1) * elementwise_batch<F> * elementwise_threads);
  const gpu::LaunchShape shape(unsigned(std::min(tiles, elementwise_blocks)), elementwise_threads);
  aligned ? run(std::integral_constant<int, 4>{}, shape) : run(std::integral_constant<int, 1>{}, shape);
}

template <class F>
void run_elementwise(const F& f, int64_t count, const Arrays<F::arrays>& arrays) {
  with_elementwise_shape<F>(count, arrays, [&]<int width>(std::integral_constant<int, width>, const gpu::LaunchShape& shape) {
    launch(shape, elementwise_kernel<width, F>, f, count, arrays);
  });
}

// Array 0 = f(array 1, array 2, ...).
template <class F, int inputs>
struct Mapped {
  static constexpr int arrays = inputs + 1;
  static constexpr unsigned reads = (1u << arrays) - 2, writes = 1;
  F f;
  __device__ void update(float (&v)[arrays]) const {
    v[0] = [&]<size_t... k>(std::index_sequence<k...>) { return f(v[k + 1]...); }
    (std::make_index_sequence<inputs>{});
  }
};

// out = f(in...), element by element. `f` is a functor with a __device__ operator(), `in` float tensors of out's size; out may be
// one of them.
template <class F, class... In>
void map_elements(const F& f, const Tensor& out, const In&... in) {
  using Work = PerElement<Mapped<F, int(sizeof...(In))>>;
  run_elementwise(Work{{f}}, out.size(), {{out.device_data<float>(), in.template device_data<float>()...}});
}

}  // namespace glia::GPU_NS
