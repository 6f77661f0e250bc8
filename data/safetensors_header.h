#pragma once
// The JSON header of a safetensors file, no part of the library's interface.
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/safetensors.h"

namespace glia {

// Bytes of one element of a stored type such as "F32"; 0 for an unknown one.
size_t stored_bytes_of(std::string_view dtype);
std::string_view stored_name(DType dtype);

// Bytes that shape and dtype ask for; nothing when that overflows, also where a side of 0 comes after it.
std::optional<uint64_t> bytes_wanted(const SafetensorsEntry& entry);

// Reads the header's text, which begins at byte 8 of the file, in the order it has. Returns what is wrong with it, or nothing.
std::string parse_header(std::string_view text, std::vector<SafetensorsEntry>& entries, Metadata& metadata);

// The text, filled with spaces to a multiple of 8 bytes.
std::string header_json(const std::vector<SafetensorsEntry>& entries, const Metadata& metadata);

}  // namespace glia
