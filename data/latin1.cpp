#include "data/latin1.h"

#include <algorithm>
#include <bit>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace glia {
namespace {

constexpr bool continues_one(char c) { return (static_cast<uint8_t>(c) & 0xc0) == 0x80; }

}  // namespace

size_t latin1_size(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return !continues_one(c); }));
}

Latin1Decoder::Latin1Decoder(std::span<std::byte> out, [[maybe_unused]] bool use_bmi2)
    : to_(out.data()), end_(out.data() + out.size()), bmi2_(false) {
#if defined(__x86_64__)
  bmi2_ = use_bmi2 && __builtin_cpu_supports("bmi2");
#endif
}

bool Latin1Decoder::feed(std::string_view piece) {
#if defined(__x86_64__)
  if (bmi2_ && !feed_by_words(piece)) return false;
#endif
  return feed_bytewise(piece);
}

bool Latin1Decoder::feed_bytewise(std::string_view piece) {
  for (const char byte : piece) {
    const unsigned c = static_cast<uint8_t>(byte);
    if (continues_one(byte) != (pending_ != 0)) return false;
    if (c == 0xc2 || c == 0xc3) {
      pending_ = c;
      continue;
    }
    if (c >= 0xc0 || to_ == end_) return false;
    *to_++ = static_cast<std::byte>(pending_ ? (pending_ & 3) << 6 | (c & 0x3f) : c);
    pending_ = 0;
  }
  return true;
}

#if defined(__x86_64__)
// In each word: 110000xx begins a code point and 10xxxxxx continues one, all others are themselves. The bytes that begin one are
// taken out by _pext_u64.
__attribute__((target("bmi2,popcnt"))) bool Latin1Decoder::feed_by_words(std::string_view& piece) {
  constexpr uint64_t every = 0x0101010101010101;
  static_assert(std::endian::native == std::endian::little);
  uint64_t bad = 0, before = pending_;
  size_t at = 0;
  for (; piece.size() - at >= 8 && end_ - to_ >= 8; at += 8) {
    uint64_t w = 0;
    std::memcpy(&w, piece.data() + at, 8);
    const uint64_t high = w & (every << 7), first = high & w << 1, next = high & ~(w << 1);
    const uint64_t first_bytes = (first >> 7) * 0xff, next_bytes = (next >> 7) * 0xff;
    const uint64_t previous = w << 8 | before;  // of each byte the one before it
    bad |= next ^ (first << 8 | (before & 0x80));
    bad |= (w ^ every * 0x02) & (every * 0x3e) & first_bytes;
    const uint64_t joined = (previous & every * 3) << 6 | (w & every * 0x3f);
    const uint64_t bytes = _pext_u64((w & ~next_bytes) | (joined & next_bytes), ~first_bytes);
    std::memcpy(to_, &bytes, 8);
    to_ += 8 - std::popcount(first);
    before = first >> 63 ? w >> 56 : 0;
  }
  pending_ = static_cast<unsigned>(before);
  piece.remove_prefix(at);
  return bad == 0;
}
#endif

}  // namespace glia
