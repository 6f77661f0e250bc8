// The machine behind Pickle; see the header.
#include "data/pickle.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <optional>

#include "data/pickle_globals.h"
#include "data/pickle_text.h"
#include "tensor/error.h"

namespace glia {

// Reads opcodes until STOP. Every step either consumes bytes of the file or ends.
class PickleMachine {
 public:
  PickleMachine(Pickle& out, std::span<const std::byte> bytes, size_t begin, const PickleLimits& limits)
      : out_(out),
        text_(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
        at_(begin),
        limits_(limits),
        decoded_left_(limits.decoded) {}

  void run() {
    for (;;) {
      start_ = at_;
      const auto op = static_cast<uint8_t>(take(1)[0]);
      if (op == '.') break;
      if (!constant(op) && !text_or_number(op) && !container(op) && !memory(op) && !refused(op) && !call(op))
        fail(fmt::format("unknown opcode 0x{:02x}", op));
    }
    if (!marks_.empty() || stack_.size() != 1)
      fail(fmt::format("it ends with {} values and {} open marks, want one value", stack_.size(), marks_.size()));
    out_.root_ = stack_[0];
    out_.end_ = at_;
  }

 private:
  using Kind = PickleValue::Kind;

  [[noreturn]] void fail(std::string_view what) const {
    throw DataError("{}: damaged pickle: {} (at byte {} of {})", out_.name_, what, start_, text_.size());
  }
  [[noreturn]] void fail_name(std::string_view module, std::string_view name) const {
    const auto shown = [](std::string_view s) { return s.substr(0, 60); };
    throw DataError(
        "{}: the pickle names {}.{} (at byte {}), which is none of the types that hold weights; nothing of it was run. Save only "
        "the "
        "state dict (torch.save(model.state_dict(), ...))",
        out_.name_, shown(module), shown(name), start_);
  }

  // ---- bytes ----
  std::string_view take(uint64_t n) {
    if (n > text_.size() - at_)
      fail(fmt::format("{} bytes are wanted, {} are left; the file was cut off", n, text_.size() - at_));
    const std::string_view part = text_.substr(at_, n);
    at_ += n;
    return part;
  }
  uint64_t number(size_t n) {
    uint64_t v = 0;
    const std::string_view part = take(n);
    for (size_t i = n; i-- > 0;) v = v << 8 | static_cast<uint8_t>(part[i]);
    return v;
  }
  std::string_view line() {
    const size_t end = text_.find('\n', at_);
    if (end == text_.npos) fail("a line without an end; the file was cut off");
    const std::string_view part = text_.substr(at_, end - at_);
    at_ = end + 1;
    return part;
  }

  // ---- stack ----
  void push(const PickleValue& v) {
    if (stack_.size() + held_ >= limits_.values) fail(fmt::format("more than {} values", limits_.values));
    stack_.push_back(v);
  }
  PickleValue pop() {
    if (stack_.empty() || (!marks_.empty() && stack_.size() == marks_.back())) fail("a value is missing on the stack");
    const PickleValue v = stack_.back();
    stack_.pop_back();
    return v;
  }
  std::vector<PickleValue> pop_to_mark() {
    if (marks_.empty()) fail("a mark is missing on the stack");
    const auto from = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<PickleValue> items(from, stack_.end());
    stack_.erase(from, stack_.end());
    marks_.pop_back();
    return items;
  }
  void push(Kind kind, int64_t integer) {
    PickleValue v;
    v.kind = kind;
    v.integer = integer;
    push(v);
  }
  void push_bytes(Kind kind, std::string_view part) {
    if (part.size() > limits_.text) fail(fmt::format("a text of {} bytes, at most {} are read", part.size(), limits_.text));
    PickleValue v;
    v.kind = kind;
    v.size = static_cast<uint32_t>(part.size());
    v.data = part.data();
    push(v);
  }
  void push_decoded(uint8_t op) {
    const std::string_view encoded = line();
    if (encoded.size() > decoded_left_) fail(fmt::format("texts of protocol 0 above {} bytes", limits_.decoded));
    decoded_left_ -= encoded.size();
    std::optional<std::string> text = op == 'S' ? decode_python_string(encoded) : decode_raw_unicode(encoded);
    if (!text) fail("a text with an escape that is not valid, or without its quotes");
    push_bytes(op == 'S' ? Kind::bytes : Kind::text, out_.decoded_.emplace_back(std::move(*text)));
  }
  void push_node(PickleNode node) {
    if (out_.nodes_.size() >= limits_.nodes) fail(fmt::format("more than {} containers", limits_.nodes));
    held_ += node.items.size();
    PickleValue v;
    v.kind = Kind::node;
    v.index = out_.nodes_.size();
    out_.nodes_.push_back(std::move(node));
    push(v);
  }
  void push_node(PickleNode::Kind kind, std::vector<PickleValue> items, PickleGlobal global = PickleGlobal::none) {
    push_node({.kind = kind, .global = global, .items = std::move(items), .state = {}});
  }
  PickleNode& top(PickleNode::Kind kind, const char* wanted) {
    if (stack_.empty() || !out_.is(stack_.back(), kind)) fail(fmt::format("{} is missing on the stack", wanted));
    return out_.nodes_[stack_.back().index];
  }
  void append(PickleNode::Kind kind, const std::vector<PickleValue>& items) {
    PickleNode& node = top(kind, kind == PickleNode::Kind::list ? "a list" : "a dict");
    if (kind == PickleNode::Kind::dict && items.size() % 2) fail("a dict with a key that has no value");
    held_ += items.size();
    if (held_ > limits_.values) fail(fmt::format("more than {} values", limits_.values));
    node.items.insert(node.items.end(), items.begin(), items.end());
  }

  // ---- opcodes ----
  bool constant(uint8_t op);
  bool text_or_number(uint8_t op);
  bool container(uint8_t op);
  bool memory(uint8_t op);
  bool refused(uint8_t op);
  bool call(uint8_t op);
  void push_long(std::string_view bytes);
  void push_line_number(uint8_t op);
  void push_global(std::string_view module, std::string_view name);
  void remember(uint64_t index);
  void recall(uint64_t index);
  uint64_t line_index();
  void reduce(const PickleValue& callee, const PickleValue& arguments);
  void reduce_ordered_dict(const std::vector<PickleValue>& arguments);
  void build(const PickleValue& state);

  Pickle& out_;
  std::string_view text_;
  size_t at_ = 0;
  size_t start_ = 0;  // of the current opcode
  const PickleLimits& limits_;
  size_t decoded_left_;
  size_t held_ = 0;  // values in containers
  std::vector<PickleValue> stack_;
  std::vector<size_t> marks_;
  std::vector<PickleValue> memo_;
  std::vector<bool> remembered_;
};

bool PickleMachine::constant(uint8_t op) {
  switch (op) {
    case 0x80:  // PROTO
      if (const uint64_t version = number(1); version > 5) fail(fmt::format("protocol {}, at most 5 is read", version));
      return true;
    case 0x95:  // FRAME: a hint for buffering
      if (number(8) > text_.size() - at_) fail("a frame reaches beyond the end; the file was cut off");
      return true;
    case 'N': push(PickleValue{}); return true;
    case 0x88: push(Kind::boolean, 1); return true;
    case 0x89: push(Kind::boolean, 0); return true;
    case 'J': push(Kind::integer, static_cast<int32_t>(number(4))); return true;
    case 'K': push(Kind::integer, static_cast<int64_t>(number(1))); return true;
    case 'M': push(Kind::integer, static_cast<int64_t>(number(2))); return true;
    case 0x8a: push_long(take(number(1))); return true;
    case 0x8b: push_long(take(number(4))); return true;
    case 'G': {
      uint64_t bits = number(8);
      bits = __builtin_bswap64(bits);
      PickleValue v;
      v.kind = Kind::real;
      v.real = std::bit_cast<double>(bits);
      push(v);
      return true;
    }
    default: return false;
  }
}

void PickleMachine::push_long(std::string_view bytes) {
  constexpr size_t longest = 1024;
  if (bytes.size() > longest) fail(fmt::format("an integer of {} bytes, at most {} are read", bytes.size(), longest));
  if (bytes.size() > 8) return push_bytes(Kind::big, bytes);
  uint64_t v = !bytes.empty() && (bytes.back() & 0x80) ? ~uint64_t{0} : 0;
  for (size_t i = bytes.size(); i-- > 0;) v = v << 8 | static_cast<uint8_t>(bytes[i]);
  push(Kind::integer, static_cast<int64_t>(v));
}

void PickleMachine::push_line_number(uint8_t op) {
  std::string_view digits = line();
  if (op == 'I' && (digits == "00" || digits == "01")) return push(Kind::boolean, digits == "01");
  if (op == 'L' && digits.ends_with('L')) digits.remove_suffix(1);
  const char *begin = digits.data(), *end = begin + digits.size();
  PickleValue v;
  v.kind = op == 'F' ? Kind::real : Kind::integer;
  std::from_chars_result result{};
  if (op == 'F') {
    result = std::from_chars(begin, end, v.real);
  } else {
    result = std::from_chars(begin, end, v.integer);
  }
  if (result.ec != std::errc{} || result.ptr != end || digits.empty())
    fail(fmt::format("\"{}\" is no number, or one beyond 64 bits", digits.substr(0, 40)));
  push(v);
}

bool PickleMachine::text_or_number(uint8_t op) {
  switch (op) {
    case 'I':
    case 'L':
    case 'F': push_line_number(op); return true;
    case 'S':
    case 'V': push_decoded(op); return true;
    case 'X': push_bytes(Kind::text, take(number(4))); return true;   // BINUNICODE
    case 0x8c: push_bytes(Kind::text, take(number(1))); return true;  // SHORT_BINUNICODE
    case 0x8d: push_bytes(Kind::text, take(number(8))); return true;  // BINUNICODE8
    case 'U':                                                         // SHORT_BINSTRING
    case 'C': push_bytes(Kind::bytes, take(number(1))); return true;  // SHORT_BINBYTES
    case 'T':                                                         // BINSTRING
      if (text_.size() - at_ >= 4 && (text_[at_ + 3] & 0x80)) fail("a text of negative length");
      [[fallthrough]];
    case 'B': push_bytes(Kind::bytes, take(number(4))); return true;   // BINBYTES
    case 0x8e:                                                         // BINBYTES8
    case 0x96: push_bytes(Kind::bytes, take(number(8))); return true;  // BYTEARRAY8
    default: return false;
  }
}

bool PickleMachine::container(uint8_t op) {
  using NodeKind = PickleNode::Kind;
  switch (op) {
    case '(':
      if (marks_.size() >= limits_.values) fail(fmt::format("more than {} marks", limits_.values));
      marks_.push_back(stack_.size());
      return true;
    case ']':
    case 0x8f: push_node(NodeKind::list, {}); return true;  // EMPTY_LIST, EMPTY_SET
    case '}': push_node(NodeKind::dict, {}); return true;
    case ')': push_node(NodeKind::tuple, {}); return true;
    case 'l':
    case 0x91: push_node(NodeKind::list, pop_to_mark()); return true;  // LIST, FROZENSET
    case 't': push_node(NodeKind::tuple, pop_to_mark()); return true;
    case 'd': {
      const auto items = pop_to_mark();
      push_node(NodeKind::dict, {});
      append(NodeKind::dict, items);
      return true;
    }
    case 0x85:
    case 0x86:
    case 0x87: {  // TUPLE1, 2, 3
      std::vector<PickleValue> items(op - size_t{0x84});
      for (size_t i = items.size(); i-- > 0;) items[i] = pop();
      push_node(NodeKind::tuple, std::move(items));
      return true;
    }
    case 'a': append(NodeKind::list, {pop()}); return true;
    case 'e':
    case 0x90: append(NodeKind::list, pop_to_mark()); return true;  // APPENDS, ADDITEMS
    case 's': {
      const PickleValue value = pop(), key = pop();
      append(NodeKind::dict, {key, value});
      return true;
    }
    case 'u': append(NodeKind::dict, pop_to_mark()); return true;
    default: return false;
  }
}

uint64_t PickleMachine::line_index() {
  const std::string_view digits = line();
  uint64_t v = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), v);
  if (error != std::errc{} || end != digits.data() + digits.size()) fail("a memo's number that is none");
  return v;
}

void PickleMachine::remember(uint64_t index) {
  if (stack_.empty()) fail("a value is missing on the stack");
  if (index >= limits_.memo) fail(fmt::format("memo number {}, at most {} are read", index, limits_.memo));
  if (index >= memo_.size()) memo_.resize(index + 1), remembered_.resize(index + 1);
  memo_[index] = stack_.back();
  remembered_[index] = true;
}

void PickleMachine::recall(uint64_t index) {
  if (index >= memo_.size() || !remembered_[index]) fail(fmt::format("memo {} is read before it is written", index));
  push(memo_[index]);
}

bool PickleMachine::memory(uint8_t op) {
  switch (op) {
    case 'p': remember(line_index()); return true;
    case 'q': remember(number(1)); return true;
    case 'r': remember(number(4)); return true;
    case 0x94: remember(memo_.size()); return true;  // MEMOIZE: numbers are taken in order
    case 'g': recall(line_index()); return true;
    case 'h': recall(number(1)); return true;
    case 'j': recall(number(4)); return true;
    case '0':  // POP: a mark counts as a value
      if (!marks_.empty() && stack_.size() == marks_.back()) {
        marks_.pop_back();
      } else {
        pop();
      }
      return true;
    case '1': pop_to_mark(); return true;
    case '2': {
      const PickleValue v = pop();
      push(v);
      push(v);
      return true;
    }
    default: return false;
  }
}

bool PickleMachine::refused(uint8_t op) {
  switch (op) {
    case 'i': {  // INST
      const std::string_view module = line();
      fail_name(module, line());
    }
    case 'o':     // OBJ
    case 0x81:    // NEWOBJ
    case 0x92: {  // NEWOBJ_EX
      // The class is below the arguments; whatever it is, it is no type that is made in this way.
      const auto named = std::find_if(stack_.rbegin(), stack_.rend(), [](const auto& v) { return v.kind == Kind::global; });
      if (named != stack_.rend()) fail_name(pickle_global(named->index).module, pickle_global(named->index).name);
      fail("it makes an object of something that is no class");
    }
    case 0x82:
    case 0x83:
    case 0x84: fail("names by number (the registry of copyreg) are not read");
    case 0x97:
    case 0x98: fail("buffers outside of the pickle are not read");
    case 'P': fail("a persistent id as text is not read");
    default: return false;
  }
}

void PickleMachine::push_global(std::string_view module, std::string_view name) {
  const auto found = find_global(module, name);
  if (!found) fail_name(module, name);
  PickleValue v;
  v.kind = Kind::global;
  v.index = *found;
  push(v);
}

bool PickleMachine::call(uint8_t op) {
  switch (op) {
    case 'c': {
      const std::string_view module = line();
      push_global(module, line());
      return true;
    }
    case 0x93: {  // STACK_GLOBAL
      const PickleValue name = pop(), module = pop();
      if (name.kind != Kind::text || module.kind != Kind::text) fail("a name that is no text");
      push_global(module.view(), name.view());
      return true;
    }
    case 'Q': {  // BINPERSID
      const PickleValue id = pop();
      if (!out_.is(id, PickleNode::Kind::tuple)) fail("a persistent id that is no tuple");
      push_node(PickleNode::Kind::persistent, out_.node(id).items);
      return true;
    }
    case 'R': {
      const PickleValue arguments = pop(), callee = pop();
      reduce(callee, arguments);
      return true;
    }
    case 'b': build(pop()); return true;
    default: return false;
  }
}

void PickleMachine::reduce(const PickleValue& callee, const PickleValue& arguments) {
  if (callee.kind != Kind::global) fail("it calls something that is no function");
  if (!out_.is(arguments, PickleNode::Kind::tuple)) fail("arguments that are no tuple");
  const std::vector<PickleValue>& items = out_.node(arguments).items;
  const GlobalName& named = pickle_global(callee.index);
  switch (named.global) {
    case PickleGlobal::ordered_dict: return reduce_ordered_dict(items);
    case PickleGlobal::bytes:
      if (!items.empty()) fail("bytes() with arguments");
      return push_bytes(Kind::bytes, text_.substr(0, 0));
    case PickleGlobal::encode: {
      if (items.size() != 2 || items[0].kind != Kind::text || items[1].kind != Kind::text || items[1].view() != "latin1")
        fail("_codecs.encode of something other than (text, \"latin1\")");
      return push_bytes(Kind::latin1, items[0].view());
    }
    case PickleGlobal::torch_size:
      if (items.size() != 1 || !out_.is(items[0], PickleNode::Kind::tuple)) fail("torch.Size of something that is no tuple");
      return push(items[0]);
    case PickleGlobal::rebuild_tensor:
    case PickleGlobal::rebuild_parameter:
    case PickleGlobal::reconstruct:
    case PickleGlobal::from_buffer:
    case PickleGlobal::numpy_scalar:
    case PickleGlobal::numpy_dtype: return push_node(PickleNode::Kind::call, items, named.global);
    default: fail(fmt::format("{}.{} is called, which is no function that makes weights", named.module, named.name));
  }
}

// OrderedDict(), or Python 2's OrderedDict([[key, value], ...]).
void PickleMachine::reduce_ordered_dict(const std::vector<PickleValue>& arguments) {
  std::vector<PickleValue> items;
  if (arguments.size() > 1 || (arguments.size() == 1 && !out_.is(arguments[0], PickleNode::Kind::list)))
    fail("OrderedDict of something other than a list of pairs");
  if (arguments.size() == 1) {
    for (const PickleValue& pair : out_.node(arguments[0]).items) {
      if (pair.kind != Kind::node || out_.node(pair).items.size() != 2) fail("OrderedDict of something other than pairs");
      items.insert(items.end(), out_.node(pair).items.begin(), out_.node(pair).items.end());
    }
  }
  push_node(PickleNode::Kind::dict, std::move(items), PickleGlobal::ordered_dict);
}

void PickleMachine::build(const PickleValue& state) {
  if (stack_.empty() || stack_.back().kind != Kind::node) fail("BUILD of something that has no state");
  PickleNode& node = out_.nodes_[stack_.back().index];
  const bool filled = node.kind == PickleNode::Kind::call &&
                      (node.global == PickleGlobal::reconstruct || node.global == PickleGlobal::numpy_dtype);
  if (filled) {
    node.state = state;
  } else if (node.global != PickleGlobal::ordered_dict) {  // whose attributes (_metadata) hold no weights
    fail("BUILD of something other than an array, its type, or an OrderedDict");
  }
}

Pickle::Pickle(std::span<const std::byte> bytes, std::string name, size_t begin, const PickleLimits& limits)
    : name_(std::move(name)), bytes_(reinterpret_cast<const char*>(bytes.data()), bytes.size()) {
  PickleMachine(*this, bytes, begin, limits).run();
}

std::string Pickle::text(const PickleValue& value, size_t most) const {
  using Kind = PickleValue::Kind;
  if (value.kind != Kind::text && !value.is_bytes()) throw DataError("{}: something else where a text is wanted", name_);
  if (value.size > most) throw DataError("{}: a text of {} bytes, at most {} are read here", name_, value.size, most);
  if (value.kind == Kind::bytes) return utf8_of_latin1(value.view());
  if (count_code_points(value.view(), 0x10ffff) < 0) throw DataError("{}: a text that is no valid UTF-8", name_);
  return std::string(value.view());
}

}  // namespace glia
