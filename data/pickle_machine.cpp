// Opcodes that make numbers, texts and containers, and the memo.
#include "data/pickle_machine.h"

#include <algorithm>
#include <bit>
#include <charconv>

namespace glia {

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
  // Numbers are taken in order, and each value has bytes in the file: a short file has no reason to ask for a large memo.
  const uint64_t most = std::min<uint64_t>(limits_.memo, text_.size());
  if (index >= most) fail(fmt::format("memo number {}, at most {} are read", index, most));
  if (index >= memo_.size()) memo_.resize(index + 1);
  memo_[index] = stack_.back();
}

void PickleMachine::recall(uint64_t index) {
  if (index >= memo_.size() || !memo_[index]) fail(fmt::format("memo {} is read before it is written", index));
  push(*memo_[index]);
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

}  // namespace glia
