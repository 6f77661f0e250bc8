#pragma once
// What the tests of trainings read from a run's folder.
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "data/atomic_file.h"
#include "tests/paths.h"
#include "tests/same_bits.h"
#include "tests/train_fixture.h"

namespace glia::tests {

// Weights, optimizer, average and everything remembered.
inline bool same_checkpoint(const std::filesystem::path& a, const std::filesystem::path& b) {
  const Checkpoint x = read_checkpoint(a), y = read_checkpoint(b);
  return x.step == y.step && x.epoch == y.epoch && x.best == y.best && x.state.values() == y.state.values() &&
         same_bits(x.weights, y.weights) && same_bits(x.optimizer, y.optimizer) && same_bits(x.ema, y.ema);
}

// metrics.jsonl without what depends on the clock, the machine and the process.
inline std::string timeless_metrics(const std::filesystem::path& folder) {
  std::string text, result;
  text = read_file(folder / "metrics.jsonl");
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    const std::string line = text.substr(at, end - at);
    result += line.substr(0, line.find(",\"images_per_s\"")) + "\n";
    at = end + 1;
  }
  return result;
}

inline std::vector<std::map<std::string, std::string>> results(const std::filesystem::path& folder) {
  std::ifstream in(folder / "results.csv");
  std::vector<std::string> columns;
  std::vector<std::map<std::string, std::string>> rows;
  for (std::string line; std::getline(in, line);) {
    std::vector<std::string> cells{""};
    for (const char c : line) {
      if (c == ',') {
        cells.emplace_back();
      } else {
        cells.back() += c;
      }
    }
    if (columns.empty()) {
      columns = cells;
      continue;
    }
    auto& row = rows.emplace_back();
    for (size_t i = 0; i < cells.size(); ++i) row[columns[i]] = cells[i];
    row.erase("memory");
  }
  return rows;
}

template <class E>
inline std::string message_of(TinyTraining& training) {
  try {
    training.run();
  } catch (const E& e) {
    return e.what();
  }
  return "no such error";
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

inline std::filesystem::path last_of(const std::filesystem::path& folder) { return folder / "checkpoints" / "last.safetensors"; }

}  // namespace glia::tests
