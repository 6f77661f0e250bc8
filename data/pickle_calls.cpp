// Opcodes that in Python name, call and fill things: each becomes a node, or is an error. Nothing is run.
#include <algorithm>

#include "data/pickle_globals.h"
#include "data/pickle_machine.h"

namespace glia {

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

}  // namespace glia
