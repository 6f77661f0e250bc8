#pragma once
// safetensors: named tensors in one file. Layout: u64 header length; a JSON object {"NAME": {"dtype", "shape", "data_offsets"},
// ..., "__metadata__": {string: string}}; the bytes of all tensors, little endian, without gap or overlap.
// Format: https://github.com/huggingface/safetensors. The reader takes nothing on trust and keeps only the header in memory.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/atomic_file.h"
#include "tensor/tensor.h"

namespace glia {

using Metadata = std::map<std::string, std::string>;

struct SafetensorsEntry {
  std::string name;
  std::string dtype;           // as in the file: F32, I64, U16 ...
  std::vector<int64_t> shape;  // any rank; load() needs at most Shape::max_rank
  uint64_t begin = 0;          // bytes from the start of the data
  uint64_t end = 0;
};

class SafetensorsFile {
 public:
  // Reads and checks the header. DataError (with the byte offset) for anything out of the format, IoError if it can't be opened.
  explicit SafetensorsFile(const std::filesystem::path& path);
  // The same over bytes that outlive this object; `name` stands in messages. `mapped`: they are a MappedFile's.
  SafetensorsFile(std::span<const std::byte> bytes, std::string name, bool mapped = false);

  const Metadata& metadata() const { return metadata_; }
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }  // in the order of the data
  bool contains(std::string_view name) const { return index_.find(name) != index_.end(); }
  const SafetensorsEntry& entry(std::string_view name) const;  // DataError naming the nearest names when absent

  // A copy of the tensor. I8, I16, U16 become int32; U32, U64 int64 (DataError above its largest); F8 types are refused.
  Tensor load(std::string_view name) const;
  std::span<const std::byte> raw(const SafetensorsEntry& entry) const;

  // Compares the xxh3-64 checksums that write_safetensors leaves in the metadata, of the header and of each tensor. False when
  // the file has none; DataError naming the first that differs.
  bool verify() const;

 private:
  void parse();
  [[noreturn]] void fail(std::string_view what) const;

  std::string name_;
  std::optional<MappedFile> file_;
  bool mapped_ = false;
  std::span<const std::byte> bytes_;
  std::span<const std::byte> data_;
  Metadata metadata_;
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, size_t, std::less<>> index_;
};

struct SafetensorsOptions {
  bool checksums = false;  // add the metadata that verify() checks
};

// Calls take() with the bytes of the tensor of this name, in C order and little endian.
using TakeBytes = std::function<void(std::span<const std::byte>)>;
using EntryBytes = std::function<void(const std::string& name, const TakeBytes& take)>;

// Writes through an AtomicFile: names sorted within element size (largest first), so that each tensor is aligned to its elements.
// The bytes depend only on the content. Tensors on a device are copied to the host one by one.
void write_safetensors(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors,
                       const Metadata& metadata = {}, SafetensorsOptions options = {});
// The same of tensors that lie elsewhere, of any stored type: offsets in `entries` are not looked at. One tensor at a time is asked for.
void write_safetensors(const std::filesystem::path& path, std::vector<SafetensorsEntry> entries, const EntryBytes& bytes_of,
                       const Metadata& metadata, SafetensorsOptions options = {});

}  // namespace glia
