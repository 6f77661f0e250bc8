#include "data/pickle_write.h"

#include <bit>
#include <utility>

#include "data/npy.h"
#include "data/safetensors_header.h"
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
  return raw(bytes);
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

PickleWriter& PickleWriter::real(double value) {
  op('G');
  const auto bits = std::bit_cast<uint64_t>(value);
  for (int shift = 56; shift >= 0; shift -= 8) out_ += static_cast<char>(bits >> shift);  // the one big-endian thing
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

// _reconstruct(ndarray, (0,), b"b"), and of its state (version, shape, dtype, is_fortran, data) all but the data.
void PickleWriter::numpy_array_head(const std::vector<int64_t>& shape, std::string_view type, int flags) {
  const std::byte b{'b'};
  global("numpy.core.multiarray", "_reconstruct").global("numpy", "ndarray").integer(0).tuple(1).bytes({&b, 1}).tuple(3).reduce();
  begin().integer(1).tuple_of(shape);
  global("numpy", "dtype").text(type).boolean(false).boolean(true).tuple(3).reduce();
  const bool ordered = !type.ends_with('1') && type != "O8";
  begin().integer(3).text(ordered ? "<" : "|").none().none().none().integer(-1).integer(-1).integer(flags).end_tuple().build();
  boolean(false);
}

PickleWriter& PickleWriter::begin_numpy_array(std::string_view type, const std::vector<int64_t>& shape) {
  const char kind = type == "BOOL" ? 'b' : static_cast<char>(type[0] - 'A' + 'a');
  const size_t size = stored_bytes_of(type);
  numpy_array_head(shape, kind + std::to_string(size), 0);
  uint64_t total = size;
  for (const int64_t side : shape) total *= static_cast<uint64_t>(side);
  op('\x8e').number(total, 8);
  return *this;
}

PickleWriter& PickleWriter::raw(std::span<const std::byte> little_endian) {
  out_.append(reinterpret_cast<const char*>(little_endian.data()), little_endian.size());
  return *this;
}

void write_numpy_object(const std::function<void(PickleWriter&)>& content, const std::function<void(std::string)>& sink) {
  constexpr int holds_objects = 63;  // NumPy's flags of such a dtype
  sink(npy_object_header());
  PickleWriter p(4);
  p.numpy_array_head({}, "O8", holds_objects);
  p.list().begin();
  content(p);
  p.append_items().end_tuple().build();
  sink(p.finish());
}

std::string PickleWriter::take() { return std::exchange(out_, {}); }

std::string PickleWriter::finish() { return op('.').take(); }

}  // namespace glia
