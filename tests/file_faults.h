#pragma once
// System calls of writing that fail, one after the other.
#include <sys/types.h>

#include <algorithm>
#include <cerrno>

#include "data/atomic_file.h"

namespace glia::tests {

struct FileFault {
  int at = 0;             // number of the call that fails, from 1; 0: none
  int error = 0;          // errno; 0: a write writes half of its bytes, other calls do as always
  bool for_ever = false;  // all calls from there on, not this one alone
};

// Puts the fault into file_calls() while it lives. One at a time.
class FaultyFiles {
 public:
  explicit FaultyFiles(const FileFault& fault) {
    fault_ = fault;
    count_ = 0;
    real_ = file_calls();
    file_calls() = {
        [](const char* path, int flags, unsigned mode) { return hit() ? -1 : real_.open(path, flags, mode); },
        [](int fd, const void* data, size_t bytes) {
          if (!hit()) return real_.write(fd, data, is_short() ? std::max<size_t>(1, bytes / 2) : bytes);
          return ssize_t(-1);
        },
        [](int fd) { return hit() ? -1 : real_.fsync(fd); },
        [](int fd) {  // a close that fails has closed the descriptor all the same
          const int result = real_.close(fd);
          return hit() ? -1 : result;
        },
        [](const char* from, const char* to) { return hit() ? -1 : real_.rename(from, to); },
        [](const char* from, const char* to) { return hit() ? -1 : real_.link(from, to); },
        [](const char* path) { return hit() ? -1 : real_.unlink(path); },
    };
  }
  ~FaultyFiles() { file_calls() = real_; }
  FaultyFiles(const FaultyFiles&) = delete;
  FaultyFiles& operator=(const FaultyFiles&) = delete;

  int count() const { return count_; }  // calls so far

 private:
  static bool due() { return fault_.for_ever ? count_ >= fault_.at && fault_.at > 0 : count_ == fault_.at; }
  static bool is_short() { return fault_.error == 0 && due(); }
  static bool hit() {
    ++count_;
    if (!due() || fault_.error == 0) return false;
    errno = fault_.error;
    return true;
  }

  static inline FileFault fault_;
  static inline FileCalls real_{};
  static inline int count_ = 0;
};

}  // namespace glia::tests
