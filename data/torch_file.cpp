#include "data/torch_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "data/pickle_write.h"
#include "data/safetensors_header.h"
#include "data/weights_pickle.h"
#include "tensor/error.h"

namespace glia {
namespace {

constexpr std::string_view data_pkl = "data.pkl";
constexpr std::string_view magic{"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 10};  // 0x1950a86a20f9469cfc6c

// Bytes of a member, checked; a stored one in place.
std::span<const std::byte> member_bytes(const ZipFile& zip, const ZipEntry& entry, std::vector<std::byte>& own) {
  if (!entry.deflated) return zip.checked(entry);
  own = zip.read(entry);
  return own;
}

std::string member_text(const ZipFile& zip, const std::string& name) {
  const ZipEntry& entry = zip.entry(name);
  std::vector<std::byte> own;
  const auto bytes = entry.size > 64 ? std::span<const std::byte>() : member_bytes(zip, entry, own);
  std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::string root_of(const ZipFile& zip) {
  for (const ZipEntry& e : zip.entries()) {
    if (e.name == data_pkl) return "";
    if (e.name.ends_with(std::string("/") + std::string(data_pkl)) && e.name.find('/') + 1 + data_pkl.size() == e.name.size())
      return e.name.substr(0, e.name.size() - data_pkl.size());
  }
  return "/";  // no member begins so
}

bool is_big_endian(const ZipFile& zip, const std::string& root, const std::string& source) {
  if (!zip.contains(root + "byteorder")) return false;
  const std::string order = member_text(zip, root + "byteorder");
  if (order != "little" && order != "big") throw DataError("{}: byte order \"{}\", want little or big", source, order);
  return order == "big";
}

void check_version(const ZipFile& zip, const std::string& root, const std::string& source) {
  const std::string name = zip.contains(root + "version") ? root + "version" : root + ".data/version";
  if (!zip.contains(name)) throw DataError("{}: a PyTorch archive without a version", source);
  const std::string text = member_text(zip, name);
  int version = 0;
  std::from_chars(text.data(), text.data() + text.size(), version);
  if (version < 1 || version > 10) throw DataError("{}: version \"{}\" of PyTorch's archives, 1 to 10 are read", source, text);
}

}  // namespace

bool is_torch_zip(const ZipFile& zip) { return root_of(zip) != "/"; }

void read_torch_zip(std::shared_ptr<const ZipFile> zip, Weights& weights) {
  const std::string& source = weights.source;
  const std::string root = root_of(*zip);
  if (zip->contains(root + "constants.pkl"))
    throw DataError("{}: a TorchScript program, not weights; save model.state_dict() instead", source);
  check_version(*zip, root, source);
  const bool big_endian = is_big_endian(*zip, root, source);
  const auto text = std::make_shared<std::vector<std::byte>>();
  const auto bytes = member_bytes(*zip, zip->entry(root + std::string(data_pkl)), *text);
  const auto pickle = std::make_shared<const Pickle>(bytes, source + ", member " + root + std::string(data_pkl));
  if (pickle->end() != bytes.size()) throw DataError("{}: bytes after the end of the pickle", pickle->name());

  std::map<std::string, std::shared_ptr<const Storage>> storages;
  const StorageOfId storage_of_id = [&](const PickleNode& node) {
    const StorageId id = storage_id(*pickle, node);
    std::shared_ptr<const Storage>& storage = storages[id.key];
    const std::string name = root + "data/" + id.key;
    if (!storage) {
      if (!zip->contains(name)) throw DataError("{}: the storage \"{}\" is missing", source, name);
      const ZipEntry& entry = zip->entry(name);
      const auto read = [archive = zip.get(), &entry, checked = std::make_shared<bool>(false)] {
        StoredBytes out;
        if (entry.deflated) {
          out.own = archive->read(entry);
          out.view = out.own;
        } else {
          out.view = *checked ? archive->stored(entry) : archive->checked(entry);
          *checked = true;
        }
        return out;
      };
      Storage made{entry.size, weights.mapped, read};
      if (entry.deflated)
        made.read_into = [archive = zip.get(), &entry](std::span<std::byte> out) { archive->read_into(entry, {}, out); };
      storage = std::make_shared<const Storage>(std::move(made));
    }
    if (id.elements > storage->size / stored_bytes_of(id.dtype))
      throw DataError("{}: the storage \"{}\" holds {} bytes, but {} elements of {} are promised", source, name, storage->size,
                      id.elements, id.dtype);
    return storage;
  };
  flatten_pickle(*pickle, false, storage_of_id, weights);
  for (StoredTensor& t : weights.tensors) t.big_endian = big_endian;
  weights.format = "PyTorch (zip)";
  weights.keep.push_back(zip);
  weights.keep.push_back(text);
  weights.keep.push_back(pickle);
}

bool is_torch_legacy(const Pickle& first) { return first.root().kind == PickleValue::Kind::big && first.root().view() == magic; }

namespace {

// Where the storages of a legacy file lie, by their keys.
class LegacyStorages {
 public:
  LegacyStorages(std::span<const std::byte> bytes, const Pickle& object, const Weights& weights)
      : bytes_(bytes), object_(object), source_(weights.source), mapped_(weights.mapped) {}

  void read(const Pickle& keys) {
    using Kind = PickleNode::Kind;
    std::map<std::string, StorageId> wanted;
    for (const PickleNode& node : object_.nodes()) {
      if (node.kind != Kind::persistent) continue;
      const StorageId id = storage_id(object_, node);
      wanted.emplace(id.key, id);
    }
    if (!keys.is(keys.root(), Kind::list)) throw DataError("{}: the list of its storages is missing", source_);
    size_t at = keys.end();
    for (const PickleValue& value : keys.node(keys.root()).items) {
      const std::string key = keys.text(value, 1024);
      const auto id = wanted.find(key);
      if (id == wanted.end()) throw DataError("{}: the storage \"{}\" belongs to no tensor", source_, key);
      uint64_t count = 0;
      if (bytes_.size() - at < sizeof count) throw DataError("{}: cut off before the storage \"{}\"", source_, key);
      std::memcpy(&count, bytes_.data() + at, sizeof count);
      at += sizeof count;
      const uint64_t size = stored_bytes_of(id->second.dtype);
      if (count != id->second.elements || count > (bytes_.size() - at) / size)
        throw DataError("{}: the storage \"{}\" has {} elements of {}, {} are promised, and {} bytes are left (at byte {})",
                        source_, key, count, id->second.dtype, id->second.elements, bytes_.size() - at, at);
      if (!spans_.emplace(key, bytes_.subspan(at, count * size)).second)
        throw DataError("{}: the storage \"{}\" twice", source_, key);
      at += count * size;
    }
    if (at != bytes_.size()) throw DataError("{}: {} bytes after the last storage", source_, bytes_.size() - at);
  }

  // A storage, or the part of it that the sixth field (view key, offset, elements) names.
  std::shared_ptr<const Storage> get(const PickleNode& node) const {
    const StorageId id = storage_id(object_, node);
    const auto found = spans_.find(id.key);
    if (found == spans_.end()) throw DataError("{}: the storage \"{}\" is missing", source_, id.key);
    std::span<const std::byte> span = found->second;
    const uint64_t size = stored_bytes_of(id.dtype), elements = span.size() / size;
    if (node.items.size() > 5 && node.items[5].kind != PickleValue::Kind::none) {
      const auto is_integer = [](const PickleValue& v) { return v.kind == PickleValue::Kind::integer && v.integer >= 0; };
      const bool tuple = object_.is(node.items[5], PickleNode::Kind::tuple);
      const std::vector<PickleValue> view = tuple ? object_.node(node.items[5]).items : std::vector<PickleValue>();
      if (view.size() != 3 || !is_integer(view[1]) || !is_integer(view[2]))
        throw DataError("{}: a view of the storage \"{}\" is damaged", source_, id.key);
      const auto begin = static_cast<uint64_t>(view[1].integer), count = static_cast<uint64_t>(view[2].integer);
      if (begin > elements || count > elements - begin)
        throw DataError("{}: a view reaches beyond its storage \"{}\"", source_, id.key);
      span = span.subspan(begin * size, count * size);
    }
    return plain_storage(span, mapped_);
  }

 private:
  std::span<const std::byte> bytes_;
  const Pickle& object_;
  const std::string& source_;
  const bool mapped_;
  std::map<std::string, std::span<const std::byte>> spans_;
};

// system_info: {"protocol_version": 1001, "little_endian": True, ...}
void check_system(const Pickle& system, const std::string& source) {
  if (system.is(system.root(), PickleNode::Kind::dict)) {
    const auto& items = system.node(system.root()).items;
    for (size_t i = 0; i < items.size(); i += 2)
      if (items[i].kind == PickleValue::Kind::text && items[i].view() == "little_endian" && items[i + 1].is_number() &&
          items[i + 1].integer == 1)
        return;
  }
  throw DataError("{}: a PyTorch file of a big-endian machine, or a damaged one", source);
}

}  // namespace

void read_torch_legacy(std::span<const std::byte> bytes, const Pickle& first, Weights& weights) {
  const std::string& source = weights.source;
  const Pickle version(bytes, source, first.end());
  if (version.root().kind != PickleValue::Kind::integer || version.root().integer != 1001)
    throw DataError("{}: a version of PyTorch's older format that is not read, want 1001", source);
  const Pickle platform(bytes, source, version.end());
  check_system(platform, source);
  const auto object = std::make_shared<const Pickle>(bytes, source, platform.end());
  LegacyStorages storages(bytes, *object, weights);
  storages.read(Pickle(bytes, source, object->end()));
  flatten_pickle(
      *object, weights.mapped, [&](const PickleNode& id) { return storages.get(id); }, weights);
  weights.format = "PyTorch (before 1.6)";
  weights.keep.push_back(object);
}

void write_torch_zip(const std::filesystem::path& path, const Weights& weights) {
  constexpr std::pair<std::string_view, const char*> types[] = {
      {"F32", "FloatStorage"}, {"F64", "DoubleStorage"}, {"F16", "HalfStorage"},  {"BF16", "BFloat16Storage"},
      {"I64", "LongStorage"},  {"I32", "IntStorage"},    {"I16", "ShortStorage"}, {"I8", "CharStorage"},
      {"U8", "ByteStorage"},   {"BOOL", "BoolStorage"}};
  PickleWriter p(2);
  p.global("collections", "OrderedDict").tuple(0).reduce().begin();
  int64_t key = 0;
  for (const StoredTensor& t : weights.tensors) {
    const auto type = std::find_if(std::begin(types), std::end(types), [&](const auto& k) { return k.first == t.dtype; });
    if (type == std::end(types))
      throw DataError("{}: \"{}\" is {}, which PyTorch's state dicts cannot hold", weights.source, t.name, t.dtype);
    p.text(t.name).global("torch._utils", "_rebuild_tensor_v2").begin();
    p.begin().text("storage").global("torch", type->second).text(std::to_string(key++)).text("cpu");
    p.integer(static_cast<int64_t>(t.elements())).end_tuple().persistent().integer(0);
    p.tuple_of(t.shape).tuple_of(dense_strides(t.shape)).boolean(false);
    p.global("collections", "OrderedDict").tuple(0).reduce().end_tuple().reduce();
  }
  p.set_items();
  ZipWriter zip(path);
  const std::string pickle = p.finish();
  const auto add = [&](const std::string& name, std::string_view content) { zip.add("archive/" + name, content, false); };
  add("data.pkl", pickle);
  add("byteorder", "little");
  key = 0;
  for (const StoredTensor& t : weights.tensors) {
    const StoredBytes bytes = t.bytes(weights.source);
    add("data/" + std::to_string(key++), {reinterpret_cast<const char*>(bytes.view.data()), bytes.view.size()});
  }
  add("version", "3\n");
  zip.commit();
}

}  // namespace glia
