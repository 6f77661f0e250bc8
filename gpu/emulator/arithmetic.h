#pragma once
// CUDA's arithmetic functions. Those that <math.h> has (expf, fmaf, sqrtf, isnan, sincosf ...) come from there; the fast
// approximations are exact here, so compare with a GPU within their documented error.
#include <math.h>

#include <bit>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace gpu::cuda_names {

// ---- bits ---------------------------------------------------------------------------------------------------------------------

inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline unsigned __brev(unsigned x) {
  x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
  x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
  x = (x >> 4 & 0x0f0f0f0fu) | (x & 0x0f0f0f0fu) << 4;
  return __builtin_bswap32(x);
}
inline unsigned long long __brevll(unsigned long long x) {
  return static_cast<unsigned long long>(__brev(static_cast<unsigned>(x))) << 32 | __brev(static_cast<unsigned>(x >> 32));
}
// The upper (l) or lower (r) word of high:low shifted by shift % 32.
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(((static_cast<uint64_t>(high) << 32 | low) << (shift & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((static_cast<uint64_t>(high) << 32 | low) >> (shift & 31));
}
// Byte i of the result is byte (selector >> 4i & 7) of y:x; bit 3 of a selector repeats that byte's sign instead.
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t both = static_cast<uint64_t>(y) << 32 | x;
  unsigned result = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned pick = selector >> (4 * i);
    unsigned byte = static_cast<unsigned>(both >> (8 * (pick & 7))) & 0xffu;
    if (pick & 8) byte = byte & 0x80u ? 0xffu : 0u;
    result |= byte << (8 * i);
  }
  return result;
}

// ---- integers -----------------------------------------------------------------------------------------------------------------

inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<int64_t>(a) * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}

// min and max of two types that CUDA has an overload for, and of no others: both integers of one size, or both floating. As
// fminf and fmaxf do, they ignore a NaN if the other is a number.
template <class T>
using Promoted = decltype(+T{});
template <class A, class B>
concept MinMaxPair = (std::integral<A> && std::integral<B> && sizeof(Promoted<A>) == sizeof(Promoted<B>)) ||
                     (std::floating_point<A> && std::floating_point<B>);
template <class A, class B>
  requires MinMaxPair<A, B>
constexpr auto min(A a_, B b_) {
  using T = std::common_type_t<Promoted<A>, Promoted<B>>;
  const T a = static_cast<T>(a_), b = static_cast<T>(b_);
  return b < a || a != a ? b : a;
}
template <class A, class B>
  requires MinMaxPair<A, B>
constexpr auto max(A a_, B b_) {
  using T = std::common_type_t<Promoted<A>, Promoted<B>>;
  const T a = static_cast<T>(a_), b = static_cast<T>(b_);
  return a < b || a != a ? b : a;
}

// ---- rounding to integers: to nearest even, towards zero, down, up ------------------------------------------------------------

namespace detail {
template <class T>
T saturate(double x) {  // conversions clamp, and turn NaN into zero
  if (x != x) return 0;
  if (x <= static_cast<double>(std::numeric_limits<T>::min())) return std::numeric_limits<T>::min();
  if (x >= static_cast<double>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
  return static_cast<T>(x);
}
}  // namespace detail
inline int __float2int_rn(float x) { return detail::saturate<int>(nearbyint(x)); }
inline int __float2int_rz(float x) { return detail::saturate<int>(trunc(x)); }
inline int __float2int_rd(float x) { return detail::saturate<int>(floor(x)); }
inline int __float2int_ru(float x) { return detail::saturate<int>(ceil(x)); }
inline unsigned __float2uint_rn(float x) { return detail::saturate<unsigned>(nearbyint(x)); }
inline unsigned __float2uint_rz(float x) { return detail::saturate<unsigned>(trunc(x)); }
inline unsigned __float2uint_rd(float x) { return detail::saturate<unsigned>(floor(x)); }
inline unsigned __float2uint_ru(float x) { return detail::saturate<unsigned>(ceil(x)); }
inline long long __float2ll_rn(float x) { return detail::saturate<long long>(nearbyint(x)); }
inline long long __float2ll_rz(float x) { return detail::saturate<long long>(trunc(x)); }
inline int __double2int_rn(double x) { return detail::saturate<int>(nearbyint(x)); }
inline int __double2int_rz(double x) { return detail::saturate<int>(trunc(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __ll2float_rn(long long x) { return static_cast<float>(x); }
inline float __ull2float_rn(unsigned long long x) { return static_cast<float>(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }

// ---- floating point -----------------------------------------------------------------------------------------------------------

// One rounding each, never contracted into a fused multiply-add.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }

inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }  // NaN gives 0
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __frsqrt_rn(float x) { return static_cast<float>(1.0 / sqrt(static_cast<double>(x))); }
inline float rcbrtf(float x) { return 1.0f / cbrtf(x); }
inline float fdividef(float a, float b) { return a / b; }
inline float normcdff(float x) { return 0.5f * erfcf(-x * 0.70710678118654752f); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return powf(10.0f, x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline void __sincosf(float x, float* sine, float* cosine) {
  *sine = sinf(x);
  *cosine = cosf(x);
}
inline float __tanhf(float x) { return tanhf(x); }
inline float sinpif(float x) { return static_cast<float>(sin(3.14159265358979323846 * fmod(static_cast<double>(x), 2.0))); }
inline float cospif(float x) { return static_cast<float>(cos(3.14159265358979323846 * fmod(static_cast<double>(x), 2.0))); }
inline void sincospif(float x, float* sine, float* cosine) {
  *sine = sinpif(x);
  *cosine = cospif(x);
}

}  // namespace gpu::cuda_names
