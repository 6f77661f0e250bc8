#pragma once
// Element types. float16 and bfloat16 are storage only: convert to compute.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace glia {

enum class DType : uint8_t { float32, float64, int32, int64, uint8, boolean, float16, bfloat16 };

// IEEE binary16 and bfloat16 bits. Conversions round to nearest even.
struct Half {
  uint16_t bits = 0;
  Half() = default;
  explicit Half(float value);
  explicit operator float() const;
};

struct BFloat16 {
  uint16_t bits = 0;
  BFloat16() = default;
  explicit BFloat16(float value);
  explicit operator float() const { return std::bit_cast<float>(uint32_t(bits) << 16); }
};

size_t size_of(DType dtype);            // bytes of one element
std::string_view name_of(DType dtype);  // "float32", ...
inline bool is_floating(DType d) {
  return d == DType::float32 || d == DType::float64 || d == DType::float16 || d == DType::bfloat16;
}

template <class T>
inline constexpr DType dtype_of = [] {
  static_assert(sizeof(T) == 0, "no DType for this C++ type");
  return DType::float32;
}();
template <> inline constexpr DType dtype_of<float> = DType::float32;
template <> inline constexpr DType dtype_of<double> = DType::float64;
template <> inline constexpr DType dtype_of<int32_t> = DType::int32;
template <> inline constexpr DType dtype_of<int64_t> = DType::int64;
template <> inline constexpr DType dtype_of<uint8_t> = DType::uint8;
template <> inline constexpr DType dtype_of<bool> = DType::boolean;
template <> inline constexpr DType dtype_of<Half> = DType::float16;
template <> inline constexpr DType dtype_of<BFloat16> = DType::bfloat16;

}  // namespace glia
