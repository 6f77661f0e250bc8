#pragma once
// Writes pickles of protocol 2 (texts and numbers) or 4 (bytes as well), opcode by opcode; no part of the library's interface.
#include <cstddef>
#include <cstdint>
#include <functional>
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
  PickleWriter& real(double value);
  PickleWriter& boolean(bool value) { return op(value ? '\x88' : '\x89'); }
  PickleWriter& none() { return op('N'); }
  PickleWriter& global(std::string_view module, std::string_view name);
  PickleWriter& begin() { return op('('); }  // of end_tuple(), set_items() or append_items()
  PickleWriter& end_tuple() { return op('t'); }
  PickleWriter& dict() { return op('}'); }          // an empty one
  PickleWriter& set_items() { return op('u'); }     // keys and values since begin() go into the dict below
  PickleWriter& list() { return op(']'); }          // an empty one
  PickleWriter& append_items() { return op('e'); }  // those since begin() go into the list below
  PickleWriter& tuple(int count);                   // of the last 0 to 3 values
  PickleWriter& tuple_of(const std::vector<int64_t>& values);
  // A NumPy array as NumPy's own pickles make it, in C order; `type` is safetensors' name of the elements, such as "F32".
  PickleWriter& numpy_array(std::string_view type, const std::vector<int64_t>& shape, std::span<const std::byte> little_endian) {
    return begin_numpy_array(type, shape).raw(little_endian).end_numpy_array();
  }
  // The same in parts: the bytes follow by raw(), all that the shape takes, and take() may be called between them.
  PickleWriter& begin_numpy_array(std::string_view type, const std::vector<int64_t>& shape);
  PickleWriter& raw(std::span<const std::byte> little_endian);
  PickleWriter& end_numpy_array() { return end_tuple().build(); }
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
  friend void write_numpy_object(const std::function<void(PickleWriter&)>&, const std::function<void(std::string)>&);
  void number(uint64_t value, int bytes);
  void numpy_array_head(const std::vector<int64_t>& shape, std::string_view type, int flags);

  int protocol_;
  std::string out_;
};

// A .npy file of one Python object, as np.save makes of a dict (np.load(..., allow_pickle=True).item() gives it back). `content` writes
// the object, with protocol 4; `sink` takes the file's bytes in order, and what content() takes away before (take()) is its own to hand on.
void write_numpy_object(const std::function<void(PickleWriter&)>& content, const std::function<void(std::string)>& sink);

}  // namespace glia
