#include "tensor/nearest.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace glia {
namespace {

size_t edit_distance(const std::string& a, const std::string& b) {  // Levenshtein, one row
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t(0));
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t substituted = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substituted, row[j] + 1, diagonal + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string nearest_name(const std::string& got, const std::vector<std::string>& known) {
  std::string best;
  size_t least = std::max<size_t>(2, got.size() / 3) + 1;
  for (const std::string& name : known) {
    const size_t distance = edit_distance(got, name);
    if (distance < least) {
      least = distance;
      best = name;
    }
  }
  return best;
}

}  // namespace glia
