// CSV; see the header.
#include "data/csv.h"

#include <fmt/format.h>

#include <algorithm>

#include "tensor/error.h"

namespace glia {

CsvReader::CsvReader(const std::filesystem::path& path) : name_(path.string()), file_(std::in_place, path) {
  const auto bytes = file_->bytes();
  text_ = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  begin();
}

CsvReader::CsvReader(std::string_view text, std::string name) : name_(std::move(name)), text_(text) { begin(); }

void CsvReader::fail(int64_t line, std::string_view what) const { throw DataError("{}:{}: {}", name_, line, what); }

std::string CsvReader::place() const { return fmt::format("{}:{}", name_, line_); }

void CsvReader::begin() {
  if (text_.starts_with("\xff\xfe") || text_.starts_with("\xfe\xff")) fail(1, "the text is UTF-16; save it as UTF-8");
  if (text_.starts_with("\xef\xbb\xbf")) text_.remove_prefix(3);
  // The separator: whichever of the three stands most often outside of quotes in the first line.
  size_t commas = 0, semicolons = 0, tabs = 0;
  bool quoted = false;
  for (const char c : text_.substr(0, max_field)) {
    if (c == '"') quoted = !quoted;
    if (quoted) continue;
    if (c == '\n' || c == '\r') {
      if (commas + semicolons + tabs) break;
      continue;  // a blank line, or a header of one column
    }
    commas += c == ',', semicolons += c == ';', tabs += c == '\t';
  }
  separator_ = semicolons > commas && semicolons >= tabs ? ';' : tabs > commas ? '\t' : ',';
  if (!read_record()) throw DataError("{}: the file is empty, want a header line of column names", name_);
  for (std::string_view field : fields_) {
    while (!field.empty() && field.front() == ' ') field.remove_prefix(1);
    while (!field.empty() && field.back() == ' ') field.remove_suffix(1);
    if (find(field)) fail(line_, fmt::format("two columns \"{}\"", field));
    header_.emplace_back(field);
  }
}

std::optional<size_t> CsvReader::find(std::string_view column) const {
  const auto found = std::find(header_.begin(), header_.end(), column);
  if (found == header_.end()) return std::nullopt;
  return static_cast<size_t>(found - header_.begin());
}

size_t CsvReader::column(std::string_view name) const {
  if (const auto found = find(name)) return *found;
  throw DataError("{}: no column \"{}\"; its columns are {}", name_, name, fmt::join(header_, ", "));
}

bool CsvReader::next() {
  if (!read_record()) return false;
  if (fields_.size() != header_.size())
    fail(line_,
         fmt::format("{} fields, but the header has {} columns; a separator inside a field without quotes, or a line that was "
                     "cut off?",
                     fields_.size(), header_.size()));
  return true;
}

void CsvReader::end_field(std::string_view field) {
  if (field.size() > max_field) fail(line_, fmt::format("a field of {} bytes, at most {} are allowed", field.size(), max_field));
  if (field.find('\0') != field.npos) fail(line_, "a zero byte; this is no text file");
  fields_.push_back(field);
}

// Reads the field whose opening quote is at `at`; leaves `at` behind the closing one.
void CsvReader::read_quoted(size_t& at, int64_t& line) {
  const int64_t opened = line;
  const size_t first = ++at;
  bool doubled = false;
  for (;; ++at) {
    if (at == text_.size() || at - first > 2 * max_field) fail(opened, "a quote is not closed");
    if (text_[at] == '\n') ++line;
    if (text_[at] != '"') continue;
    if (at + 1 == text_.size() || text_[at + 1] != '"') break;
    doubled = true;
    ++at;
  }
  std::string_view field = text_.substr(first, at - first);
  ++at;
  if (doubled) {
    if (unquoted_used_ == unquoted_.size()) unquoted_.emplace_back();
    std::string& plain = unquoted_[unquoted_used_++];
    plain.clear();
    for (size_t i = 0; i < field.size(); ++i) {
      plain += field[i];
      if (field[i] == '"') ++i;
    }
    field = plain;
  }
  end_field(field);
}

bool CsvReader::read_record() {
  while (at_ < text_.size() && (text_[at_] == '\n' || text_[at_] == '\r')) next_line_ += text_[at_++] == '\n';
  if (at_ == text_.size()) return false;
  line_ = next_line_;
  fields_.clear();
  unquoted_used_ = 0;
  const char stops[] = {separator_, '\n', '\r'};
  for (;;) {
    if (at_ < text_.size() && text_[at_] == '"') {
      read_quoted(at_, next_line_);
      if (at_ < text_.size() && text_[at_] != separator_ && text_[at_] != '\n' && text_[at_] != '\r')
        fail(line_, "text behind a closing quote");
    } else {
      const size_t end = std::min(text_.find_first_of(std::string_view(stops, sizeof stops), at_), text_.size());
      end_field(text_.substr(at_, end - at_));
      at_ = end;
    }
    if (at_ == text_.size()) return true;
    if (text_[at_] != separator_) break;
    ++at_;
  }
  // The line's end: CR LF, LF, or CR alone as old Macs wrote.
  if (text_[at_] == '\r') ++at_;
  if (at_ < text_.size() && text_[at_] == '\n') ++at_;
  ++next_line_;
  return true;
}

std::string csv_field(std::string_view text) {
  if (text.find_first_of(",;\t\"\r\n") == text.npos) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) {
    quoted += c;
    if (c == '"') quoted += c;
  }
  return quoted + '"';
}

}  // namespace glia
