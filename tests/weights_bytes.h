#pragma once
// Bytes of pickles and archives, made by hand: as they should be, and as they should not.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace glia::tests {

using namespace std::string_literals;

inline std::string little(uint64_t value, int bytes) {
  std::string s;
  for (int i = 0; i < bytes; ++i) s += static_cast<char>(value >> 8 * i & 0xff);
  return s;
}
inline std::string text(std::string_view s) { return "X"s + little(s.size(), 4) + std::string(s); }

// {"a": VALUE}
inline std::string dict_of(const std::string& value) { return "\x80\2}"s + text("a") + value + "s."; }

// _rebuild_tensor_v2(storage id, offset, size, strides, False, OrderedDict())
inline std::string tensor(const std::string& id, const std::string& offset, const std::string& size, const std::string& strides) {
  return "ctorch._utils\n_rebuild_tensor_v2\n("s + id + "Q" + offset + size + strides + "\x89" +
         "ccollections\nOrderedDict\n)RtR";
}
inline std::string storage(int elements, const std::string& type = "FloatStorage", const std::string& key = "0") {
  return "("s + text("storage") + "ctorch\n" + type + "\n" + text(key) + text("cpu") + "J" +
         little(static_cast<uint64_t>(elements), 4) + "t";
}
inline std::string int4(int64_t v) { return "J"s + little(static_cast<uint64_t>(v), 4); }
inline std::string int8(int64_t v) { return "\x8a\x08"s + little(static_cast<uint64_t>(v), 8); }

// A stored archive in which every number can be wrong.
struct Member {
  std::string name, data;
  uint32_t crc = 0;
  int64_t size = -1;   // in the directory, where not the data's
  int64_t place = -1;  // of the local header, where not its own
};
inline uint32_t crc32_of(std::string_view s) {
  uint32_t c = ~0U;
  for (const char ch : s) {
    c ^= static_cast<uint8_t>(ch);
    for (int k = 0; k < 8; ++k) c = c & 1 ? c >> 1 ^ 0xedb88320 : c >> 1;
  }
  return ~c;
}
inline std::string zip_of(std::vector<Member> members) {
  std::string out, directory;
  for (const Member& m : members) {
    const uint64_t place = m.place < 0 ? out.size() : static_cast<uint64_t>(m.place);
    const uint64_t size = m.size < 0 ? m.data.size() : static_cast<uint64_t>(m.size);
    const std::string common = little(0, 2) + little(0, 2) + little(0, 4) + little(crc32_of(m.data) ^ m.crc, 4) +
                               little(size, 4) + little(size, 4) + little(m.name.size(), 2) + little(0, 2);
    out += "PK\3\4" + little(20, 2) + common + m.name + m.data;
    directory += "PK\1\2" + little(20, 2) + little(20, 2) + common + little(0, 2) + little(0, 2) + little(0, 2) + little(0, 4) +
                 little(place, 4) + m.name;
  }
  const std::string count = little(members.size(), 2);
  return out + directory + "PK\5\6" + little(0, 4) + count + count + little(directory.size(), 4) + little(out.size(), 4) +
         little(0, 2);
}
inline std::string torch_zip(const std::string& pickle, std::vector<Member> more = {{"a/data/0", std::string(16, '\0')}}) {
  more.push_back({"a/data.pkl", pickle});
  more.push_back({"a/version", "3\n"});
  return zip_of(more);
}
inline std::string torch_zip_of(const std::string& value) { return torch_zip(dict_of(value)); }
inline const std::string legacy_head = "\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\2M\xe9\3."s;
inline std::string legacy(const std::string& system, const std::string& rest) { return legacy_head + system + rest; }
inline const std::string little_endian = "\x80\2}"s + text("little_endian") + "\x88s.";
inline std::string safetensors(const std::string& header, const std::string& data) {
  return little(header.size(), 8) + header + data;
}
inline std::string numpy(const std::string& shape, const std::string& type, const std::string& data,
                         const std::string& fortran = "\x89") {
  return "cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85"s + "U\1b\x87R(K\1" + shape + "cnumpy\ndtype\n" +
         text(type) + "\x89\x88\x87R(K\3" + text("<") + "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"s + fortran + data + "tb";
}

}  // namespace glia::tests
