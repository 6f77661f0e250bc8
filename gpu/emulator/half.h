#pragma once
// float16 and bfloat16: storage types whose arithmetic is done in float and rounded once, as the device does it.
#include <math.h>

#include <bit>
#include <concepts>
#include <cstdint>

#include "gpu/emulator/types.h"

namespace gpu::emulator {

uint16_t float_to_half(float value);  // to nearest, ties to even
float half_to_float(uint16_t bits);

inline uint16_t float_to_bfloat16(float value) {  // to nearest, ties to even
  const auto u = std::bit_cast<uint32_t>(value);
  if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;  // CUDA's one NaN
  return static_cast<uint16_t>((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}
// a * b + c, rounded to odd: rounding the result again, to 16 bits, gives what one rounding would have given.
float fma_to_odd(float a, float b, float c);
inline float bfloat16_to_float(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

}  // namespace gpu::emulator

namespace gpu::cuda_names {

struct __half {
  uint16_t bits;
  __half() = default;
  __half(float x) : bits(emulator::float_to_half(x)) {}
  __half(double x) : bits(emulator::float_to_half(static_cast<float>(x))) {}
  template <std::integral I>
  __half(I x) : bits(emulator::float_to_half(static_cast<float>(x))) {}
  operator float() const { return emulator::half_to_float(bits); }
};
struct alignas(4) __half2 {
  __half x, y;
};
struct __nv_bfloat16 {
  uint16_t bits;
  __nv_bfloat16() = default;
  __nv_bfloat16(float x) : bits(emulator::float_to_bfloat16(x)) {}
  __nv_bfloat16(double x) : bits(emulator::float_to_bfloat16(static_cast<float>(x))) {}
  template <std::integral I>
  __nv_bfloat16(I x) : bits(emulator::float_to_bfloat16(static_cast<float>(x))) {}
  operator float() const { return emulator::bfloat16_to_float(bits); }
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

// ---- conversions --------------------------------------------------------------------------------------------------------------

inline float __half2float(__half a) { return a; }
inline __half __float2half(float a) { return a; }
inline __half __float2half_rn(float a) { return a; }
inline unsigned short __half_as_ushort(__half a) { return a.bits; }
inline __half __ushort_as_half(unsigned short bits) { return std::bit_cast<__half>(bits); }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 __half2half2(__half a) { return {a, a}; }
inline __half2 __float2half2_rn(float a) { return {a, a}; }
inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline __half2 __float22half2_rn(float2 a) { return {a.x, a.y}; }
inline float2 __half22float2(__half2 a) { return {a.x, a.y}; }
inline __half __low2half(__half2 a) { return a.x; }
inline __half __high2half(__half2 a) { return a.y; }
inline float __low2float(__half2 a) { return a.x; }
inline float __high2float(__half2 a) { return a.y; }

inline float __bfloat162float(__nv_bfloat16 a) { return a; }
inline __nv_bfloat16 __float2bfloat16(float a) { return a; }
inline __nv_bfloat16 __float2bfloat16_rn(float a) { return a; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 a) { return a.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return std::bit_cast<__nv_bfloat16>(bits); }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 a) { return {a, a}; }
inline __nv_bfloat162 __float2bfloat162_rn(float a) { return {a, a}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 a) { return {a.x, a.y}; }
inline float2 __bfloat1622float2(__nv_bfloat162 a) { return {a.x, a.y}; }
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 a) { return a.x; }
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 a) { return a.y; }
inline float __low2float(__nv_bfloat162 a) { return a.x; }
inline float __high2float(__nv_bfloat162 a) { return a.y; }

// ---- arithmetic ---------------------------------------------------------------------------------------------------------------

// The two types offer the same functions; T is one of them, and Pair the type of two.
template <class T>
concept Half = std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>;
template <class T>
concept HalfPair = std::is_same_v<T, __half2> || std::is_same_v<T, __nv_bfloat162>;

// clang-format off
template <Half T> T operator+(T a, T b) { return static_cast<float>(a) + static_cast<float>(b); }
template <Half T> T operator-(T a, T b) { return static_cast<float>(a) - static_cast<float>(b); }
template <Half T> T operator*(T a, T b) { return static_cast<float>(a) * static_cast<float>(b); }
template <Half T> T operator/(T a, T b) { return static_cast<float>(a) / static_cast<float>(b); }
template <Half T> T operator-(T a) { return -static_cast<float>(a); }
template <Half T> T& operator+=(T& a, T b) { return a = a + b; }
template <Half T> T& operator-=(T& a, T b) { return a = a - b; }
template <Half T> T& operator*=(T& a, T b) { return a = a * b; }
template <Half T> bool operator==(T a, T b) { return static_cast<float>(a) == static_cast<float>(b); }
template <Half T> bool operator!=(T a, T b) { return static_cast<float>(a) != static_cast<float>(b); }
template <Half T> bool operator<(T a, T b) { return static_cast<float>(a) < static_cast<float>(b); }
template <Half T> bool operator>(T a, T b) { return static_cast<float>(a) > static_cast<float>(b); }
template <Half T> bool operator<=(T a, T b) { return static_cast<float>(a) <= static_cast<float>(b); }
template <Half T> bool operator>=(T a, T b) { return static_cast<float>(a) >= static_cast<float>(b); }
template <Half T> T __hadd(T a, T b) { return a + b; }
template <Half T> T __hsub(T a, T b) { return a - b; }
template <Half T> T __hmul(T a, T b) { return a * b; }
template <Half T> T __hdiv(T a, T b) { return a / b; }
template <Half T> T __hneg(T a) { return -a; }
template <Half T> T __habs(T a) { return fabsf(a); }
template <Half T> T __hfma(T a, T b, T c) { return emulator::fma_to_odd(a, b, c); }
template <Half T> T __hmin(T a, T b) { return fminf(a, b); }
template <Half T> T __hmax(T a, T b) { return fmaxf(a, b); }
template <Half T> bool __heq(T a, T b) { return a == b; }
template <Half T> bool __hlt(T a, T b) { return a < b; }
template <Half T> bool __hgt(T a, T b) { return a > b; }
template <Half T> bool __hle(T a, T b) { return a <= b; }
template <Half T> bool __hge(T a, T b) { return a >= b; }
template <Half T> bool __hisnan(T a) { return isnan(static_cast<float>(a)); }
template <HalfPair P> P operator+(P a, P b) { return {a.x + b.x, a.y + b.y}; }
template <HalfPair P> P operator-(P a, P b) { return {a.x - b.x, a.y - b.y}; }
template <HalfPair P> P operator*(P a, P b) { return {a.x * b.x, a.y * b.y}; }
template <HalfPair P> P __hadd2(P a, P b) { return a + b; }
template <HalfPair P> P __hsub2(P a, P b) { return a - b; }
template <HalfPair P> P __hmul2(P a, P b) { return a * b; }
template <HalfPair P> P __hfma2(P a, P b, P c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; }
template <HalfPair P> P __hmin2(P a, P b) { return {__hmin(a.x, b.x), __hmin(a.y, b.y)}; }
template <HalfPair P> P __hmax2(P a, P b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }
// clang-format on

}  // namespace gpu::cuda_names
