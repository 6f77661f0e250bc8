// Per SIMD target: copies of short runs of bytes.
#if defined(GLIA_KERNELS_CPU_COPY_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GLIA_KERNELS_CPU_COPY_INL_H_
#undef GLIA_KERNELS_CPU_COPY_INL_H_
#else
#define GLIA_KERNELS_CPU_COPY_INL_H_
#endif

#include <hwy/highway.h>

#include "kernels/cpu/vector-inl.h"
#include "tensor/tensor.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t bytes_per_chunk = 1 << 17;

// Faster than memcpy's call for the few dozen to few hundred bytes of a pixel.
template <bool streaming = false>
HWY_INLINE void copy_run(std::byte* HWY_RESTRICT to, const std::byte* HWY_RESTRICT from, size_t bytes) {
  const hn::ScalableTag<uint8_t> d;
  const size_t lanes = hn::Lanes(d);
  auto* u = reinterpret_cast<uint8_t*>(to);
  const auto* v = reinterpret_cast<const uint8_t*>(from);
  if constexpr (streaming) {  // the caller has seen to alignment
    for (size_t i = 0; i < bytes; i += lanes) hn::Stream(hn::LoadU(d, v + i), d, u + i);
  } else {
    if (bytes < lanes || bytes > 4096) return copy_bytes(to, from, bytes);
    for (size_t i = 0; i + lanes <= bytes; i += lanes) hn::StoreU(hn::LoadU(d, v + i), d, u + i);
    hn::StoreU(hn::LoadU(d, v + bytes - lanes), d, u + bytes - lanes);  // the last ones, overlapping
  }
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
