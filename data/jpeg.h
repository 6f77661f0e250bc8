#pragma once
// JPEG through libjpeg-turbo, in memory: baseline and progressive, 8 bits, gray or colour (CMYK becomes RGB). What libjpeg only warns
// of, such as an image that was cut off, is an error here. Pixels and size are as Exif's orientation says, as detectron2 and viewers show
// them.
#include "data/image_io.h"

namespace glia {

ImageFacts jpeg_facts(std::span<const std::byte> bytes, const std::string& name);
ImageFile decode_jpeg(std::span<const std::byte> bytes, const std::string& name, const ImageLimits& limits);

}  // namespace glia
