#pragma once
// PNG through libpng, in memory. Every depth, colour type and interlacing; checksums, the end chunk and palette indices are
// checked. A transparent colour of a gray or RGB image (tRNS) is ignored, gamma too.
#include "data/image_io.h"

namespace glia {

ImageFacts png_facts(std::span<const std::byte> bytes, const std::string& name);
ImageFile decode_png(std::span<const std::byte> bytes, const std::string& name, const ImageLimits& limits);
std::string encode_png(const Tensor& image, std::string_view name);  // as write_png

}  // namespace glia
