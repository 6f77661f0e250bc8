#include "train/config_toml.h"

// toml++ asserts, and with NDEBUG promises the compiler, things that bad text breaks ("[#") and that it then reports as errors itself.
#undef NDEBUG
#define TOML_ASSERT(expression) static_assert(true)
#include <toml++/toml.h>

#include <algorithm>
#include <cmath>

#include "tensor/error.h"

namespace glia {
namespace {

constexpr size_t max_text = 1 << 20;
constexpr int max_depth = 16;

TomlValue convert(const toml::node& node, int depth);

TomlTable convert_table(const toml::table& table, int depth) {
  TomlTable result;
  for (const auto& [key, node] : table) result.push_back({std::string(key.str()), convert(node, depth)});
  std::stable_sort(result.begin(), result.end(), [](const auto& a, const auto& b) { return a.value.line < b.value.line; });
  return result;
}

TomlValue convert(const toml::node& node, int depth) {
  if (depth > max_depth) throw UsageError("TOML nested deeper than {}", max_depth);
  TomlValue v;
  v.line = static_cast<int>(node.source().begin.line);
  if (const auto* b = node.as_boolean()) {
    v.value = b->get();
  } else if (const auto* i = node.as_integer()) {
    v.value = i->get();
  } else if (const auto* d = node.as_floating_point()) {
    v.value = d->get();
  } else if (const auto* s = node.as_string()) {
    v.value = s->get();
  } else if (const auto* list = node.as_array()) {
    TomlList items;
    for (const toml::node& item : *list) items.push_back(convert(item, depth + 1));
    v.value = std::move(items);
  } else if (const auto* table = node.as_table()) {
    v.value = convert_table(*table, depth + 1);
  }
  return v;
}

// Where in the text the first character beyond ASCII is that is in neither a string nor a comment; npos if none. TOML has none there, and
// toml++ 3.3 meets some of them (U+043E) with __builtin_unreachable.
size_t find_stray_character(std::string_view text) {
  size_t i = text.starts_with("\xef\xbb\xbf") ? 3 : 0;  // a byte order mark
  while (i < text.size()) {
    const char c = text[i];
    if (static_cast<unsigned char>(c) >= 0x80) return i;
    if (c == '#') {
      i = std::min(text.find('\n', i), text.size());
    } else if (c == '"' || c == '\'') {
      const std::string quotes(text.substr(i).starts_with(std::string(3, c)) ? 3 : 1, c);
      for (i += quotes.size(); i < text.size() && !text.substr(i).starts_with(quotes); ++i) {
        if (quotes.size() == 1 && text[i] == '\n') break;  // not closed, which is an error
        if (c == '"' && text[i] == '\\') ++i;
      }
      for (size_t end = i + (quotes.size() == 3 ? 5 : 1); i < std::min(end, text.size()) && text[i] == c;) ++i;
    } else {
      ++i;
    }
  }
  return text.npos;
}

}  // namespace

TomlTable parse_toml(std::string_view text, const std::string& source) {
  if (text.size() > max_text) throw UsageError("{}: {} bytes of TOML, at most {} are read", source, text.size(), max_text);
  if (const size_t at = find_stray_character(text); at != text.npos)
    throw UsageError("{}:{}: not valid TOML: a character beyond ASCII outside of quotes and comments", source,
                     1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
  try {
    return convert_table(toml::parse(text, source), 0);
  } catch (const toml::parse_error& e) {
    throw UsageError("{}:{}: not valid TOML: {}", source, e.source().begin.line, e.description());
  }
}

TomlValue parse_toml_value(std::string_view text) {
  TomlValue literal;
  literal.value = std::string(text);
  if (text.size() > max_text || text.find('\n') != std::string_view::npos || find_stray_character(text) != std::string_view::npos)
    return literal;
  try {
    TomlTable table = convert_table(toml::parse("x = " + std::string(text)), 0);
    if (table.size() == 1 && table[0].key == "x") return std::move(table[0].value);
  } catch (const toml::parse_error&) {  // a bare word
  }
  return literal;
}

std::string toml_quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\u{:04X}", byte);
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string toml_number(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

}  // namespace glia
