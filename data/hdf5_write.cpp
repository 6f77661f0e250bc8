// Writes the part of HDF5 that hdf5.h reads: superblock 0, groups by symbol tables, data in one piece (format specification 3.0,
// chapters II to IV). Sizes in bytes, all numbers little-endian.
#include <algorithm>
#include <map>
#include <memory>

#include "data/hdf5.h"
#include "tensor/error.h"

namespace glia {
namespace {

constexpr uint64_t undefined = ~uint64_t{0};
constexpr size_t superblock_size = 96;
constexpr size_t leaf = 8;  // members of a symbol table node, as h5py has them

struct Member {
  std::map<std::string, std::unique_ptr<Member>> members;  // of a group, in the order that the format wants
  const SafetensorsEntry* data = nullptr;                  // of a data set
};

[[noreturn]] void fail_name(const SafetensorsEntry& e) {
  throw DataError("\"{}\" cannot be the name of a data set in an HDF5 file: parts between / want a text, and one object each",
                  e.name);
}

void place(Member& root, const SafetensorsEntry& e) {
  Member* at = &root;
  for (size_t begin = 0; begin <= e.name.size();) {
    const size_t end = std::min(e.name.find('/', begin), e.name.size());
    const std::string part = e.name.substr(begin, end - begin);
    if (part.empty() || part == "." || part.find('\0') != part.npos || at->data) fail_name(e);
    std::unique_ptr<Member>& next = at->members[part];
    if (!next) next = std::make_unique<Member>();
    at = next.get();
    begin = end + 1;
  }
  if (at->data || !at->members.empty()) fail_name(e);
  at->data = &e;
}

// All that comes before the data: one object behind the other, members before their groups.
class Structure {
 public:
  // `data`: where the first data set's bytes begin. `chunks`: of the largest group.
  Structure(const Member& root, uint64_t data, uint64_t end, size_t chunks)
      : data_(data), tree_rank_(std::max<size_t>(16, (chunks + 1) / 2)) {
    out_.assign(superblock_size, '\0');
    const uint64_t address = object(root);
    std::string objects = std::move(out_);
    out_.clear();
    superblock(address, end);
    out_ += objects.substr(superblock_size);
  }
  std::string take() { return std::move(out_); }

 private:
  void put(uint64_t value, size_t bytes) {
    for (; bytes > 0; --bytes, value >>= 8) out_ += static_cast<char>(value & 0xff);
  }
  void pad_to(size_t size) { out_.resize(size, '\0'); }
  void align() { pad_to((out_.size() + 7) / 8 * 8); }

  void superblock(uint64_t root, uint64_t end) {
    out_ += "\x89HDF\r\n\x1a\n";
    put(0, 5);           // versions
    out_ += "\x08\x08";  // bytes of an address and of a length
    put(0, 1);
    put(leaf / 2, 2);
    put(tree_rank_, 2);
    put(0, 4);
    for (const uint64_t v : {uint64_t{0}, undefined, end, undefined}) put(v, 8);  // base, free space, end of the file, driver
    symbol(0, root);
  }

  void symbol(uint64_t name, uint64_t header) {
    put(name, 8);
    put(header, 8);
    put(0, 24);  // nothing is cached
  }

  uint64_t object(const Member& m) { return m.data ? data_set(*m.data) : group(m); }

  // The header of an object, around its messages.
  template <class Messages>
  uint64_t header(uint64_t count, Messages messages) {
    align();
    const uint64_t at = out_.size();
    put(1, 2);
    put(count, 2);
    put(1, 4);  // links to it
    put(0, 8);
    messages();
    const uint64_t size = out_.size() - at - 16;
    for (size_t i = 0; i < 4; ++i) out_[static_cast<size_t>(at) + 8 + i] = static_cast<char>(size >> 8 * i & 0xff);
    return at;
  }
  void message(uint64_t kind, uint64_t size) {
    put(kind, 2);
    put(size, 2);
    put(0, 4);
  }

  uint64_t data_set(const SafetensorsEntry& e) {
    return header(3, [&] {
      message(1, 8 + 8 * e.shape.size());  // data space
      put(1, 1);
      put(e.shape.size(), 1);
      put(0, 6);
      for (const int64_t side : e.shape) put(static_cast<uint64_t>(side), 8);
      type(e);
      message(8, 24);  // layout: in one piece
      put(0x103, 2);
      put(e.begin == e.end ? undefined : data_ + e.begin, 8);
      put(e.end - e.begin, 8);
      put(0, 6);
    });
  }

  void type(const SafetensorsEntry& e) {
    struct Real {
      uint64_t bytes, exponent_at, exponent_bits, bias;
    };
    static const std::map<std::string, Real> reals{{"F16", {2, 10, 5, 15}}, {"F32", {4, 23, 8, 127}}, {"F64", {8, 52, 11, 1023}}};
    const auto real = reals.find(e.dtype);
    if (real != reals.end()) {
      const Real& r = real->second;
      message(3, 24);
      put(0x11, 1);
      put(0x20 | (8 * r.bytes - 1) << 8, 3);  // the mantissa's first bit is not stored; where the sign is
      put(r.bytes, 4);
      put(0, 2);
      put(8 * r.bytes, 2);
      put(r.exponent_at, 1);
      put(r.exponent_bits, 1);
      put(0, 1);
      put(r.exponent_at, 1);  // bits of the mantissa
      put(r.bias, 4);
      put(0, 4);
    } else {
      const uint64_t bytes = stored_bytes_of(e.dtype);
      message(3, 16);
      put(0x10, 1);
      put(e.dtype[0] == 'I' ? 8 : 0, 3);  // signed
      put(bytes, 4);
      put(0, 2);
      put(8 * bytes, 2);
      put(0, 4);
    }
  }

  uint64_t group(const Member& m) {
    std::string names(8, '\0');                          // the empty one is less than all others
    std::vector<std::pair<uint64_t, uint64_t>> symbols;  // where the name is, and the object
    for (const auto& [name, member] : m.members) {
      symbols.emplace_back(names.size(), object(*member));
      names += name;
      names.resize((names.size() + 8) / 8 * 8, '\0');
    }
    align();
    const uint64_t heap = out_.size();
    out_ += "HEAP";
    put(0, 4);
    put(names.size(), 8);
    put(1, 8);  // nothing of it is free
    put(heap + 32, 8);
    out_ += names;
    std::vector<uint64_t> tables;
    for (size_t i = 0; i < symbols.size(); i += leaf) {
      tables.push_back(out_.size());
      const size_t count = std::min(leaf, symbols.size() - i);
      out_ += "SNOD";
      put(1, 2);
      put(count, 2);
      for (size_t k = i; k < i + count; ++k) symbol(symbols[k].first, symbols[k].second);
      pad_to(static_cast<size_t>(tables.back()) + 8 + 40 * leaf);
    }
    const uint64_t tree = out_.size();
    out_ += "TREE";
    put(0, 2);
    put(tables.size(), 2);
    put(undefined, 8);
    put(undefined, 8);
    put(0, 8);
    for (size_t t = 0; t < tables.size(); ++t) {
      put(tables[t], 8);
      put(symbols[std::min(leaf * (t + 1), symbols.size()) - 1].first, 8);  // the last name in it
    }
    pad_to(static_cast<size_t>(tree) + 24 + 8 * (4 * tree_rank_ + 1));
    return header(1, [&] {
      message(17, 16);
      put(tree, 8);
      put(heap, 8);
    });
  }

  uint64_t data_;
  size_t tree_rank_;  // half of the members of a tree's node
  std::string out_;
};

size_t most_members(const Member& m) {
  size_t most = m.members.size();
  for (const auto& [name, member] : m.members) most = std::max(most, most_members(*member));
  return most;
}

}  // namespace

std::string hdf5_head(std::vector<SafetensorsEntry>& entries) {
  Member root;
  uint64_t next = 0, end = 0;
  for (SafetensorsEntry& e : entries) {
    const bool number = e.dtype == "F16" || e.dtype == "F32" || e.dtype == "F64" || e.dtype[0] == 'I' || e.dtype[0] == 'U';
    if (!number) throw DataError("\"{}\" is {}, which an HDF5 file for Keras does not hold", e.name, e.dtype);
    place(root, e);
    e.begin = next;
    end = e.end = next + bytes_wanted(e).value();
    next = (end + 7) / 8 * 8;
  }
  const size_t most = most_members(root);
  if (most > leaf * 0xffff)
    throw DataError("a group of {} data sets, an HDF5 file for Keras holds at most {}", most, leaf * 0xffff);
  const size_t chunks = (most + leaf - 1) / leaf;
  const auto make = [&](uint64_t data) {
    std::string head = Structure(root, data, data + end, chunks).take();
    head.resize((head.size() + 7) / 8 * 8, '\0');
    return head;
  };
  std::string head = make(make(0).size());  // its size does not depend on where the data are
  for (SafetensorsEntry& e : entries) {
    e.begin += head.size();
    e.end += head.size();
  }
  return head;
}

}  // namespace glia
