#pragma once
// Sorting of 64-bit keys whose high half orders and whose low half is a place; kernels/sort_keys.h has the same on the host.
#include "kernels/cuda/launch.cuh"

namespace glia::GPU_NS {

using Key = unsigned long long;

__device__ inline Key make_key(unsigned order, unsigned place) { return Key(order) << 32 | place; }
__device__ inline unsigned order_of(Key key) { return unsigned(key >> 32); }
__device__ inline unsigned place_of(Key key) { return unsigned(key); }

inline Key* keys_of(const Tensor& t) { return reinterpret_cast<Key*>(t.device_data<int64_t>()); }

// Sorts each row of keys (rows, n), an int64 tensor, by the lowest `order_bits` of the high half; equal ones keep their order. `keys` is
// scratch afterwards.
Tensor radix_sort(const Tensor& keys, int order_bits);

}  // namespace glia::GPU_NS
