#pragma once
// TOML text to plain values with line numbers, so that one source alone includes toml++.
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace glia {

struct TomlValue;
using TomlList = std::vector<TomlValue>;
struct TomlEntry;
using TomlTable = std::vector<TomlEntry>;  // in the order of the text

struct TomlValue {
  std::variant<std::monostate, bool, int64_t, double, std::string, TomlList, TomlTable> value;  // monostate: a date or time
  int line = 0;
};

struct TomlEntry {
  std::string key;
  TomlValue value;
};

// Throws UsageError "SOURCE:LINE: ..." for text that is no TOML, and for more than 1 MB of it or a depth above 16.
TomlTable parse_toml(std::string_view text, const std::string& source);

// One value as `--set key=value` gives it: TOML where it is TOML, else the text itself (device=cpu needs no quotes).
TomlValue parse_toml_value(std::string_view text);

std::string toml_quoted(std::string_view text);  // "text" with escapes
std::string toml_number(double value);           // shortest text that reads back as this double: "0.001", "1.0", "inf"

}  // namespace glia
