#pragma once
// A text as the bytes of a file.
#include <span>
#include <string_view>

namespace glia::tests {

inline std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

}  // namespace glia::tests
