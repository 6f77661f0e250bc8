#pragma once
// What the TIFF reader and writer share, no part of the library's interface: libtiff over memory, and what a page's header says.
#include <tiffio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "data/image_io.h"

namespace glia::tiff {

// The memory that libtiff works on, for reading or for writing.
struct Stream {
  std::span<const std::byte> in;
  std::string out;
  uint64_t at = 0;
  std::array<char, 256> error{};
};

using Tiff = std::unique_ptr<TIFF, void (*)(TIFF*)>;

// Opens the stream as libtiff's MODE says ("rm": read); null where libtiff finds no header. `stream` outlives it.
Tiff open_stream(Stream& stream, const std::string& name, const char* mode);

// Throws DataError with libtiff's first message, or `otherwise` where it gave none.
[[noreturn]] void fail(const Stream& stream, const std::string& name, const char* otherwise);

// What a page's header says.
struct Page {
  uint32_t width = 0, height = 0, tile_width = 0, tile_height = 0, rows_per_strip = 0;
  uint16_t bits = 1, samples = 1, format = SAMPLEFORMAT_UINT, photometric = PHOTOMETRIC_MINISBLACK, planar = PLANARCONFIG_CONTIG,
           compression = COMPRESSION_NONE, predictor = 1;
  bool tiled = false;

  bool separate() const { return planar == PLANARCONFIG_SEPARATE && samples > 1; }
  bool palette() const { return photometric == PHOTOMETRIC_PALETTE; }
  size_t stored_bytes() const { return bits < 8 ? 1 : bits / 8u; }  // of a sample, once unpacked
  int64_t channels() const { return palette() ? 3 : samples; }
};

// Nothing where the method is not supported.
const char* compression_name(uint16_t compression);

// The element type that samples become; nothing where they are not supported.
std::optional<DType> dtype_for(const Page& p);

// The current page's header. Throws DataError for damage and for what is not supported.
Page read_page(TIFF* tif, const Stream& stream, const std::string& name);

}  // namespace glia::tiff
