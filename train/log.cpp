#include "train/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <sstream>

#include "data/atomic_file.h"
#include "tensor/error.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) parts.push_back(part);
  return parts;
}

// The number behind `"step":` of a line of metrics.jsonl; -1 for a line that is not whole.
int64_t step_of(const std::string& line) {
  constexpr std::string_view start = "{\"step\":";
  int64_t step = -1;
  if (!line.starts_with(start) || !line.ends_with('}')) return -1;
  std::from_chars(line.data() + start.size(), line.data() + line.size(), step);
  return step;
}

// Content of a file that may be absent.
std::string content_of(const fs::path& file) {
  std::error_code ignored;
  return fs::is_regular_file(file, ignored) ? read_file(file) : "";
}

}  // namespace

std::string json_number(double value) { return std::isfinite(value) ? fmt::format("{}", value) : "null"; }

LineFile::LineFile(fs::path path, std::function<void(const std::string&)> on_error)
    : path_(std::move(path)), on_error_(std::move(on_error)) {}

LineFile::~LineFile() {
  if (file_) std::fclose(file_);
}

void LineFile::open(bool append) {
  if (file_) std::fclose(file_);
  file_ = std::fopen(path_.c_str(), append ? "ae" : "we");
  if (!file_) fail();
}

void LineFile::line(const std::string& text) {
  if (!file_) return;
  if (std::fwrite(text.data(), 1, text.size(), file_) != text.size() || std::fputc('\n', file_) == EOF || std::fflush(file_) != 0)
    fail();
}

void LineFile::fail() {
  const std::string reason = std::strerror(errno);
  if (file_) std::fclose(file_);
  file_ = nullptr;
  on_error_(fmt::format("{}: cannot be written ({}); the training goes on without it", path_.string(), reason));
}

StepLog::StepLog(const fs::path& file, std::function<void(const std::string&)> on_error)
    : path_(file), on_error_(on_error), file_(file, on_error) {}

void StepLog::start(int64_t step) {
  if (step > 0) {
    try {
      const std::string content = content_of(path_);
      std::string kept;
      for (const std::string& line : split(content, '\n')) {
        const int64_t s = step_of(line);
        if (s >= 0 && s <= step) kept += line + "\n";
      }
      if (kept != content) write_file(path_, kept);
    } catch (const Error& e) {
      on_error_(fmt::format("{}; the training goes on", e.what()));
    }
  }
  file_.open(step > 0);
}

std::string logged_name(const std::string& term) { return term.starts_with("loss_") ? term : "loss_" + term; }

void StepLog::write(const StepRecord& r, size_t memory) {
  std::string text = fmt::format("{{\"step\":{},\"epoch\":{},\"loss\":{}", r.step, r.epoch, json_number(r.loss));
  for (const auto& [name, value] : r.terms) text += fmt::format(",\"{}\":{}", logged_name(name), json_number(value));
  text +=
      fmt::format(",\"lr\":{},\"grad_norm\":{},\"images_per_s\":{:.4g},\"data_wait\":{:.4g},\"memory\":{}}}", json_number(r.lr),
                  json_number(r.grad_norm), static_cast<double>(r.images) / std::max(r.seconds, 1e-9), r.data_wait, memory);
  file_.line(text);
}

ResultTable::ResultTable(fs::path file, std::function<void(const std::string&)> on_error)
    : path_(std::move(file)), on_error_(std::move(on_error)) {}

void ResultTable::start(int64_t step) {
  if (step == 0) return;
  try {
    const std::vector<std::string> lines = split(content_of(path_), '\n');
    if (lines.empty()) return;
    columns_ = split(lines[0], ',');
    for (size_t i = 1; i < lines.size(); ++i) {
      const std::vector<std::string> cells = split(lines[i], ',');
      int64_t row_step = -1;
      if (!cells.empty()) std::from_chars(cells[0].data(), cells[0].data() + cells[0].size(), row_step);
      if (row_step < 0 || row_step > step) continue;
      auto& row = rows_.emplace_back();
      for (size_t j = 0; j < std::min(cells.size(), columns_.size()); ++j) row[columns_[j]] = cells[j];
    }
    write();
  } catch (const Error& e) {
    on_error_(fmt::format("{}; the training goes on", e.what()));
  }
}

void ResultTable::add(const NamedValues& row) {
  auto& cells = rows_.emplace_back();
  for (const auto& [name, value] : row) {
    if (std::find(columns_.begin(), columns_.end(), name) == columns_.end()) columns_.push_back(name);
    cells[name] = fmt::format("{}", value);
  }
  write();
}

void ResultTable::write() {
  std::string text = fmt::format("{}\n", fmt::join(columns_, ","));
  for (auto& row : rows_) {
    std::vector<std::string> cells;
    for (const std::string& column : columns_) cells.push_back(row[column]);
    text += fmt::format("{}\n", fmt::join(cells, ","));
  }
  try {
    write_file(path_, text);
  } catch (const Error& e) {
    if (!failed_) on_error_(fmt::format("{}; the training goes on without it", e.what()));
    failed_ = true;
  }
}

}  // namespace glia
