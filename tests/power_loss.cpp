#include "tests/power_loss.h"

#include <fcntl.h>

#include <algorithm>
#include <fstream>
#include <optional>

#include "data/atomic_file.h"
#include "tensor/random.h"

namespace glia::tests {
namespace {

namespace fs = std::filesystem;

constexpr size_t bytes_per_write = 1500;  // longer ones are cut short, so that files have several
FileCalls real{};

std::string name_of(const char* path) { return fs::path(path).filename().string(); }

}  // namespace

WriteLog* WriteLog::active_ = nullptr;

WriteLog::WriteLog(fs::path folder) : folder_(std::move(folder)) {
  active_ = this;
  real = file_calls();
  file_calls() = {
      [](const char* path, int flags, unsigned mode) {
        const int fd = real.open(path, flags, mode);
        if (fd >= 0) active_->opened(path, flags, fd);
        return fd;
      },
      [](int fd, const void* data, size_t bytes) {
        const ssize_t n = real.write(fd, data, std::min(bytes, bytes_per_write));
        const auto it = active_->open_.find(fd);
        if (n > 0 && it != active_->open_.end()) {
          auto& [file, offset] = it->second;
          active_->add(
              {.kind = Kind::write, .file = file, .offset = offset, .bytes = {static_cast<const char*>(data), size_t(n)}});
          offset += static_cast<size_t>(n);
        }
        return n;
      },
      [](int fd) {
        const int result = real.fsync(fd);
        const auto it = active_->open_.find(fd);
        if (it != active_->open_.end()) active_->add({.kind = Kind::sync_file, .file = it->second.first});
        if (active_->folders_.contains(fd)) active_->add({.kind = Kind::sync_folder});
        return result;
      },
      [](int fd) {
        active_->open_.erase(fd);
        active_->folders_.erase(fd);
        return real.close(fd);
      },
      [](const char* from, const char* to) {
        const int result = real.rename(from, to);
        WriteLog& log = *active_;
        if (result != 0 || !log.inside(to)) return result;
        const size_t file = log.names_.at(name_of(from));
        const auto old = log.names_.find(name_of(to));
        if (old != log.names_.end() && old->second == file) return result;  // two names of one file stay both (POSIX)
        log.names_.erase(name_of(from));
        log.names_[name_of(to)] = file;
        log.add({.kind = Kind::rename, .file = file, .name = name_of(to), .from = name_of(from)});
        return result;
      },
      [](const char* from, const char* to) {
        const int result = real.link(from, to);
        if (result != 0 || !active_->inside(to)) return result;
        const size_t file = active_->names_[name_of(to)] = active_->names_.at(name_of(from));
        active_->add({.kind = Kind::link, .file = file, .name = name_of(to)});
        return result;
      },
      [](const char* path) {
        const int result = real.unlink(path);
        if (result == 0 && active_->inside(path)) {
          active_->names_.erase(name_of(path));
          active_->add({.kind = Kind::unlink, .name = name_of(path)});
        }
        return result;
      },
  };
}

WriteLog::~WriteLog() { stop(); }

void WriteLog::stop() {
  if (active_ != this) return;
  file_calls() = real;
  active_ = nullptr;
}

bool WriteLog::inside(const char* path) const { return fs::path(path).parent_path() == folder_; }

void WriteLog::opened(const char* path, int flags, int fd) {
  if (folder_ == path) folders_[fd] = true;
  if (!inside(path) || !(flags & O_CREAT)) return;
  names_[name_of(path)] = files_;
  open_[fd] = {files_, 0};
  add({.kind = Kind::create, .file = files_++, .name = name_of(path)});
}

int WriteLog::after_power_loss(size_t cut, uint64_t seed, const fs::path& to) const {
  // The last sync of each file, and of the folder, before the cut.
  std::vector<size_t> synced(files_, 0);
  size_t folder_synced = 0;
  for (size_t i = 0; i < cut; ++i) {
    if (operations_[i].kind == Kind::sync_file) synced[operations_[i].file] = i;
    if (operations_[i].kind == Kind::sync_folder) folder_synced = i;
  }
  const Philox random(seed, 1);
  std::vector<std::string> contents(files_);
  std::map<std::string, size_t> names;
  int lost = 0;
  for (size_t i = 0; i < cut; ++i) {
    const Operation& o = operations_[i];
    if (o.kind == Kind::write) {
      size_t bytes = o.bytes.size();
      if (i >= synced[o.file]) {
        const uint64_t fate = random.below(2 * i, 3);
        if (fate == 1) bytes = random.below(2 * i + 1, bytes);
        if (fate == 2) bytes = 0;
        lost += fate > 0;
      }
      if (bytes == 0) continue;
      std::string& content = contents[o.file];
      content.resize(std::max(content.size(), o.offset + bytes), '\0');
      content.replace(o.offset, bytes, o.bytes, 0, bytes);
      continue;
    }
    if (o.kind == Kind::sync_file || o.kind == Kind::sync_folder) continue;
    if (i >= folder_synced && random.below(2 * i, 2) == 0) {
      ++lost;
      continue;
    }
    if (o.kind == Kind::rename) names.erase(o.from);
    if (o.kind == Kind::unlink) {
      names.erase(o.name);
    } else {
      names[o.name] = o.file;
    }
  }
  fs::remove_all(to);
  fs::create_directories(to);
  for (const auto& [name, file] : names) std::ofstream(to / name, std::ios::binary) << contents[file];
  return lost;
}

}  // namespace glia::tests
