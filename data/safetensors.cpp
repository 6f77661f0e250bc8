// Reader and writer of safetensors; see the header for the layout.
#include "data/safetensors.h"

#include <fmt/format.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "data/limits.h"
#include "data/safetensors_header.h"
#include "data/stored_tensor.h"
#include "tensor/error.h"

namespace glia {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data are little endian");

constexpr const char* checksum_key = "xxh3_64";

std::string digest(std::span<const std::byte> bytes, bool mapped = false) {
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  in_pieces(bytes, mapped, [&state](std::span<const std::byte> part) { XXH3_64bits_update(&state, part.data(), part.size()); });
  return fmt::format("{:016x}", XXH3_64bits_digest(&state));
}

// Checksum of all that the header says but the checksums themselves.
std::string header_digest(const std::vector<SafetensorsEntry>& entries, const Metadata& metadata) {
  std::string text;
  for (const SafetensorsEntry& e : entries)
    text += fmt::format("{} {} {} [{}] {} {}\n", e.name.size(), e.name, e.dtype, fmt::join(e.shape, ","), e.begin, e.end);
  for (const auto& [key, value] : metadata) {
    if (key != checksum_key) text += fmt::format("{} {} {} {}\n", key.size(), key, value.size(), value);
  }
  return digest(std::as_bytes(std::span(text)));
}

// "NAME digest" lines, first the header's under an empty name. Names may hold any character but a line's end: those are escaped.
std::string checksum_line(std::string_view name, const std::string& digest) {
  std::string line = digest + " ";
  for (const char c : name) line += c == '\n' ? std::string("\\n") : c == '\\' ? std::string("\\\\") : std::string(1, c);
  return line + "\n";
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : name_(path.string()), file_(std::in_place, path), mapped_(true) {
  bytes_ = file_->bytes();
  parse();
}

SafetensorsFile::SafetensorsFile(std::span<const std::byte> bytes, std::string name, bool mapped)
    : name_(std::move(name)), mapped_(mapped), bytes_(bytes) {
  parse();
}

void SafetensorsFile::fail(std::string_view what) const { throw DataError("{}: not a valid safetensors file: {}", name_, what); }

void SafetensorsFile::parse() {
  uint64_t length = 0;
  if (bytes_.size() < sizeof length)
    fail(fmt::format("{} bytes, want at least 8; the file is empty or was cut off", bytes_.size()));
  std::memcpy(&length, bytes_.data(), sizeof length);
  const auto most = static_cast<uint64_t>(file_limits().safetensors_header);
  if (length > most)
    fail(fmt::format("header of {} bytes at offset 0, at most {} are allowed{}", length, most, raise_hint("safetensors_header")));
  if (length > bytes_.size() - 8)
    fail(fmt::format("header of {} bytes, but the file ends at byte {}; it was cut off", length, bytes_.size()));
  const char* header = reinterpret_cast<const char*>(bytes_.data()) + 8;
  if (length == 0 || header[0] != '{') fail("the header at byte 8 does not begin with '{'");

  const std::string error = parse_header({header, static_cast<size_t>(length)}, entries_, metadata_);
  if (!error.empty()) fail(error);
  data_ = bytes_.subspan(8 + static_cast<size_t>(length));

  std::sort(entries_.begin(), entries_.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  uint64_t at = 0;
  for (size_t i = 0; i < entries_.size(); ++i) {
    const SafetensorsEntry& e = entries_[i];
    if (!index_.emplace(e.name, i).second) fail(fmt::format("tensor \"{}\" twice", e.name));
    if (stored_bytes_of(e.dtype) == 0) fail(fmt::format("tensor \"{}\": unknown dtype \"{}\"", e.name, e.dtype));
    const auto wanted = bytes_wanted(e);
    if (!wanted) fail(fmt::format("tensor \"{}\": shape [{}] overflows", e.name, fmt::join(e.shape, ", ")));
    if (e.begin != at)
      fail(fmt::format("tensor \"{}\": data begin at {}, want {}; tensors overlap or leave a hole", e.name, e.begin, at));
    if (e.end < e.begin || e.end - e.begin != *wanted)
      fail(fmt::format("tensor \"{}\": data_offsets [{}, {}], but {} of shape [{}] takes {} bytes", e.name, e.begin, e.end,
                       e.dtype, fmt::join(e.shape, ", "), *wanted));
    if (e.end > data_.size())
      fail(fmt::format("tensor \"{}\": ends at byte {} of the data, but the file holds {}; it was cut off", e.name, e.end,
                       data_.size()));
    at = e.end;
  }
  if (at != data_.size()) fail(fmt::format("{} bytes after the last tensor", data_.size() - at));
}

const SafetensorsEntry& SafetensorsFile::entry(std::string_view name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) throw DataError("{}: no tensor \"{}\" among its {}", name_, name, entries_.size());
  return entries_[found->second];
}

std::span<const std::byte> SafetensorsFile::raw(const SafetensorsEntry& entry) const {
  return data_.subspan(static_cast<size_t>(entry.begin), static_cast<size_t>(entry.end - entry.begin));
}

Tensor SafetensorsFile::load(std::string_view name) const {
  const SafetensorsEntry& e = entry(name);
  return tensor_of_bytes(e.dtype, e.shape, raw(e), name_, name, mapped_);
}

bool SafetensorsFile::verify() const {
  const auto stored = metadata_.find(checksum_key);
  if (stored == metadata_.end()) return false;
  std::string_view rest = stored->second;
  const auto check = [&](std::string_view what, std::string_view name, const std::string& value) {
    const std::string line = checksum_line(name, value);
    if (rest.substr(0, line.size()) != line)
      throw DataError("{}: the checksum of {} is {}, the file says otherwise; it was damaged after it was written", name_, what,
                      value);
    rest.remove_prefix(line.size());
  };
  check("the header", "", header_digest(entries_, metadata_));
  for (const SafetensorsEntry& e : entries_) check(fmt::format("tensor \"{}\"", e.name), e.name, digest(raw(e), mapped_));
  if (!rest.empty()) throw DataError("{}: more checksums than tensors", name_);
  return true;
}

void write_safetensors(const std::filesystem::path& path, std::vector<SafetensorsEntry> entries, const EntryBytes& bytes_of,
                       const Metadata& metadata, SafetensorsOptions options) {
  std::sort(entries.begin(), entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    const size_t size_a = stored_bytes_of(a.dtype), size_b = stored_bytes_of(b.dtype);
    return size_a != size_b ? size_a > size_b : a.name < b.name;
  });
  uint64_t at = 0;
  for (SafetensorsEntry& e : entries) {
    const auto bytes = bytes_wanted(e);
    GLIA_CHECK(bytes, "{}: \"{}\": [{}] of {}", path.string(), e.name, fmt::join(e.shape, ", "), e.dtype);
    e.begin = at;
    e.end = at += *bytes;
  }
  // As the reader sorts: tensors of no bytes share their offsets and go by name.
  std::sort(entries.begin(), entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });

  Metadata all = metadata;
  all.erase(checksum_key);  // of another file
  if (options.checksums) {
    std::string lines = checksum_line("", header_digest(entries, all));
    for (const SafetensorsEntry& e : entries)
      bytes_of(e.name, [&](std::span<const std::byte> bytes) { lines += checksum_line(e.name, digest(bytes)); });
    all[checksum_key] = lines;
  }

  const std::string header = header_json(entries, all);
  if (const auto most = static_cast<uint64_t>(file_limits().safetensors_header); header.size() > most)
    throw DataError("{}: header of {} bytes, at most {} are allowed{}", path.string(), header.size(), most,
                    raise_hint("safetensors_header"));
  AtomicFile file(path);
  const uint64_t length = header.size();
  file.write(&length, sizeof length);
  file.write(header);
  for (const SafetensorsEntry& e : entries) bytes_of(e.name, [&](std::span<const std::byte> bytes) { file.write(bytes); });
  file.commit();
}

void write_safetensors(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors, const Metadata& metadata,
                       SafetensorsOptions options) {
  std::vector<SafetensorsEntry> entries;
  for (const auto& [name, tensor] : tensors) {
    GLIA_CHECK(tensor, "{}: \"{}\" is no tensor", path.string(), name);
    GLIA_CHECK(name != "__metadata__", "{}: \"__metadata__\" is no name for a tensor", path.string());
    const auto dims = tensor.shape().dims();
    entries.push_back({name, std::string(stored_name(tensor.dtype())), {dims.begin(), dims.end()}, 0, 0});
  }
  const EntryBytes bytes_of = [&tensors](const std::string& name, const TakeBytes& take) {
    const Tensor host = tensors.at(name).to(Device{});
    take({host.raw(), host.bytes()});
  };
  write_safetensors(path, std::move(entries), bytes_of, metadata, options);
}

}  // namespace glia
