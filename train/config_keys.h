#pragma once
// The table of configuration keys, and values as the table moves them.
#include <functional>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "train/config.h"

namespace glia {

// A pointer to the member of a Config that a key stands for. Its type is the key's type.
using ConfigSlot = std::variant<bool*, int64_t*, double*, std::string*, ImageSize*, Every*, std::vector<double>*,
                                std::vector<std::string>*, NumberMap*>;

struct ConfigKey {
  std::string name;  // "solver.lr"
  std::function<ConfigSlot(Config&)> slot;
  std::string help;
  double low = -std::numeric_limits<double>::infinity();  // allowed range of a number, of each number of a list, and so on
  double high = std::numeric_limits<double>::infinity();
  std::vector<std::string> choices{};  // allowed texts; empty: any
  bool may_change = false;             // on resume
};

const std::vector<ConfigKey>& config_keys();
const ConfigKey* find_config_key(std::string_view name);  // null when there is none

}  // namespace glia
