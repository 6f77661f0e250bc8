#pragma once
// Bytes that stand in a text as UTF-8 of code points up to 255, as pickles of protocol 2 have the bytes of arrays; no part of the
// library's interface.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace glia {

// How many bytes such a text stands for: those of UTF-8 that continue none.
size_t latin1_size(std::string_view text);

// Decodes a text that comes in pieces. Half of a network's bytes are above 127, so a branch per byte would be mispredicted half the
// time: eight bytes at once, by BMI2's bit gathering where the processor has it.
class Latin1Decoder {
 public:
  explicit Latin1Decoder(std::span<std::byte> out, bool use_bmi2 = true);

  // False where the text is anything else, or stands for more bytes than fit.
  bool feed(std::string_view piece);
  bool done() const { return pending_ == 0 && to_ == end_; }  // the text ended where it may, and all bytes are there

 private:
  bool feed_bytewise(std::string_view piece);
  bool feed_by_words(std::string_view& piece);  // as many words as there are; the rest is left in `piece`

  std::byte *to_, *end_;
  unsigned pending_ = 0;  // the first byte of a code point whose second comes with the next piece; else 0
  bool bmi2_;
};

}  // namespace glia
