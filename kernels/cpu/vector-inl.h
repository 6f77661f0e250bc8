// Per SIMD target: loops over float arrays by whole vectors, whatever the length, and stores past the caches for large outputs.
// Include after <hwy/highway.h> in a file that foreach_target compiles.
#if defined(GLIA_KERNELS_CPU_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GLIA_KERNELS_CPU_VECTOR_INL_H_
#undef GLIA_KERNELS_CPU_VECTOR_INL_H_
#else
#define GLIA_KERNELS_CPU_VECTOR_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "tensor/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using VectorTag = hn::ScalableTag<float>;
using Vector = hn::Vec<VectorTag>;

HWY_INLINE int64_t vector_lanes() { return static_cast<int64_t>(hn::Lanes(VectorTag())); }
HWY_INLINE Vector load(const float* from) { return hn::LoadU(VectorTag(), from); }
HWY_INLINE Vector splat(double value) { return hn::Set(VectorTag(), static_cast<float>(value)); }

// A store that goes around the caches saves reading the line first. It pays where the output will have left the caches before it
// is read: beyond the size of a last-level cache's share. Needs aligned vectors.
constexpr int64_t stream_bytes = int64_t(24) << 20;
HWY_INLINE bool worth_streaming(const float* to, int64_t count) {
  return count * 4 >= stream_bytes && reinterpret_cast<uintptr_t>(to) % 64 == 0;
}

template <bool streaming>
HWY_INLINE void store(Vector v, float* to) {
  if constexpr (streaming) {
    hn::Stream(v, VectorTag(), to);
  } else {
    hn::StoreU(v, VectorTag(), to);
  }
}

// The first `count` lanes, count < lanes; other lanes 0, memory beyond untouched.
HWY_INLINE Vector load_part(const float* from, int64_t count) {
#if HWY_TARGET <= HWY_AVX2
  return hn::MaskedLoad(hn::FirstN(VectorTag(), static_cast<size_t>(count)), VectorTag(), from);
#else  // masks are emulated by whole accesses
  HWY_ALIGN float lanes[HWY_MAX_BYTES / sizeof(float)] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = from[i];
  return hn::Load(VectorTag(), lanes);
#endif
}
HWY_INLINE void store_part(Vector v, float* to, int64_t count) {
#if HWY_TARGET <= HWY_AVX2
  hn::BlendedStore(v, hn::FirstN(VectorTag(), static_cast<size_t>(count)), VectorTag(), to);
#else
  HWY_ALIGN float lanes[HWY_MAX_BYTES / sizeof(float)] = {};
  hn::Store(v, VectorTag(), lanes);
  for (int64_t i = 0; i < count; ++i) to[i] = lanes[i];
#endif
}

// Calls f(offset, load, store) for the vectors of a span; the last may be part of one. load(p) and store(v, p) keep inside it.
template <class F>
HWY_INLINE void for_each_vector(int64_t n, const F& f) {
  const int64_t lanes = vector_lanes();
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    f(
        i, [](const float* p) HWY_ATTR { return load(p); }, [](Vector v, float* p) HWY_ATTR { store<false>(v, p); });
  if (i < n)
    f(
        i, [n, i](const float* p) HWY_ATTR { return load_part(p, n - i); },
        [n, i](Vector v, float* p) HWY_ATTR { store_part(v, p, n - i); });
}

// Sum of f(in[i]...) over a span, in a fixed order.
template <class F, class... In>
HWY_INLINE float sum_span(int64_t n, const F& f, const In*... in) {
  const int64_t lanes = vector_lanes();
  Vector sums[4] = {splat(0), splat(0), splat(0), splat(0)};
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes)
    for (int64_t j = 0; j < 4; ++j) sums[j] = hn::Add(sums[j], f(load(in + i + j * lanes)...));
  for (; i + lanes <= n; i += lanes) sums[0] = hn::Add(sums[0], f(load(in + i)...));
  if (i < n)
    sums[1] =
        hn::Add(sums[1], hn::IfThenElseZero(hn::FirstN(VectorTag(), static_cast<size_t>(n - i)), f(load_part(in + i, n - i)...)));
  return hn::GetLane(hn::SumOfLanes(VectorTag(), hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]))));
}

// to[i] = f(in[i]...) for vectors.
template <bool streaming, class F, class... In>
HWY_INLINE void map_span(int64_t n, float* to, const F& f, const In*... in) {
  const int64_t lanes = vector_lanes();
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const Vector a = f(load(in + i)...), b = f(load(in + i + lanes)...);
    store<streaming>(a, to + i);
    store<streaming>(b, to + i + lanes);
  }
  for (; i + lanes <= n; i += lanes) store<streaming>(f(load(in + i)...), to + i);
  if (i < n) store_part(f(load_part(in + i, n - i)...), to + i, n - i);
}

// The same over a whole array, in parallel.
template <class F, class... In>
void map(int64_t n, float* to, const F& f, const In*... in) {
  constexpr int64_t grain = 1 << 15;
  if (worth_streaming(to, n)) {
    parallel_for(n, grain, [&](int64_t begin, int64_t end) {
      map_span<true>(end - begin, to + begin, f, (in + begin)...);
      hwy::FlushStream();
    });
  } else {
    parallel_for(n, grain, [&](int64_t begin, int64_t end) { map_span<false>(end - begin, to + begin, f, (in + begin)...); });
  }
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
