#pragma once
// The machine behind Pickle, no part of the library's interface: pickle_machine.cpp has what makes values, pickle_calls.cpp what in
// Python would name and call things.
#include <fmt/format.h>

#include <optional>

#include "data/pickle.h"
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
  std::vector<std::optional<PickleValue>> memo_;
};

}  // namespace glia
