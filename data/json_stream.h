#pragma once
// A RapidJSON input stream over a file: reads in pieces, and ends early where one string is longer than a limit (RapidJSON would
// gather all of it in memory first).
#include <rapidjson/rapidjson.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <vector>

#include "tensor/error.h"

namespace glia {

class JsonFileStream {
 public:
  using Ch = char;

  JsonFileStream(const std::filesystem::path& path, size_t string_bytes)
      : file_(std::fopen(path.c_str(), "rb")), name_(path.string()), limit_(string_bytes), buffer_(size_t{1} << 16) {
    if (!file_) throw IoError("{}: cannot be opened: {}", name_, std::strerror(errno));
    fill();
    if (end_ - next_ >= 3 && std::memcmp(next_, "\xEF\xBB\xBF", 3) == 0) next_ += 3;  // byte order mark
  }

  char Peek() const { return next_ == end_ ? '\0' : *next_; }
  char Take() {
    if (next_ == end_) return '\0';
    const char c = *next_++;
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
      }
      if (++string_bytes_ > limit_ + 1) too_long_ = true;
    } else if (c == '"') {
      in_string_ = true;
      string_bytes_ = 0;
    }
    if (too_long_) {
      next_ = end_;
    } else if (next_ == end_) {
      fill();
    }
    return c;
  }
  size_t Tell() const { return before_ + static_cast<size_t>(next_ - buffer_.data()); }
  bool string_too_long() const { return too_long_; }

  // Part of the stream concept, for in-place parsing only.
  char* PutBegin() { return nullptr; }
  void Put(char) {}
  void Flush() {}
  size_t PutEnd(char*) { return 0; }

 private:
  void fill() {
    before_ += static_cast<size_t>(end_ - buffer_.data());
    const size_t n = std::fread(buffer_.data(), 1, buffer_.size(), file_.get());
    if (n == 0 && std::ferror(file_.get())) throw IoError("{}: cannot be read: {}", name_, std::strerror(errno));
    next_ = buffer_.data();
    end_ = next_ + n;
  }

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::unique_ptr<std::FILE, Close> file_;
  std::string name_;
  size_t limit_;
  std::vector<char> buffer_;
  const char* next_ = buffer_.data();
  const char* end_ = buffer_.data();
  size_t before_ = 0;  // bytes of the file before the buffer
  size_t string_bytes_ = 0;
  bool in_string_ = false, escaped_ = false, too_long_ = false;
};

}  // namespace glia
