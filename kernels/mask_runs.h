#pragma once
// Runs of non-zero bytes, found 64 bytes at a time: a word of 64 flags, whose edges are the set bits of flags ^ (flags << 1).
#include <bit>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace glia {

// Bit i is set where p[i] != 0.
inline uint64_t nonzero_flags(const uint8_t* p) {
#if defined(__SSE2__)
  uint64_t zero = 0;
  for (int i = 0; i < 4; ++i) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16 * i));
    zero |= uint64_t(uint32_t(_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_setzero_si128())))) << (16 * i);
  }
  return ~zero;
#else
  uint64_t flags = 0;
  for (int i = 0; i < 64; ++i) flags |= uint64_t(p[i] != 0) << i;
  return flags;
#endif
}

// Calls f(begin, end) for each run of non-zero bytes in p[0, n), in order.
template <class F>
void for_each_nonzero_run(const uint8_t* p, int64_t n, F&& f) {
  int64_t begin = 0;
  uint64_t inside = 0;  // 1 within a run
  for (int64_t base = 0; base < n; base += 64) {
    uint64_t flags = 0;
    if (base + 64 <= n) {
      flags = nonzero_flags(p + base);
    } else {
      uint8_t rest[64] = {};
      std::memcpy(rest, p + base, size_t(n - base));
      flags = nonzero_flags(rest);
    }
    uint64_t edges = flags ^ (flags << 1 | inside);
    for (; edges; edges &= edges - 1) {
      const int64_t at = base + std::countr_zero(edges);
      if (inside) {
        f(begin, at);
      } else {
        begin = at;
      }
      inside ^= 1;
    }
  }
  if (inside) f(begin, n);
}

}  // namespace glia
