#pragma once
// Division by a number that is known at the launch: Granlund and Montgomery, "Division by invariant integers using
// multiplication" (1994), for numbers below 2^31. Three instructions without a branch, where the compiler's division takes some
// twenty, and keeps loads of neighbouring iterations from being under way together when it is of 64 bits.
#include "kernels/cuda/launch.cuh"

namespace glia::GPU_NS {

class Divider {
 public:
  Divider() = default;
  explicit Divider(int64_t divisor) : divisor_(uint32_t(divisor)) {
    GLIA_CHECK(divisor >= 1 && divisor <= INT32_MAX, "divider: {}, want 1 to 2^31 - 1", divisor);
    while ((uint64_t(1) << shift_) < divisor_) ++shift_;
    factor_ = uint32_t((((uint64_t(1) << shift_) - divisor_) << 32) / divisor_ + 1);
  }
  GLIA_HOST_DEVICE uint32_t divisor() const { return divisor_; }
  __device__ uint32_t divide(uint32_t n) const { return (__umulhi(factor_, n) + n) >> shift_; }
  // n becomes the quotient; gives the rest.
  __device__ uint32_t split(uint32_t& n) const {
    const uint32_t quotient = divide(n), rest = n - quotient * divisor_;
    n = quotient;
    return rest;
  }

 private:
  uint32_t divisor_ = 1, factor_ = 1, shift_ = 0;
};

// What kernels that count in 31 bits are launched for.
inline uint32_t count31(int64_t n) {
  GLIA_CHECK(n <= INT32_MAX, "{} pieces of work, want at most 2^31 - 1 in one launch", n);
  return uint32_t(n);
}

}  // namespace glia::GPU_NS
