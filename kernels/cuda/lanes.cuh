#pragma once
// Neighbouring elements that one thread moves in one access: up to 16 bytes.
#include "kernels/cuda/launch.cuh"

namespace glia::GPU_NS {

template <class T, int N>
struct alignas(sizeof(T) * N) Lanes {
  T v[N];
};

template <int N>
__device__ inline Lanes<float, N> filled(float value) {
  Lanes<float, N> all;
  GPU_UNROLL
  for (int i = 0; i < N; ++i) all.v[i] = value;
  return all;
}

template <class T, int N>
Lanes<T, N>* lanes_of(const Tensor& t) { return reinterpret_cast<Lanes<T, N>*>(t.device_data<T>()); }

inline bool aligned_to(size_t bytes, const void* p) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; }

// Calls f with std::integral_constant of the lanes of floats a thread takes: 4 where rows of c floats and the addresses of all the tensors
// (absent ones aside) allow it, else 1.
template <class F, class... Tensors>
void with_float_lanes(int64_t c, F&& f, const Tensors&... tensors) {
  if (c % 4 == 0 && (aligned_to(16, tensors.raw()) && ...)) {
    f(std::integral_constant<int, 4>{});
  } else {
    f(std::integral_constant<int, 1>{});
  }
}

}  // namespace glia::GPU_NS
