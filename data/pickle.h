#pragma once
// Python's pickles, protocols 0 to 5, read as inert values. A pickle is a program for a stack machine that may call any function of
// Python; this machine knows a fixed table of names (find_global), builds a node that says "called with these arguments" and runs
// nothing. A name outside the table is an error. Opcodes: CPython's Lib/pickletools.py.
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace glia {

// What a pickle of weights may name. `storage` comes with an element type.
enum class PickleGlobal : uint8_t {
  none,
  ordered_dict,       // collections.OrderedDict
  rebuild_tensor,     // torch._utils._rebuild_tensor_v2 (storage, offset, size, stride, ...)
  rebuild_parameter,  // torch._utils._rebuild_parameter (tensor, ...)
  storage,            // torch.FloatStorage and the like
  torch_size,         // torch.Size
  reconstruct,        // numpy's _reconstruct (ndarray, (0,), b"b"), filled by BUILD
  from_buffer,        // numpy's _frombuffer (bytes, dtype, shape, order): protocol 5
  numpy_scalar,       // numpy's scalar (dtype, bytes)
  ndarray,            // numpy.ndarray
  numpy_dtype,        // numpy.dtype ("f4", ...), filled by BUILD
  encode,             // _codecs.encode (text, "latin1")
  bytes,              // bytes()
};

struct PickleValue {
  enum class Kind : uint8_t {
    none,
    boolean,  // integer
    integer,
    real,
    big,     // an integer beyond int64: `size` bytes, little endian, two's complement
    text,    // `size` bytes of UTF-8
    bytes,   // `size` bytes; Python 2's texts as well
    latin1,  // bytes that stand as text: one per code point of `size` bytes of UTF-8
    global,  // entry `index` of the table
    node
  };
  Kind kind = Kind::none;
  uint32_t size = 0;
  union {
    int64_t integer = 0;
    double real;
    const char* data;  // into the pickle's bytes, or what it was decoded to
    uint64_t index;
  };

  bool is_number() const { return kind == Kind::integer || kind == Kind::boolean; }
  bool is_bytes() const { return kind == Kind::bytes || kind == Kind::latin1; }
  std::string_view view() const { return {data, size}; }
};

struct PickleNode {
  enum class Kind : uint8_t {
    list,
    tuple,
    dict,        // items: key, value, key, value ...
    persistent,  // items: those of the persistent id
    call         // of `global`; items: the arguments
  };
  Kind kind = Kind::list;
  PickleGlobal global = PickleGlobal::none;  // of a dict: ordered_dict where it is one
  std::vector<PickleValue> items;
  PickleValue state;  // BUILD's, of a call
};

// Taken before memory is: what one pickle may hold, whatever the size of its file.
struct PickleLimits {
  size_t values = 600'000;              // on the stack, and in all containers together
  size_t nodes = 200'000;               // containers and calls
  size_t memo = 500'000;                // numbers of remembered values
  size_t decoded = size_t{16} << 20;    // bytes of all texts of protocol 0, which need decoding
  size_t text = (size_t{1} << 32) - 1;  // bytes of one text or byte string
};

class Pickle {
 public:
  // Reads one pickle that begins at `begin` of bytes that outlive this object. DataError (name, byte) for anything damaged, unknown,
  // beyond the limits, or outside the table.
  Pickle(std::span<const std::byte> bytes, std::string name, size_t begin = 0, const PickleLimits& limits = {});

  const PickleValue& root() const { return root_; }
  size_t end() const { return end_; }  // the first byte after it
  const std::string& name() const { return name_; }
  const PickleNode& node(const PickleValue& value) const { return nodes_[value.index]; }
  const std::deque<PickleNode>& nodes() const { return nodes_; }
  bool is(const PickleValue& value, PickleNode::Kind kind) const {
    return value.kind == PickleValue::Kind::node && node(value).kind == kind;
  }
  bool is_call(const PickleValue& value, PickleGlobal global) const {
    return is(value, PickleNode::Kind::call) && node(value).global == global;
  }
  // Whether a text or bytes lie in the pickle itself, rather than in a decoded copy.
  bool is_in_place(const PickleValue& value) const {
    return value.data >= bytes_.data() && value.data < bytes_.data() + bytes_.size();
  }
  // A text, or bytes taken as Latin-1, as UTF-8. DataError where it is neither, is not valid, or is longer than `most` bytes.
  std::string text(const PickleValue& value, size_t most) const;

 private:
  friend class PickleMachine;
  std::string name_;
  std::string_view bytes_;
  std::deque<PickleNode> nodes_;
  std::deque<std::string> decoded_;
  PickleValue root_;
  size_t end_ = 0;
};

PickleGlobal global_of(const PickleValue& value);             // none for anything else
std::string_view storage_dtype_of(const PickleValue& value);  // "F32" of torch.FloatStorage; "" for anything else

// Code points of `text` in UTF-8, or -1 where it is not valid or has one above `highest`.
int64_t count_code_points(std::string_view text, uint32_t highest);
std::string utf8_of_latin1(std::string_view bytes);

}  // namespace glia
