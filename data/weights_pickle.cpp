#include "data/weights_pickle.h"

#include <fmt/format.h>

#include <algorithm>

#include "data/atomic_file.h"
#include "data/latin1.h"
#include "data/limits.h"
#include "data/safetensors_header.h"
#include "tensor/error.h"

namespace glia {
namespace {

using Kind = PickleValue::Kind;
using NodeKind = PickleNode::Kind;

constexpr size_t max_key = 1024;        // bytes of one name in a dict
constexpr size_t max_depth = 64;        // of nested containers
constexpr size_t max_leaves = 200'000;  // tensors and scalars; a dict that stands in many places counts each time
constexpr std::string_view data_parallel = "module.";

class Flattener {
 public:
  Flattener(const Pickle& pickle, bool mapped, const StorageOfId& storage_of_id, Weights& weights)
      : pickle_(pickle), mapped_(mapped), storage_of_id_(storage_of_id), weights_(weights) {}

  void run() {
    walk(pickle_.root(), "", 0);
    std::sort(weights_.tensors.begin(), weights_.tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    const auto twice = std::adjacent_find(weights_.tensors.begin(), weights_.tensors.end(),
                                          [](const auto& a, const auto& b) { return a.name == b.name; });
    if (twice != weights_.tensors.end()) fail(fmt::format("two tensors \"{}\"", twice->name));
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw DataError("{}: {}", pickle_.name(), what); }
  void count(size_t bytes) {
    if (++leaves_ > max_leaves) fail(fmt::format("more than {} tensors, numbers and containers", max_leaves));
    if ((text_ += bytes) > max_text_)
      fail(fmt::format("names and texts of more than {} bytes{}", max_text_, raise_hint("string_bytes")));
  }

  std::string key_of(const PickleValue& key) const {
    if (key.kind == Kind::integer) return std::to_string(key.integer);
    if (key.kind != Kind::text && !key.is_bytes()) fail("a dict with a key that is neither a text nor an integer");
    return pickle_.text(key, max_key);
  }

  void walk(const PickleValue& value, const std::string& name, size_t depth) {
    if (depth > max_depth) fail(fmt::format("containers nested more than {} deep, or in themselves", max_depth));
    count(name.size());
    if (value.kind != Kind::node) return scalar(value, name);
    const PickleNode& node = pickle_.node(value);
    const std::string prefix = name.empty() ? "" : name + "/";
    switch (node.kind) {
      case NodeKind::list:
      case NodeKind::tuple:
        for (size_t i = 0; i < node.items.size(); ++i) walk(node.items[i], prefix + std::to_string(i), depth + 1);
        return;
      case NodeKind::dict: return walk_dict(node, prefix, depth);
      case NodeKind::persistent: fail(fmt::format("\"{}\" is a bare storage, not a tensor", name));
      case NodeKind::call: return leaf(value, name, depth);
    }
  }

  void walk_dict(const PickleNode& node, const std::string& prefix, size_t depth) {
    size_t strip = node.items.empty() ? 0 : data_parallel.size();
    for (size_t i = 0; i < node.items.size() && strip; i += 2)
      if (node.items[i].kind != Kind::text || !node.items[i].view().starts_with(data_parallel)) strip = 0;
    for (size_t i = 0; i < node.items.size(); i += 2) {
      const std::string key = key_of(node.items[i]).substr(strip);
      walk(node.items[i + 1], prefix + key, depth + 1);
    }
  }

  void keep_scalar(const std::string& name, Scalar value) {
    if (!weights_.scalars.emplace(name, std::move(value)).second) fail(fmt::format("\"{}\" twice", name));
  }

  void scalar(const PickleValue& value, const std::string& name) {
    switch (value.kind) {
      case Kind::none: return;
      case Kind::boolean: return keep_scalar(name, value.integer != 0);
      case Kind::integer: return keep_scalar(name, value.integer);
      case Kind::real: return keep_scalar(name, value.real);
      case Kind::big: {
        std::string digits = "0x";
        for (size_t i = value.size; i-- > 0;) digits += fmt::format("{:02x}", static_cast<uint8_t>(value.data[i]));
        count(digits.size());
        return keep_scalar(name, digits);
      }
      case Kind::text:
      case Kind::bytes:
      case Kind::latin1: count(value.size); return keep_scalar(name, pickle_.text(value, max_text_));
      default: fail(fmt::format("\"{}\" is neither a tensor, a number nor a text", name));
    }
  }

  void leaf(const PickleValue& value, const std::string& name, size_t depth) {
    const PickleNode& node = pickle_.node(value);
    switch (node.global) {
      case PickleGlobal::rebuild_parameter:
        if (node.items.empty() || !pickle_.is_call(node.items[0], PickleGlobal::rebuild_tensor))
          fail(fmt::format("parameter \"{}\" holds no tensor", name));
        return torch_tensor(pickle_.node(node.items[0]), name);
      case PickleGlobal::rebuild_tensor: return torch_tensor(node, name);
      case PickleGlobal::reconstruct: return numpy_array(node, name, depth);
      case PickleGlobal::from_buffer: return numpy_buffer(node, name);
      case PickleGlobal::numpy_scalar: return numpy_scalar(node, name);
      default: fail(fmt::format("\"{}\" is neither a tensor, a number nor a text", name));
    }
  }

  // ---- tensors ----
  std::vector<int64_t> sides(const PickleValue& tuple, const std::string& name) const {
    if (!pickle_.is(tuple, NodeKind::tuple)) fail(fmt::format("tensor \"{}\": a shape that is no tuple", name));
    std::vector<int64_t> out;
    for (const PickleValue& v : pickle_.node(tuple).items) {
      if (v.kind != Kind::integer) fail(fmt::format("tensor \"{}\": a side that is no integer", name));
      out.push_back(v.integer);
    }
    return out;
  }

  void keep_tensor(StoredTensor tensor, const std::string& name) {
    tensor.name = name.empty() ? "array" : name;
    check_stored(tensor, pickle_.name());
    weights_.tensors.push_back(std::move(tensor));
  }

  void torch_tensor(const PickleNode& call, const std::string& name) {
    const auto& a = call.items;
    if (a.size() < 4 || !pickle_.is(a[0], NodeKind::persistent) || a[1].kind != Kind::integer || a[1].integer < 0)
      fail(fmt::format("tensor \"{}\": want a storage, an offset, a size and strides", name));
    if (a.size() > 6 && a[6].kind != Kind::none && !(pickle_.is(a[6], NodeKind::dict) && pickle_.node(a[6]).items.empty()))
      fail(fmt::format("tensor \"{}\": conjugated or negated views are not read", name));
    StoredTensor t;
    const PickleNode& id = pickle_.node(a[0]);
    t.dtype = storage_id(pickle_, id).dtype;
    t.offset = static_cast<uint64_t>(a[1].integer);
    t.shape = sides(a[2], name);
    t.strides = sides(a[3], name);
    t.storage = storage_of_id_(id);
    keep_tensor(std::move(t), name);
  }

  // numpy.dtype("f4", False, True) with the state (3, "<", None, None, None, -1, -1, 0).
  void set_type(const PickleValue& type, StoredTensor& t, const std::string& name) const {
    if (!pickle_.is_call(type, PickleGlobal::numpy_dtype)) fail(fmt::format("array \"{}\": its element type is no dtype", name));
    const PickleNode& node = pickle_.node(type);
    const std::string code = node.items.empty() ? "" : pickle_.text(node.items[0], 16);
    constexpr std::pair<std::string_view, std::string_view> known[] = {
        {"f4", "F32"}, {"f8", "F64"}, {"f2", "F16"}, {"i8", "I64"}, {"i4", "I32"}, {"i2", "I16"},
        {"i1", "I8"},  {"u8", "U64"}, {"u4", "U32"}, {"u2", "U16"}, {"u1", "U8"},  {"b1", "BOOL"}};
    const auto found = std::find_if(std::begin(known), std::end(known), [&](const auto& k) { return k.first == code; });
    if (found == std::end(known))
      fail(fmt::format("array \"{}\": NumPy's element type \"{}\" is not read; save numbers", name, code));
    t.dtype = found->second;
    if (!pickle_.is(node.state, NodeKind::tuple)) return;
    const auto& state = pickle_.node(node.state).items;
    const std::string order = state.size() > 1 ? pickle_.text(state[1], 16) : "";
    if (order != "<" && order != ">" && order != "|" && order != "=")
      fail(fmt::format("array \"{}\": byte order \"{}\"", name, order));
    t.big_endian = order == ">";
  }

  std::shared_ptr<const Storage> storage_of(const PickleValue& data, const std::string& name) const {
    if (!data.is_bytes()) fail(fmt::format("array \"{}\": its data are no bytes (an array of Python objects?)", name));
    const std::string_view text = data.view();
    const bool mapped = mapped_ && pickle_.is_in_place(data);
    if (data.kind == Kind::bytes) return plain_storage(std::as_bytes(std::span(text.data(), text.size())), mapped);
    const std::span<const std::byte> bytes = std::as_bytes(std::span(text.data(), text.size()));
    const auto text_of = [](std::span<const std::byte> part) {
      return std::string_view(reinterpret_cast<const char*>(part.data()), part.size());
    };
    size_t count = 0;
    in_pieces(bytes, mapped, [&](std::span<const std::byte> part) { count += latin1_size(text_of(part)); });
    return decoded_storage(count, [bytes, mapped, text_of, source = pickle_.name()](std::span<std::byte> out) {
      Latin1Decoder decoder(out);
      bool good = true;
      in_pieces(bytes, mapped, [&](std::span<const std::byte> part) { good = good && decoder.feed(text_of(part)); });
      if (!good || !decoder.done()) throw DataError("{}: the bytes of an array stand as a text that is not Latin-1", source);
    });
  }

  void numpy_tensor(StoredTensor t, bool fortran, const PickleValue& data, const std::string& name) {
    t.storage = storage_of(data, name);
    t.strides = dense_strides(t.shape, fortran);
    for (const int64_t side : t.shape)
      if (side < 0) fail(fmt::format("array \"{}\": a negative side", name));
    if (const auto wanted = bytes_wanted({name, t.dtype, t.shape, 0, 0}); !wanted || *wanted != t.storage->size)
      fail(fmt::format("array \"{}\": {} bytes, which is not what shape {} of {} takes", name, t.storage->size,
                       shape_text(t.shape), t.dtype));
    keep_tensor(std::move(t), name);
  }

  // What np.save makes of a Python object is an array without sides of that object; null for other arrays.
  const PickleValue* only_object(const std::vector<int64_t>& shape, const PickleValue& data) const {
    const bool one = shape.empty() && pickle_.is(data, NodeKind::list) && pickle_.node(data).items.size() == 1;
    return one ? &pickle_.node(data).items[0] : nullptr;
  }

  // _reconstruct(...) with the state (version, shape, dtype, is_fortran, data).
  void numpy_array(const PickleNode& call, const std::string& name, size_t depth) {
    const bool has_state = pickle_.is(call.state, NodeKind::tuple) && pickle_.node(call.state).items.size() == 5;
    if (!has_state || call.items.empty() || global_of(call.items[0]) != PickleGlobal::ndarray)
      fail(fmt::format("array \"{}\": want numpy.ndarray with its state of five", name));
    const auto& state = pickle_.node(call.state).items;
    StoredTensor t;
    t.shape = sides(state[1], name);
    if (const PickleValue* object = only_object(t.shape, state[4])) return walk(*object, name, depth + 1);
    set_type(state[2], t, name);
    if (!state[3].is_number()) fail(fmt::format("array \"{}\": its order is neither True nor False", name));
    numpy_tensor(std::move(t), state[3].integer != 0, state[4], name);
  }

  // _frombuffer(data, dtype, shape, "C" or "F").
  void numpy_buffer(const PickleNode& call, const std::string& name) {
    if (call.items.size() != 4) fail(fmt::format("array \"{}\": want data, type, shape and order", name));
    StoredTensor t;
    set_type(call.items[1], t, name);
    t.shape = sides(call.items[2], name);
    const std::string order = pickle_.text(call.items[3], 16);
    if (order != "C" && order != "F") fail(fmt::format("array \"{}\": order \"{}\"", name, order));
    numpy_tensor(std::move(t), order == "F", call.items[0], name);
  }

  void numpy_scalar(const PickleNode& call, const std::string& name) {
    if (call.items.size() != 2) fail(fmt::format("\"{}\": a NumPy number wants a type and its bytes", name));
    StoredTensor t;
    set_type(call.items[0], t, name);
    t.storage = storage_of(call.items[1], name);
    if (t.storage->size != stored_bytes_of(t.dtype)) fail(fmt::format("\"{}\": a NumPy number of the wrong size", name));
    const Tensor value = t.tensor(pickle_.name());
    if (value.dtype() == DType::boolean) return keep_scalar(name, value.item() != 0);
    if (!is_floating(value.dtype())) return keep_scalar(name, value.cast(DType::int64).data<int64_t>()[0]);
    keep_scalar(name, value.item());
  }

  const Pickle& pickle_;
  const bool mapped_;
  const StorageOfId& storage_of_id_;
  Weights& weights_;
  const size_t max_text_ = static_cast<size_t>(file_limits().string_bytes);  // bytes of all names and texts
  size_t leaves_ = 0, text_ = 0;
};

}  // namespace

void flatten_pickle(const Pickle& pickle, bool mapped, const StorageOfId& storage_of_id, Weights& weights) {
  Flattener(pickle, mapped, storage_of_id, weights).run();
}

StorageId storage_id(const Pickle& pickle, const PickleNode& id) {
  const auto& a = id.items;
  const bool good = a.size() >= 5 && a[0].kind == Kind::text && a[0].view() == "storage" && !storage_dtype_of(a[1]).empty() &&
                    (a[2].kind == Kind::text || a[2].kind == Kind::bytes) && a[4].kind == Kind::integer && a[4].integer >= 0;
  if (!good)
    throw DataError("{}: a persistent id that is no storage (a whole module was saved? Save its state dict)", pickle.name());
  return {storage_dtype_of(a[1]), pickle.text(a[2], max_key), static_cast<uint64_t>(a[4].integer)};
}

}  // namespace glia
