#pragma once
// ZIP archives with stored and deflated members: .npz, ImageJ's RoiSet.zip, PyTorch's .pth. Format: PKWARE APPNOTE 6.3.
// The reader wants a plain archive: nothing before, between or after what the directory lists, no overlaps, no names that leave
// the folder, no encryption. Zip64 is read.
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/atomic_file.h"
#include "data/limits.h"

namespace glia {

struct ZipEntry {
  std::string name;
  uint64_t size = 0;        // decoded bytes
  uint64_t compressed = 0;  // bytes in the file
  uint64_t header = 0;      // offset of the local header
  uint64_t data = 0;        // offset of the compressed bytes
  uint32_t crc = 0;         // CRC-32 of the decoded bytes
  bool deflated = false;
  bool utf8 = false;  // the directory says that the name is
};

// Whether a member may have this name: it stays in the archive's folder and means the same to all programs.
bool is_zip_name(std::string_view name);

// Checked against the directory before memory is taken.
struct ZipLimits {
  uint64_t entries = 65'536;
  uint64_t bytes = static_cast<uint64_t>(file_limits().decoded_bytes);   // of all deflated members, decoded
  uint64_t member = static_cast<uint64_t>(file_limits().decoded_bytes);  // of one of them
  uint64_t ratio = static_cast<uint64_t>(file_limits().zip_ratio);       // decoded bytes per compressed byte of a member ...
  uint64_t free_bytes = uint64_t{4} << 20;                               // ... that decodes to more than this
  const char* raised_by = "decoded_bytes";                               // the limit that `member` comes from
};

class ZipFile {
 public:
  explicit ZipFile(const std::filesystem::path& path, const ZipLimits& limits = {});  // DataError, IoError
  // The same over bytes that outlive this object; `name` stands in messages. `mapped`: they are a MappedFile's.
  ZipFile(std::span<const std::byte> bytes, std::string name, const ZipLimits& limits = {}, bool mapped = false);

  const std::vector<ZipEntry>& entries() const { return entries_; }  // in the directory's order
  bool contains(std::string_view name) const { return index_.find(name) != index_.end(); }
  const ZipEntry& entry(std::string_view name) const;

  std::span<const std::byte> stored(const ZipEntry& entry) const;   // the bytes in the file, compressed or not, unchecked
  std::span<const std::byte> checked(const ZipEntry& entry) const;  // of a stored member; CRC-32 is checked
  std::vector<std::byte> read(const ZipEntry& entry) const;         // decoded; size and CRC-32 are checked
  // The same into memory that is there already: what it begins with into `head`, the rest behind it, entry.size bytes together.
  void read_into(const ZipEntry& entry, std::span<std::byte> head, std::span<std::byte> rest) const;
  std::vector<std::byte> head(const ZipEntry& entry, size_t count) const;  // the first bytes, decoded; unchecked

 private:
  void parse(const ZipLimits& limits);
  void read_directory(uint64_t begin, uint64_t end, uint64_t count, const ZipLimits& limits);
  void check_layout(uint64_t directory);
  [[noreturn]] void fail(std::string_view what, uint64_t at) const;
  uint64_t number(uint64_t at, size_t bytes) const;  // little endian; DataError beyond the end

  std::string name_;
  std::optional<MappedFile> file_;
  bool mapped_ = false;
  std::span<const std::byte> bytes_;
  std::vector<ZipEntry> entries_;
  std::map<std::string, size_t, std::less<>> index_;
};

// Writes members one by one; the file appears at commit(). Same content, same bytes: the date is always 1980-01-01.
class ZipWriter {
 public:
  explicit ZipWriter(const std::filesystem::path& path) : file_(path), path_(path) {}
  void add(const std::string& name, std::string_view content, bool deflate = true);  // below 4 GiB; a name once
  void commit();

 private:
  AtomicFile file_;
  std::filesystem::path path_;
  std::vector<ZipEntry> entries_;
  std::map<std::string, size_t, std::less<>> index_;
};

}  // namespace glia
