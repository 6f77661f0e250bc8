#include "data/pickle_write.h"

#include <utility>

#include "tensor/error.h"

namespace glia {

PickleWriter::PickleWriter(int protocol) : protocol_(protocol), out_{'\x80', static_cast<char>(protocol)} {}

void PickleWriter::number(uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out_ += static_cast<char>(value >> 8 * i & 0xff);
}

PickleWriter& PickleWriter::text(std::string_view utf8) {
  op('X').number(utf8.size(), 4);
  out_ += utf8;
  return *this;
}

PickleWriter& PickleWriter::bytes(std::span<const std::byte> bytes) {
  GLIA_CHECK(protocol_ >= 4, "pickle: protocol {} has no bytes of any length", protocol_);
  op('\x8e').number(bytes.size(), 8);
  out_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return *this;
}

PickleWriter& PickleWriter::integer(int64_t value) {
  if (value >= 0 && value < 256) {
    op('K').number(static_cast<uint64_t>(value), 1);
  } else if (value == static_cast<int32_t>(value)) {
    op('J').number(static_cast<uint64_t>(value), 4);
  } else {
    op('\x8a').number(8, 1);
    number(static_cast<uint64_t>(value), 8);
  }
  return *this;
}

PickleWriter& PickleWriter::global(std::string_view module, std::string_view name) {
  op('c');
  out_ += module;
  out_ += '\n';
  out_ += name;
  out_ += '\n';
  return *this;
}

PickleWriter& PickleWriter::tuple(int count) {
  GLIA_CHECK(count >= 0 && count <= 3, "pickle: a tuple of {} by count, want 0 to 3", count);
  return op(count == 0 ? ')' : static_cast<char>(0x84 + count));
}

PickleWriter& PickleWriter::tuple_of(const std::vector<int64_t>& values) {
  begin();
  for (const int64_t v : values) integer(v);
  return end_tuple();
}

std::string PickleWriter::take() { return std::exchange(out_, {}); }

std::string PickleWriter::finish() { return op('.').take(); }

}  // namespace glia
