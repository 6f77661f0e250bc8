// The list of faults.
#include "data/faults.h"

#include <algorithm>

namespace glia {

std::string_view name_of(Severity severity) {
  switch (severity) {
    case Severity::note: return "note";
    case Severity::warn: return "warn";
    case Severity::drop: return "drop";
    case Severity::stop: return "stop";
  }
  return "?";
}

Faults::Faults(const Faults& other) : faults_(other.list()), collect_(other.collect_) {}

void Faults::add(Severity severity, std::string_view kind, std::string message, int64_t count) {
  if (severity == Severity::stop && !collect_) throw DataError(message);
  const std::lock_guard lock(mutex_);
  auto found = std::find_if(faults_.begin(), faults_.end(), [&](const Fault& f) { return f.kind == kind; });
  if (found == faults_.end()) found = faults_.insert(faults_.end(), Fault{std::string(kind), severity, 0, {}});
  found->severity = std::max(found->severity, severity);
  found->count += count;
  if (found->examples.size() < max_examples && !message.empty()) found->examples.push_back(std::move(message));
}

void Faults::add(const Faults& other) {
  for (Fault& fault : other.list()) {
    const int64_t first = fault.examples.empty() ? fault.count : 1;
    add(fault.severity, fault.kind, fault.examples.empty() ? std::string() : std::move(fault.examples[0]), first);
    for (size_t i = 1; i < fault.examples.size(); ++i) add(fault.severity, fault.kind, std::move(fault.examples[i]), 1);
    const int64_t rest = fault.count - static_cast<int64_t>(std::max<size_t>(1, fault.examples.size()));
    if (rest > 0 && !fault.examples.empty()) add(fault.severity, fault.kind, std::string(), rest);
  }
}

std::vector<Fault> Faults::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<Fault> sorted = faults_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Fault& a, const Fault& b) { return a.severity > b.severity; });
  return sorted;
}

int64_t Faults::count(std::string_view kind) const {
  const std::lock_guard lock(mutex_);
  for (const Fault& f : faults_) {
    if (f.kind == kind) return f.count;
  }
  return 0;
}

bool Faults::stops() const {
  const std::lock_guard lock(mutex_);
  return std::any_of(faults_.begin(), faults_.end(), [](const Fault& f) { return f.severity == Severity::stop; });
}

}  // namespace glia
