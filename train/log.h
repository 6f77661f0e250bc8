#pragma once
// The text files of a run: metrics.jsonl (one object per step, flushed), results.csv (one row per evaluation), train.log (what
// was said). A file that can't be written to (disk full) is reported once and given up; it never ends a training.
#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "train/trainer.h"

namespace glia {

// A file that lines are appended to, each flushed. Failing calls `on_error` once and closes it.
class LineFile {
 public:
  LineFile(std::filesystem::path path, std::function<void(const std::string&)> on_error);
  ~LineFile();
  LineFile(const LineFile&) = delete;
  LineFile& operator=(const LineFile&) = delete;

  void open(bool append);
  void line(const std::string& text);

 private:
  void fail();

  std::filesystem::path path_;
  std::function<void(const std::string&)> on_error_;
  std::FILE* file_ = nullptr;
};

std::string logged_name(const std::string& term);  // of a loss: loss_NAME, also where NAME begins with loss_ itself

// RUN/metrics.jsonl. Going on from step k drops the lines of later steps, so that each step stands there once.
class StepLog {
 public:
  StepLog(const std::filesystem::path& file, std::function<void(const std::string&)> on_error);
  void start(int64_t step);  // 0: anew
  void write(const StepRecord& record, size_t memory);

 private:
  std::filesystem::path path_;
  std::function<void(const std::string&)> on_error_;
  LineFile file_;
};

// RUN/results.csv, written whole each time (it is small), so that its columns are all that any row has.
class ResultTable {
 public:
  ResultTable(std::filesystem::path file, std::function<void(const std::string&)> on_error);
  void start(int64_t step);          // keeps the rows up to `step` of the file that is there; 0: anew
  void add(const NamedValues& row);  // the first two are step and epoch

 private:
  void write();

  std::filesystem::path path_;
  std::function<void(const std::string&)> on_error_;
  bool failed_ = false;
  std::vector<std::string> columns_;
  std::vector<std::map<std::string, std::string>> rows_;
};

std::string json_number(double value);  // null for NaN and infinities, which JSON doesn't have

}  // namespace glia
