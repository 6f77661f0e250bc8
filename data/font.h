#pragma once
// A bitmap font for pictures: ASCII, 5 columns by 9 rows (capitals stand on rows 0 to 6, descenders reach row 8).
#include <array>
#include <cstdint>

namespace glia {

inline constexpr int glyph_width = 5, glyph_height = 9, glyph_advance = 6, glyph_ascent = 7;

// Bit 4 of a row is the left column. Characters outside 32..126 show as a box.
const std::array<uint8_t, glyph_height>& glyph(char c);

}  // namespace glia
