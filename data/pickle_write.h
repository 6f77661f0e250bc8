#pragma once
// Writes pickles of protocol 2 (texts and numbers) or 4 (bytes as well), opcode by opcode; no part of the library's interface.
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace glia {

class PickleWriter {
 public:
  explicit PickleWriter(int protocol);

  PickleWriter& text(std::string_view utf8);
  PickleWriter& bytes(std::span<const std::byte> bytes);
  PickleWriter& integer(int64_t value);
  PickleWriter& boolean(bool value) { return op(value ? '\x88' : '\x89'); }
  PickleWriter& none() { return op('N'); }
  PickleWriter& global(std::string_view module, std::string_view name);
  PickleWriter& begin() { return op('('); }  // of end_tuple() or set_items()
  PickleWriter& end_tuple() { return op('t'); }
  PickleWriter& dict() { return op('}'); }       // an empty one
  PickleWriter& set_items() { return op('u'); }  // keys and values since begin() go into the dict below
  PickleWriter& tuple(int count);                // of the last 0 to 3 values
  PickleWriter& tuple_of(const std::vector<int64_t>& values);
  PickleWriter& reduce() { return op('R'); }
  PickleWriter& build() { return op('b'); }
  PickleWriter& persistent() { return op('Q'); }
  std::string take();    // what was written since the last call
  std::string finish();  // the rest, with its end

 private:
  PickleWriter& op(char code) {
    out_ += code;
    return *this;
  }
  void number(uint64_t value, int bytes);

  int protocol_;
  std::string out_;
};

}  // namespace glia
