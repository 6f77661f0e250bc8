// Writing by temporary file, sync and rename; reading whole files. See the protocol in the header.
#include "data/atomic_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <utility>

#include "tensor/error.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

constexpr size_t buffer_size = size_t{1} << 18;

const char* cause_of(int error) {
  switch (error) {
    case ENOSPC: return "; the disk is full";
    case EDQUOT: return "; the disk quota is used up";
    case EROFS: return "; the file system is read-only";
    case EACCES:
    case EPERM: return "; check the permissions of the file and its folder";
    case ENOENT: return "; check the path";
    case EFBIG: return "; the file is larger than the system or `ulimit -f` allows";
    case EMFILE:
    case ENFILE: return "; too many files are open";
    default: return "";
  }
}

[[noreturn]] void fail(const char* what, const fs::path& path, int error) {
  throw IoError("{}: cannot {}: {}{}", path.string(), what, std::strerror(error), cause_of(error));
}

// Repeats a call that a signal interrupted; not for ever, since a file system that is at fault must end in an error.
template <class F>
auto retried(F&& call) {
  auto result = call();
  for (int i = 0; i < 1000 && result < 0 && errno == EINTR; ++i) result = call();
  return result;
}

// Owns a descriptor for the length of a scope.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

// Opens for reading and checks that it is a regular file (a pipe or device could block or never end).
int open_regular(const fs::path& path, uint64_t& size) {
  const int fd = retried([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); });
  if (fd < 0) fail("open", path, errno);
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    throw IoError("{}: is {}, want a regular file", path.string(), S_ISDIR(info.st_mode) ? "a folder" : "no regular file");
  }
  size = static_cast<uint64_t>(info.st_size);
  return fd;
}

}  // namespace

FileCalls& file_calls() {
  static FileCalls calls{
      [](const char* path, int flags, unsigned mode) { return ::open(path, flags, mode); },
      [](int fd, const void* data, size_t bytes) { return ::write(fd, data, bytes); },
      [](int fd) { return ::fsync(fd); },
      [](int fd) { return ::close(fd); },
      [](const char* from, const char* to) { return std::rename(from, to); },
      [](const char* from, const char* to) { return ::link(from, to); },
      [](const char* path) { return ::unlink(path); },
  };
  return calls;
}

AtomicFile::AtomicFile(const fs::path& path) : path_(path) {
  std::error_code ignored;
  if (fs::is_symlink(path_, ignored)) {  // replace the file that a link points to, not the link
    if (const fs::path target = fs::weakly_canonical(path_, ignored); !ignored) path_ = target;
  }
  struct stat info {};
  const bool exists = ::stat(path_.c_str(), &info) == 0;
  if (exists && S_ISDIR(info.st_mode)) throw IoError("{}: is a folder, cannot write a file of that name", path.string());
  const auto open = [&](const fs::path& name, int flags) {
    return retried([&] { return file_calls().open(name.c_str(), O_WRONLY | O_CLOEXEC | flags, 0666); });
  };
  if (exists && !S_ISREG(info.st_mode)) {
    fd_ = open(path_, 0);
  } else {
    temporary_ = path_.parent_path() / fmt::format(".{}.tmp-{}", path_.filename().string(), ::getpid());
    fd_ = open(temporary_, O_CREAT | O_EXCL | O_NOFOLLOW);
    if (fd_ < 0 && errno == EEXIST) {  // left over by an earlier process of the same number
      file_calls().unlink(temporary_.c_str());
      fd_ = open(temporary_, O_CREAT | O_EXCL | O_NOFOLLOW);
    }
  }
  if (fd_ < 0) fail("create", path_, errno);
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() noexcept {
  if (fd_ >= 0) file_calls().close(std::exchange(fd_, -1));
  if (!temporary_.empty()) file_calls().unlink(temporary_.c_str());
  temporary_.clear();
}

void AtomicFile::write(const void* data, size_t bytes) {
  GLIA_CHECK(fd_ >= 0, "{}: written after commit", path_.string());
  size_ += bytes;
  if (buffer_.size() + bytes <= buffer_size) {
    buffer_.append(static_cast<const char*>(data), bytes);
    return;
  }
  flush();
  if (bytes <= buffer_size) {
    buffer_.append(static_cast<const char*>(data), bytes);
  } else {
    write_through(static_cast<const char*>(data), bytes);
  }
}

void AtomicFile::flush() {
  write_through(buffer_.data(), buffer_.size());
  buffer_.clear();
}

void AtomicFile::write_through(const char* data, size_t bytes) {
  while (bytes > 0) {
    const ssize_t n = retried([&] { return file_calls().write(fd_, data, bytes); });
    if (n < 0) fail("write", path_, errno);
    if (n == 0) fail("write", path_, EIO);
    data += n;
    bytes -= static_cast<size_t>(n);
  }
}

void AtomicFile::commit() {
  GLIA_CHECK(fd_ >= 0, "{}: committed twice", path_.string());
  flush();
  // Devices and pipes answer EINVAL: nothing to sync there.
  if (retried([&] { return file_calls().fsync(fd_); }) != 0 && !(temporary_.empty() && (errno == EINVAL || errno == EROFS)))
    fail("sync", path_, errno);
  // After close() fails with EINTR the descriptor is gone on Linux; the data were synced above.
  if (file_calls().close(std::exchange(fd_, -1)) != 0 && errno != EINTR) fail("close", path_, errno);
  if (temporary_.empty()) return;
  rename_over(temporary_, path_);
  temporary_.clear();
  sync_folder(path_.parent_path());
}

void rename_over(const fs::path& from, const fs::path& to) {
  if (retried([&] { return file_calls().rename(from.c_str(), to.c_str()); }) != 0) fail("rename", to, errno);
}

void write_file(const fs::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

void sync_folder(const fs::path& folder) {
  const fs::path name = folder.empty() ? fs::path(".") : folder;
  const Descriptor d{retried([&] { return file_calls().open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0); })};
  if (d.fd < 0) {
    if (errno == EACCES) return;  // a folder that one may write into but not list can't be synced
    fail("open the folder", name, errno);
  }
  if (retried([&] { return file_calls().fsync(d.fd); }) != 0 && errno != EINVAL) fail("sync the folder", name, errno);
}

int remove_stale_temporaries(const fs::path& folder) {
  int removed = 0;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const size_t mark = name.rfind(".tmp-");
    if (name.empty() || name[0] != '.' || mark == std::string::npos || mark == 0) continue;
    pid_t pid = 0;
    const char* last = name.data() + name.size();
    const auto [stop, bad] = std::from_chars(name.data() + mark + 5, last, pid);
    if (bad != std::errc{} || stop != last || pid <= 0) continue;
    if (::kill(pid, 0) == 0 || errno != ESRCH) continue;  // the process still runs
    if (file_calls().unlink(it->path().c_str()) == 0) ++removed;
  }
  return removed;
}

std::string read_file(const fs::path& path, uint64_t max_bytes) {
  uint64_t size = 0;
  const Descriptor d{open_regular(path, size)};
  std::string content;
  // Sizes of files in /proc are 0, and a file may grow: read until the end is seen, never beyond the cap.
  for (uint64_t chunk = std::max<uint64_t>(size + 1, 4096);; chunk = std::max<uint64_t>(content.size(), 4096)) {
    if (size > max_bytes || content.size() > max_bytes)
      throw DataError("{}: {} bytes, more than the {} allowed for this kind of file", path.string(),
                      std::max<uint64_t>(size, content.size()), max_bytes);
    const size_t old = content.size();
    content.resize(old + static_cast<size_t>(chunk));
    const ssize_t n = retried([&] { return ::read(d.fd, content.data() + old, static_cast<size_t>(chunk)); });
    if (n < 0) fail("read", path, errno);
    content.resize(old + static_cast<size_t>(n));
    if (n == 0) return content;
  }
}

MappedFile::MappedFile(const fs::path& path) {
  uint64_t size = 0;
  const Descriptor d{open_regular(path, size)};
  size_ = static_cast<size_t>(size);
  if (size_ == 0) return;
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, d.fd, 0);
  if (address == MAP_FAILED) fail("map", path, errno);
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

void MappedFile::release(std::span<const std::byte> part) noexcept {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(part.data()), end = (begin + part.size()) / page * page;
  const uintptr_t first = (begin + page - 1) / page * page;
  if (first < end) ::madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);  // only a hint: a failure does no harm
}

}  // namespace glia
