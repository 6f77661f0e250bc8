#pragma once
// Texts of pickles of protocol 0, no part of the library's interface.
#include <optional>
#include <string>
#include <string_view>

namespace glia {

void append_utf8(std::string& out, uint32_t code_point);

// Python 2's repr of a string, quotes and all -> its bytes. Nothing where a quote or an escape is not valid.
std::optional<std::string> decode_python_string(std::string_view quoted);

// Python's raw-unicode-escape: Latin-1 with \uXXXX and \UXXXXXXXX -> UTF-8. Nothing where an escape is not valid.
std::optional<std::string> decode_raw_unicode(std::string_view text);

}  // namespace glia
