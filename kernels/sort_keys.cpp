#include "kernels/sort_keys.h"

#include <algorithm>
#include <array>
#include <utility>

namespace glia {

// Long lists: three stable counting passes over 11, 11 and 10 bits of the value, from the low ones.
void sort_keys(std::span<uint64_t> keys, std::span<uint64_t> scratch) {
  constexpr size_t radix_from = 1500;
  if (keys.size() < radix_from) return std::sort(keys.begin(), keys.end());
  constexpr int digits = 3, width = 11;
  constexpr uint64_t buckets = 1 << width;
  const auto digit = [](uint64_t key, int pass) { return key >> (32 + pass * width) & (buckets - 1); };
  std::array<std::array<uint32_t, buckets>, digits> count{};
  for (const uint64_t key : keys)
    for (int pass = 0; pass < digits; ++pass) ++count[size_t(pass)][digit(key, pass)];
  uint64_t *from = keys.data(), *to = scratch.data();
  for (int pass = 0; pass < digits; ++pass) {
    auto& places = count[size_t(pass)];
    if (places[digit(from[0], pass)] == keys.size()) continue;  // one bucket holds them all
    uint32_t before = 0;
    for (uint32_t& place : places) before += std::exchange(place, before);
    for (size_t i = 0; i < keys.size(); ++i) to[places[digit(from[i], pass)]++] = from[i];
    std::swap(from, to);
  }
  if (from != keys.data()) std::copy_n(from, keys.size(), keys.data());
}

void sort_smallest_keys(std::span<uint64_t> keys, size_t k) {
  if (k == 0) return;
  if (k < keys.size()) std::nth_element(keys.begin(), keys.begin() + static_cast<std::ptrdiff_t>(k), keys.end());
  std::sort(keys.begin(), keys.begin() + static_cast<std::ptrdiff_t>(k));
}

}  // namespace glia
