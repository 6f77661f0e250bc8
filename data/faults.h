#pragma once
// What readers of data sets find wrong. One kind of fault is named once and counted; the first few cases are kept as examples.
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/error.h"

namespace glia {

enum class Severity {
  note,  // worth knowing
  warn,  // training is possible but something looks wrong
  drop,  // the instance or image is left out
  stop,  // no training with this data
};
std::string_view name_of(Severity severity);

struct Fault {
  std::string kind;  // "missing image", "odd number of run lengths", ...
  Severity severity = Severity::stop;
  int64_t count = 0;
  std::vector<std::string> examples;  // the first messages, in the order of the data
};

// Collects faults, from several threads if need be. By default a `stop` throws DataError with its message at once; check_data
// goes on to find all.
class Faults {
 public:
  static constexpr size_t max_examples = 5;

  explicit Faults(bool collect = false) : collect_(collect) {}
  Faults(const Faults& other);
  Faults& operator=(const Faults&) = delete;

  void add(Severity severity, std::string_view kind, std::string message, int64_t count = 1);
  void add(const Faults& other);  // appends, kind by kind: per-thread or per-image lists joined in order

  std::vector<Fault> list() const;  // stop first, then drop, warn, note; within one severity by first occurrence
  int64_t count(std::string_view kind) const;
  bool stops() const;  // any fault that stops a training
  bool collects() const { return collect_; }

 private:
  mutable std::mutex mutex_;
  std::vector<Fault> faults_;
  bool collect_;
};

}  // namespace glia
