#pragma once
// ImageJ's outlines: .roi files and RoiSet.zip, as ij.io.RoiDecoder and RoiEncoder have them. Layout, big-endian: "Iout",
// version, type, bounds, number of points n at 16, options at 50, offset of a second header at 60, from 64 on n x and n y
// relative to the bounds, then, with sub-pixel resolution, n x and n y as floats; the second header points to the name in UTF-16.
#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace glia {

struct ImagejRoi {
  enum class Type : uint8_t { polygon = 0, freehand = 7, traced = 8 };
  std::string name;  // UTF-8
  Type type = Type::polygon;
  std::vector<std::array<float, 2>> points;  // x, y in pixels
  bool subpixel = false;                     // points stored as floats (encode_roi: also where they are not whole)
  std::array<int, 4> bounds{};               // left, top, right, bottom; encode_roi computes them
  int slice = 0;                             // position in a stack from 1; 0: none
};

// DataError: damaged, cut off, or another kind of outline (rectangle, oval, line, points). `name` stands in messages.
ImagejRoi decode_roi(std::span<const std::byte> bytes, const std::string& name);
std::string encode_roi(const ImagejRoi& roi);

ImagejRoi read_roi(const std::filesystem::path& path);
void write_roi(const std::filesystem::path& path, const ImagejRoi& roi);

// RoiSet.zip of ImageJ's ROI manager: members NAME.roi. Writing makes names unique by adding -2, -3 ...
std::vector<ImagejRoi> read_roi_set(const std::filesystem::path& path);
void write_roi_set(const std::filesystem::path& path, std::span<const ImagejRoi> rois);

}  // namespace glia
