#pragma once
// TIFF and BigTIFF through libtiff, in memory: strips and tiles, both planar layouts and byte orders, predictors; 1 to 64 bits
// unsigned, 8 to 64 signed, 16, 32 and 64 floating; no compression, PackBits, LZW, Deflate, Zstandard, JPEG.
// Pages flagged as reduced copies (pyramids, thumbnails) are passed over.
#include "data/image_io.h"

namespace glia {

// limits.pages 0: only the first page's header, pages is then 1.
ImageFacts tiff_facts(std::span<const std::byte> bytes, const std::string& name, const ImageLimits& limits);
ImageFile decode_tiff(std::span<const std::byte> bytes, const std::string& name, const ImageLimits& limits);
std::string encode_tiff(const Tensor& image, std::string_view name);  // as write_tiff

}  // namespace glia
