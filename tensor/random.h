#pragma once
// Random numbers as a pure function of (seed, stream, counter): Philox4x32-10, Salmon et al., "Parallel random numbers: as
// easy as 1, 2, 3" (SC 2011). Nothing to save at a checkpoint but the numbers that name the draw.
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace glia {

class Philox {
 public:
  constexpr Philox(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}

  // Four independent 32-bit words for each counter.
  constexpr std::array<uint32_t, 4> words(uint64_t counter) const {
    std::array<uint32_t, 4> x{uint32_t(counter), uint32_t(counter >> 32), uint32_t(stream_), uint32_t(stream_ >> 32)};
    uint32_t k0 = uint32_t(seed_), k1 = uint32_t(seed_ >> 32);
    for (int round = 0; round < 10; ++round) {
      const uint64_t a = uint64_t(0xD2511F53u) * x[0], b = uint64_t(0xCD9E8D57u) * x[2];
      x = {uint32_t(b >> 32) ^ x[1] ^ k0, uint32_t(b), uint32_t(a >> 32) ^ x[3] ^ k1, uint32_t(a)};
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    return x;
  }

  uint64_t bits(uint64_t i) const {  // 64 random bits
    const auto w = words(i);
    return uint64_t(w[0]) << 32 | w[1];
  }
  // Number i of a sequence, uniform in [0, 1), with 24 bits (exact in float).
  double uniform(uint64_t i) const { return double(words(i >> 2)[i & 3] >> 8) * 0x1p-24; }
  double uniform(uint64_t i, double low, double high) const { return low + (high - low) * uniform(i); }
  // Uniform integer in [0, n), n >= 1.
  uint64_t below(uint64_t i, uint64_t n) const {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(bits(i)) * n) >> 64);
  }
  // Standard normal, Box-Muller.
  double normal(uint64_t i) const {
    const auto w = words(i >> 1);
    const size_t j = (i & 1) * 2;
    const double u = (double(w[j]) + 1.0) * 0x1p-32, v = double(w[j + 1]) * 0x1p-32;
    return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
  }

 private:
  uint64_t seed_, stream_;
};

// A generator that counts for its user: for host code that draws an unknown number of values.
class Random {
 public:
  explicit Random(uint64_t seed, uint64_t stream = 0) : philox_(seed, stream) {}
  double uniform() { return double(philox_.words(counter_++)[0]) * 0x1p-32; }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  uint64_t below(uint64_t n) { return philox_.below(counter_++, n); }
  double normal() { return philox_.normal(2 * counter_++); }

 private:
  Philox philox_;
  uint64_t counter_ = 0;
};

}  // namespace glia
