#pragma once
// Files as wholes: written so that the final name always holds a complete file, read with a cap, or mapped into memory.
// Every failing system call is an IoError with the path and the system's text.
#include <sys/types.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace glia {

// The system calls that writing uses, so that tests can let the n-th one fail. Signatures and results are POSIX's.
struct FileCalls {
  int (*open)(const char* path, int flags, unsigned mode);
  ssize_t (*write)(int fd, const void* data, size_t bytes);
  int (*fsync)(int fd);
  int (*close)(int fd);
  int (*rename)(const char* from, const char* to);
  int (*link)(const char* from, const char* to);
  int (*unlink)(const char* path);
};
FileCalls& file_calls();

// A file that appears under its name only when all of it is on disk: bytes go to `.NAME.tmp-PID` in the same folder;
// commit() writes the rest, syncs, renames, and syncs the folder. Without commit() nothing changes. A target that exists and
// is no regular file (/dev/stdout, a pipe) is written directly. One writer per target at a time.
// Invariant: fd_ >= 0 from construction until commit or discard; temporary_ is empty when writing directly or when renamed.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);  // throws IoError, e.g. for a read-only folder
  ~AtomicFile();                                           // discards unless committed
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t bytes);
  void write(std::span<const std::byte> bytes) { write(bytes.data(), bytes.size()); }
  void write(std::string_view text) { write(text.data(), text.size()); }
  uint64_t size() const { return size_; }  // bytes written so far
  void commit();
  void discard() noexcept;

 private:
  void write_through(const char* data, size_t bytes);
  void flush();

  std::filesystem::path path_;       // final name, links resolved
  std::filesystem::path temporary_;  // empty: none
  std::string buffer_;
  uint64_t size_ = 0;
  int fd_ = -1;
};

// `from` takes the place of `to`, whether there was one or not, in one step. Throws IoError; durable with sync_folder().
void rename_over(const std::filesystem::path& from, const std::filesystem::path& to);

// AtomicFile in one call.
void write_file(const std::filesystem::path& path, std::string_view content);

// Removes `.*.tmp-PID` files that processes which no longer run left in `folder`; returns how many. A folder that does not
// exist holds none.
int remove_stale_temporaries(const std::filesystem::path& folder);

// Makes renames and removals in `folder` durable.
void sync_folder(const std::filesystem::path& folder);

inline constexpr uint64_t max_text_file = uint64_t{1} << 30;

// The whole file. DataError when it is larger than max_bytes; IoError when it can't be read or is a folder.
std::string read_file(const std::filesystem::path& path, uint64_t max_bytes = max_text_file);

// A regular file as read-only memory. The file must not be cut short by others while it is mapped; replacing it by rename, as
// AtomicFile does, is fine.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }

  // Of a part of a mapping: this process no longer holds its pages in memory, until it reads them again.
  static void release(std::span<const std::byte> part) noexcept;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Hands `bytes` to take() in pieces of some MB, and gives each piece's pages back after it where they are `mapped` (of a MappedFile):
// what was read from there is not held twice.
template <class Take>
void in_pieces(std::span<const std::byte> bytes, bool mapped, Take take) {
  constexpr size_t piece = size_t{4} << 20;
  for (; !bytes.empty(); bytes = bytes.subspan(std::min(piece, bytes.size()))) {
    const auto part = bytes.first(std::min(piece, bytes.size()));
    take(part);
    if (mapped) MappedFile::release(part);
  }
}

}  // namespace glia
