#include "data/pickle_text.h"

#include <charconv>

#include "data/pickle.h"

namespace glia {
namespace {

// `digits` hexadecimal digits at `at`; nothing where they are not there.
std::optional<uint32_t> hex(std::string_view text, size_t at, size_t digits) {
  if (at > text.size() || text.size() - at < digits) return std::nullopt;
  uint32_t v = 0;
  const char* begin = text.data() + at;
  const auto [end, error] = std::from_chars(begin, begin + digits, v, 16);
  if (error != std::errc{} || end != begin + digits) return std::nullopt;
  return v;
}

}  // namespace

void append_utf8(std::string& out, uint32_t c) {
  const auto byte = [&](uint32_t b) { out += static_cast<char>(b); };
  if (c < 0x80) return byte(c);
  if (c < 0x800) {
    byte(0xc0 | c >> 6);
  } else if (c < 0x10000) {
    byte(0xe0 | c >> 12);
    byte(0x80 | (c >> 6 & 0x3f));
  } else {
    byte(0xf0 | c >> 18);
    byte(0x80 | (c >> 12 & 0x3f));
    byte(0x80 | (c >> 6 & 0x3f));
  }
  byte(0x80 | (c & 0x3f));
}

std::optional<std::string> decode_python_string(std::string_view quoted) {
  if (quoted.size() < 2 || quoted.front() != quoted.back() || (quoted[0] != '\'' && quoted[0] != '"')) return std::nullopt;
  const std::string_view text = quoted.substr(1, quoted.size() - 2);
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    if (++i == text.size()) return std::nullopt;
    constexpr std::string_view from = "\\'\"nrt", to = "\\'\"\n\r\t";
    if (const size_t k = from.find(text[i]); k != from.npos) {
      out += to[k];
    } else if (const auto code = hex(text, i + 1, 2); text[i] == 'x' && code) {
      out += static_cast<char>(*code);
      i += 2;
    } else {
      return std::nullopt;
    }
  }
  return out;
}

std::optional<std::string> decode_raw_unicode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == 'u' || text[i + 1] == 'U');
    if (!escape) {
      append_utf8(out, static_cast<uint8_t>(text[i]));
      continue;
    }
    const size_t digits = text[i + 1] == 'u' ? 4 : 8;
    const auto code = hex(text, i + 2, digits);
    if (!code || *code > 0x10ffff) return std::nullopt;
    append_utf8(out, *code);
    i += 1 + digits;
  }
  return out;
}

int64_t count_code_points(std::string_view text, uint32_t highest) {
  int64_t count = 0;
  for (size_t i = 0; i < text.size(); ++count) {
    const auto first = static_cast<uint8_t>(text[i++]);
    size_t more = 0;
    uint32_t code = first, lowest = 0;
    if (first >= 0xf0 && first < 0xf8) {
      more = 3, code = first & 7, lowest = 0x10000;
    } else if (first >= 0xe0 && first < 0xf0) {
      more = 2, code = first & 15, lowest = 0x800;
    } else if (first >= 0xc0 && first < 0xe0) {
      more = 1, code = first & 31, lowest = 0x80;
    } else if (first >= 0x80) {
      return -1;
    }
    if (text.size() - i < more) return -1;
    for (; more > 0; --more, ++i) {
      const auto next = static_cast<uint8_t>(text[i]);
      if ((next & 0xc0) != 0x80) return -1;
      code = code << 6 | (next & 0x3fU);
    }
    if (code < lowest || code > highest || (code >= 0xd800 && code < 0xe000)) return -1;
  }
  return count;
}

std::string utf8_of_latin1(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) append_utf8(out, static_cast<uint8_t>(c));
  return out;
}

}  // namespace glia
