#pragma once
// JPEG through stb_image, in memory: baseline and progressive, 8 bits, gray or colour (CMYK becomes RGB). The markers are walked
// first, because stb_image takes an image that was cut off for a good one. Exif orientation is ignored.
#include "data/image_io.h"

namespace glia {

ImageFacts jpeg_facts(std::span<const std::byte> bytes, const std::string& name);
ImageFile decode_jpeg(std::span<const std::byte> bytes, const std::string& name, const ImageLimits& limits);

}  // namespace glia
