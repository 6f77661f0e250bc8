#pragma once
// CSV (RFC 4180), strict about what loses data and kind about the rest: quotes, line ends of any system, a byte order mark, and
// `;` or tabs instead of commas (decided by the header line) are read; blank lines are passed over.
#include <cstdint>
#include <deque>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/atomic_file.h"

namespace glia {

// One record after the other, in constant memory. Fields are views that last until the next record.
// DataError with "FILE:LINE": an unclosed or stray quote, a zero byte, UTF-16, a field above 16 MiB, a record whose number of fields
// is not the header's, no header.
class CsvReader {
 public:
  static constexpr size_t max_field = size_t{16} << 20;  // bytes

  explicit CsvReader(const std::filesystem::path& path);
  // The same over text that outlives this object; `name` stands in messages.
  CsvReader(std::string_view text, std::string name);

  const std::vector<std::string>& header() const { return header_; }
  bool has(std::string_view column) const { return find(column).has_value(); }
  size_t column(std::string_view name) const;  // its number; DataError listing the columns there are

  bool next();  // false at the end
  const std::vector<std::string_view>& fields() const { return fields_; }
  std::string_view operator[](size_t column) const { return fields_[column]; }
  int64_t line() const { return line_; }  // where the record begins, from 1
  std::string place() const;              // "FILE:LINE"
  const std::string& name() const { return name_; }

 private:
  void begin();
  std::optional<size_t> find(std::string_view column) const;
  bool read_record();
  void read_quoted(size_t& at, int64_t& line);
  void end_field(std::string_view field);
  [[noreturn]] void fail(int64_t line, std::string_view what) const;

  std::string name_;
  std::optional<MappedFile> file_;
  std::string_view text_;
  size_t at_ = 0;
  char separator_ = ',';
  int64_t line_ = 0, next_line_ = 1;
  std::vector<std::string> header_;
  std::vector<std::string_view> fields_;
  std::deque<std::string> unquoted_;  // storage of fields with doubled quotes; a deque, so that views into it last
  size_t unquoted_used_ = 0;
};

// A field as it stands in a file: quoted where it has to be.
std::string csv_field(std::string_view text);

}  // namespace glia
