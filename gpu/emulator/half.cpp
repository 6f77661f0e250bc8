// float16 conversions; the bit patterns are IEEE 754's.
#include "gpu/emulator/half.h"

namespace gpu::emulator {

uint16_t float_to_half(float value) {
  uint32_t u = std::bit_cast<uint32_t>(value);
  const uint32_t sign = u >> 16 & 0x8000u;
  u &= 0x7fffffffu;
  if (u > 0x7f800000u) return 0x7fff;                                  // CUDA's one NaN
  if (u >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // rounds to infinity
  if (u < 0x38800000u) {                                               // subnormal: an addition does the rounding
    const float rounded = std::bit_cast<float>(u) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(rounded) - 0x3f000000u));
  }
  u += 0xc8000fffu + (u >> 13 & 1);  // a smaller exponent bias, and half a unit less the tie's bit
  return static_cast<uint16_t>(sign | u >> 13);
}

float half_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, mantissa = bits & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

float fma_to_odd(float a, float b, float c) {
  const double product = static_cast<double>(a) * b;  // exact for factors of 16 bits
  double sum = product + c;
  const double part = sum - product, lost = (product - (sum - part)) + (c - part);
  if (isfinite(sum) && lost != 0 && (std::bit_cast<uint64_t>(sum) & 1) == 0) sum = nextafter(sum, lost > 0 ? INFINITY : -INFINITY);
  const float rounded = static_cast<float>(sum);
  if (isnan(sum) || static_cast<double>(rounded) == sum || (std::bit_cast<uint32_t>(rounded) & 1) != 0) return rounded;
  return nextafterf(rounded, static_cast<double>(rounded) < sum ? INFINITY : -INFINITY);
}

}  // namespace gpu::emulator
