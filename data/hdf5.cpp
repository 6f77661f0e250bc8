#include "data/hdf5.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "data/limits.h"
#include "data/pickle.h"
#include "tensor/error.h"

namespace glia {
namespace {

constexpr std::string_view signature = "\x89HDF\r\n\x1a\n";
constexpr uint64_t undefined = ~uint64_t{0};
constexpr size_t max_name = 1024, max_rank = 32, max_messages = 4096;
constexpr int max_depth = 64;
constexpr int64_t max_objects = 200'000, max_parts = 4'000'000;  // parts: messages, and entries of trees and heaps

// Numbers of messages in object headers.
enum Kind : uint64_t {
  kind_dataspace = 1,
  kind_link_info = 2,
  kind_datatype = 3,
  kind_link = 6,
  kind_external = 7,
  kind_layout = 8,
  kind_filters = 11,
  kind_attribute = 12,
  kind_continuation = 16,
  kind_symbol_table = 17
};

// Little-endian numbers out of a piece of the file. Every access is checked.
class Piece {
 public:
  Piece() = default;
  Piece(std::span<const std::byte> bytes, const std::string& source) : bytes_(bytes), source_(&source) {}

  uint64_t size() const { return bytes_.size(); }
  std::span<const std::byte> bytes() const { return bytes_; }
  Piece part(uint64_t at, uint64_t count) const {
    if (at > size() || count > size() - at)
      throw DataError("{}: damaged HDF5 file: {} bytes at {} of {}; the file was cut off?", *source_, count, at, size());
    return {bytes_.subspan(static_cast<size_t>(at), static_cast<size_t>(count)), *source_};
  }
  Piece from(uint64_t at) const { return part(at, size() - std::min(at, size())); }
  uint64_t number(uint64_t at, int count) const {
    const Piece p = part(at, static_cast<uint64_t>(count));
    uint64_t value = 0;
    for (size_t i = p.bytes_.size(); i-- > 0;) value = value << 8 | std::to_integer<uint64_t>(p.bytes_[i]);
    return value;
  }
  std::string_view view() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }
  // A text that a zero ends, or the piece.
  std::string_view text() const { return view().substr(0, view().find('\0')); }

 private:
  std::span<const std::byte> bytes_;
  const std::string* source_ = nullptr;
};

struct Message {
  uint64_t kind = 0, flags = 0;
  Piece data;
};

struct Type {
  enum class Class : uint8_t { integer, real, text, text_elsewhere, other } kind = Class::other;
  uint64_t size = 0;
  std::string dtype;  // of integers and reals
  bool big_endian = false;
};

struct Space {
  std::vector<int64_t> shape;
  bool null = false;
};

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, Weights& weights) : weights_(weights), whole_(bytes, weights.source) {}

  void read() {
    const uint64_t version = whole_.number(8, 1);
    if (version > 1)
      fail("superblock version {}; want a file of h5py's default settings (libver=\"earliest\"), as Keras writes it", version);
    if (whole_.number(13, 1) != 8 || whole_.number(14, 1) != 8) fail("addresses of another size than 8 bytes");
    const uint64_t at = version == 1 ? 28 : 24;

    file_ = whole_.from(whole_.number(at, 8));
    object(whole_.number(at + 40, 8), "", 0);
    std::sort(weights_.tensors.begin(), weights_.tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    for (size_t i = 1; i < weights_.tensors.size(); ++i)
      if (weights_.tensors[i].name == weights_.tensors[i - 1].name) fail("two data sets are named {}", weights_.tensors[i].name);
  }

 private:
  template <class... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw DataError("{}: HDF5 file: {}", weights_.source, fmt::format(format, std::forward<Args>(args)...));
  }
  void count_part() {
    if (++parts_ > max_parts) fail("more than {} parts; does it hold itself?", max_parts);
  }
  Piece expect(uint64_t address, std::string_view mark) const {
    const Piece p = file_.from(address);
    if (p.part(0, 4).view() != mark) fail("no {} at {}; the file is damaged", mark, address);
    return p;
  }

  // A group, whose members are read too, or a data set.
  void object(uint64_t address, const std::string& path, int depth) {
    if (++objects_ > max_objects) fail("more than {} objects; does a group hold itself?", max_objects);
    if (depth > max_depth) fail("groups are nested deeper than {}; does one hold itself? ({}...)", max_depth, path.substr(0, 60));
    const std::vector<Message> messages = header(address, path);
    const auto find = [&](uint64_t kind) {
      const auto found = std::find_if(messages.begin(), messages.end(), [&](const Message& m) { return m.kind == kind; });
      return found == messages.end() ? nullptr : &*found;
    };
    for (const Message& m : messages)
      if (m.kind == kind_attribute) attribute(m.data, path);
    if (find(kind_link) || find(kind_link_info))
      fail("{} has links that lead elsewhere, or is of the newer kind of groups; Keras writes neither",
           path.empty() ? "/" : path);
    if (const Message* table = find(kind_symbol_table)) return group(table->data, path, depth);
    const Message *type = find(kind_datatype), *space = find(kind_dataspace), *layout = find(kind_layout);
    if (!type || !space || !layout) {
      if (type || space || layout) fail("{} is no whole data set", path);
      return;
    }
    if (find(kind_external)) fail("the data of {} are in another file, which is not read", path);
    if (find(kind_filters)) fail("{} is compressed, which Keras does not do", path);
    if ((type->flags | space->flags | layout->flags) & 2) fail("{} has its type elsewhere", path);
    dataset(*type, *space, *layout, path);
  }

  std::vector<Message> header(uint64_t address, const std::string& path) {
    const Piece start = file_.from(address);
    if (start.number(0, 1) != 1)
      fail("{}: an object header of version {}, want 1", path.empty() ? "/" : path, start.number(0, 1));
    std::vector<Piece> blocks{start.part(16, start.number(8, 4))};
    std::vector<Message> messages;
    for (size_t b = 0; b < blocks.size(); ++b) {
      const Piece block = blocks[b];
      for (uint64_t at = 0; at + 8 <= block.size();) {
        count_part();
        const uint64_t size = block.number(at + 2, 2);
        const Message m{block.number(at, 2), block.number(at + 4, 1), block.part(at + 8, size)};
        at += 8 + size;
        if (m.kind != kind_continuation) {
          if (m.kind != 0) messages.push_back(m);
          continue;
        }
        if (blocks.size() > 1000) fail("{}: more than 1,000 continuations; does one hold itself?", path);
        blocks.push_back(file_.part(m.data.number(0, 8), m.data.number(8, 8)));
      }
      if (messages.size() > max_messages) fail("{}: more than {} messages", path.substr(0, 60), max_messages);
    }
    return messages;
  }

  void group(const Piece& table, const std::string& path, int depth) {
    const Piece heap = expect(table.number(8, 8), "HEAP");
    const Piece names = file_.part(heap.number(24, 8), heap.number(8, 8));
    tree(table.number(0, 8), names, path, depth, 0);
  }

  void tree(uint64_t address, const Piece& names, const std::string& path, int depth, int tree_depth) {
    const Piece node = expect(address, "TREE");
    const uint64_t level = node.number(5, 1), count = node.number(6, 2);
    if (node.number(4, 1) != 0) fail("{}: a tree that is no group's", path);
    if (tree_depth > 16) fail("{}: a tree deeper than 16; does it hold itself?", path);
    for (uint64_t i = 0; i < count; ++i) {
      count_part();
      const uint64_t child = node.number(24 + 16 * i + 8, 8);
      if (level > 0) {
        tree(child, names, path, depth, tree_depth + 1);
      } else {
        symbols(child, names, path, depth);
      }
    }
  }

  void symbols(uint64_t address, const Piece& names, const std::string& path, int depth) {
    const Piece node = expect(address, "SNOD");
    for (uint64_t i = 0; i < node.number(6, 2); ++i) {
      count_part();
      const Piece entry = node.part(8 + 40 * i, 40);
      const std::string_view name = names.from(entry.number(0, 8)).text();
      if (name.empty() || name.size() + path.size() >= max_name)
        fail("a name of {} bytes in {}", name.size(), path.substr(0, 60));
      if (count_code_points(name, 0x10ffff) < 0) fail("a name in {} is no valid UTF-8", path);
      const std::string inner = path.empty() ? std::string(name) : path + "/" + std::string(name);
      if (entry.number(16, 4) == 2 || entry.number(8, 8) == undefined)
        fail("{} is a link to a name, which is not followed", inner);
      object(entry.number(8, 8), inner, depth + 1);
    }
  }

  Type type_of(const Piece& m) const {
    Type t;
    const uint64_t kind = m.number(0, 1) & 15, bits = m.number(1, 3);
    t.size = m.number(4, 4);
    t.big_endian = bits & 1;
    const bool whole = kind <= 1 && m.number(8, 2) == 0 && m.number(10, 2) == 8 * t.size;
    if (kind == 0 && whole && std::has_single_bit(t.size) && t.size <= 8) {
      t.kind = Type::Class::integer;
      t.dtype = fmt::format("{}{}", bits & 8 ? 'I' : 'U', 8 * t.size);
    } else if (kind == 1 && whole && !(bits & 64)) {
      // Where the exponent is, its width, the width of the mantissa: IEEE's and bfloat16's.
      const std::array<uint64_t, 4> form{t.size, m.number(12, 1), m.number(13, 1), m.number(15, 1)};
      const std::pair<std::array<uint64_t, 4>, const char*> known[] = {
          {{2, 10, 5, 10}, "F16"}, {{2, 7, 8, 7}, "BF16"}, {{4, 23, 8, 23}, "F32"}, {{8, 52, 11, 52}, "F64"}};
      for (const auto& [want, name] : known)
        if (form == want) t.dtype = name;
      if (!t.dtype.empty()) t.kind = Type::Class::real;
    } else if (kind == 3) {
      t.kind = Type::Class::text;
    } else if (kind == 9 && (bits & 15) == 1 && t.size == 16) {
      t.kind = Type::Class::text_elsewhere;
    }
    return t;
  }

  Space space_of(const Piece& m, const std::string& path) const {
    const uint64_t version = m.number(0, 1), rank = m.number(1, 1);
    if (version != 1 && version != 2) fail("{}: a data space of version {}", path, version);
    if (rank > max_rank) fail("{}: {} dimensions", path, rank);
    Space s;
    s.null = version == 2 && m.number(3, 1) == 2;
    for (uint64_t a = 0; a < rank; ++a) {
      const uint64_t side = m.number((version == 1 ? 8 : 4) + 8 * a, 8);
      if (side > uint64_t{1} << 62) fail("{}: a side of {}", path, side);
      s.shape.push_back(static_cast<int64_t>(side));
    }
    return s;
  }

  void dataset(const Message& type, const Message& space, const Message& layout, const std::string& path) {
    const Type t = type_of(type.data);
    if (t.dtype.empty()) return;  // texts and tables are no weights
    const Space s = space_of(space.data, path);
    if (s.null) return;
    count_text(path.size());
    StoredTensor tensor;
    tensor.name = path;
    tensor.dtype = t.dtype;
    tensor.shape = s.shape;
    tensor.strides = dense_strides(s.shape);
    tensor.big_endian = t.big_endian;
    if (layout.data.number(0, 1) != 3) fail("{}: a layout of version {}, want 3", path, layout.data.number(0, 1));
    const uint64_t kind = layout.data.number(1, 1);
    Piece data;
    if (kind == 0) {
      data = layout.data.part(4, layout.data.number(2, 2));
    } else if (kind == 1) {
      const uint64_t address = layout.data.number(2, 8);
      if (address != undefined) data = file_.part(address, layout.data.number(10, 8));
    } else {
      fail("{} is stored in chunks, which Keras does not do; save it with Keras again", path);
    }
    tensor.storage = plain_storage(data.bytes(), weights_.mapped);
    check_stored(tensor, weights_.source);
    weights_.tensors.push_back(std::move(tensor));
  }

  void count_text(uint64_t size) {
    text_bytes_ += size;
    if (text_bytes_ > static_cast<uint64_t>(file_limits().string_bytes))
      fail("names and texts of more than {} bytes{}", file_limits().string_bytes, raise_hint("string_bytes"));
  }

  void add_text(const std::string& name, std::string_view value) {
    count_text(value.size() + name.size());
    if (count_code_points(value, 0x10ffff) >= 0) weights_.scalars.emplace(name, std::string(value));
  }

  // Text `i` of an attribute's values.
  std::string_view text_of(const Type& t, const Piece& values, uint64_t i) {
    const Piece value = values.part(i * t.size, t.size);
    if (t.kind == Type::Class::text) return value.text();
    const uint64_t length = value.number(0, 4), address = value.number(4, 8), index = value.number(12, 4);
    if (length == 0) return {};
    const Piece heap = expect(address, "GCOL");
    const Piece objects = heap.part(0, heap.number(8, 8));
    for (uint64_t at = 16; at + 16 <= objects.size();) {
      count_part();
      const uint64_t size = objects.number(at + 8, 8), found = objects.number(at, 2);
      if (found == 0) break;
      if (found == index) return objects.part(at + 16, std::min(length, size)).view();
      objects.part(at + 16, size);
      at += 16 + (size + 7) / 8 * 8;
    }
    fail("a text of an attribute is not where it should be ({} at {})", index, address);
  }

  void attribute(const Piece& m, const std::string& path) {
    const uint64_t version = m.number(0, 1);
    if (version < 1 || version > 3) fail("{}: an attribute of version {}", path, version);
    if (version > 1 && m.number(1, 1) != 0) return;  // its type is elsewhere
    uint64_t at = version == 3 ? 9 : 8;
    const auto next = [&](uint64_t size) {
      const Piece p = m.part(at, size);
      at += version == 1 ? (size + 7) / 8 * 8 : size;
      return p;
    };
    const Piece name = next(m.number(2, 2)), type = next(m.number(4, 2)), space = next(m.number(6, 2));
    const std::string own(name.text());
    if (own.size() + path.size() >= max_name || count_code_points(own, 0x10ffff) < 0) fail("{}: the name of an attribute", path);
    const std::string full = path.empty() ? own : path + "/" + own;
    const Type t = type_of(type);
    const Space s = space_of(space, full);
    if (s.null) return;
    const bool text = t.kind == Type::Class::text || t.kind == Type::Class::text_elsewhere;
    if (text && s.shape.empty()) return add_text(full, text_of(t, m.from(at), 0));
    if (text && s.shape.size() == 1 && own == "layer_names") {
      if (s.shape[0] > max_objects) fail("{}: {} names", full, s.shape[0]);
      for (int64_t i = 0; i < s.shape[0]; ++i)
        add_text(fmt::format("{}/{}", full, i), text_of(t, m.from(at), static_cast<uint64_t>(i)));
    }
    if (t.dtype.empty() || !s.shape.empty() || t.big_endian || t.dtype == "BF16" || t.dtype == "F16") return;
    const double value = element_reader(t.dtype)(m.part(at, t.size).bytes().data(), 0);
    if (t.kind == Type::Class::real) weights_.scalars.emplace(full, value);
    if (t.kind == Type::Class::integer && std::abs(value) < 0x1p53) weights_.scalars.emplace(full, static_cast<int64_t>(value));
  }

  Weights& weights_;
  Piece whole_, file_;  // addresses count from the beginning of file_
  uint64_t text_bytes_ = 0;
  int64_t objects_ = 0, parts_ = 0;
};

}  // namespace

bool looks_like_hdf5(std::span<const std::byte> bytes) {
  return bytes.size() >= signature.size() && std::memcmp(bytes.data(), signature.data(), signature.size()) == 0;
}

void read_hdf5(std::span<const std::byte> bytes, Weights& weights) {
  weights.format = "Keras (HDF5)";
  Reader(bytes, weights).read();
}

}  // namespace glia
