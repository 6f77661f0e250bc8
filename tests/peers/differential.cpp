// What Glia's readers make of files, for tests/peers/differential.py: cases on stdin, each a letter (S safetensors, N npy, Z zip), four bytes
// of length and the file; on stdout a line for each, the CRC-32 of all that was read, or "no" where it is an error.
#include <zlib.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "data/npy.h"
#include "data/safetensors.h"
#include "data/zip.h"
#include "tensor/error.h"

namespace glia {
namespace {

class Content {
 public:
  void add(const std::string& text) { add(std::as_bytes(std::span(text.data(), text.size() + 1))); }  // with its zero
  void add(std::span<const std::byte> bytes) {
    if (bytes.empty()) return;  // of a null pointer zlib gives the initial value
    crc_ = ::crc32_z(crc_, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
  }
  std::string text() const { return fmt::format("{:08x}", crc_); }

 private:
  uLong crc_ = 0;
};

std::string read_case(int kind, std::span<const std::byte> bytes) {
  Content content;
  if (kind == 'S') {
    const SafetensorsFile file(bytes, "case");
    std::map<std::string, const SafetensorsEntry*> by_name;
    for (const SafetensorsEntry& e : file.entries()) by_name[e.name] = &e;
    for (const auto& [name, e] : by_name) {
      content.add(name);
      content.add(fmt::format("{} {}", e->dtype, fmt::join(e->shape, ",")));
      content.add(file.raw(*e));
    }
    for (const auto& [key, value] : file.metadata()) content.add(key), content.add(value);
  } else if (kind == 'N') {
    const StoredTensor t = parse_npy(bytes, "case");
    content.add(fmt::format("{} {}", t.dtype, fmt::join(t.shape, ",")));
    content.add(t.bytes("case").view);
  } else {
    const ZipFile file(bytes, "case");
    for (const ZipEntry& e : file.entries()) {
      content.add(e.name);
      content.add(file.read(e));
    }
  }
  return content.text();
}

}  // namespace
}  // namespace glia

int main() {
  uint32_t length = 0;
  for (int kind = 0; (kind = std::getchar()) != EOF && std::fread(&length, sizeof length, 1, stdin) == 1;) {
    std::vector<std::byte> bytes(length);
    if (std::fread(bytes.data(), 1, length, stdin) != length) return 1;
    std::string line = "no";
    try {
      line = glia::read_case(kind, bytes);
    } catch (const glia::DataError&) {
    }
    std::puts(line.c_str());
  }
}
