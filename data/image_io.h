#pragma once
// Image files in and out: PNG, JPEG and TIFF, recognised by content. Formats' own parts: png.h, jpeg.h, tiff.h.
#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "data/limits.h"
#include "tensor/tensor.h"

namespace glia {

// Checked against what a file's header claims, before memory is taken.
struct ImageLimits {
  int64_t pixels = file_limits().pixels;                                // height * width of a page
  uint64_t bytes = static_cast<uint64_t>(file_limits().decoded_bytes);  // of all decoded pages
  int64_t pages = file_limits().pages;
  uint64_t expansion = static_cast<uint64_t>(file_limits().image_ratio);  // decoded bytes per byte of the file ...
  uint64_t free_bytes = uint64_t{24} << 20;                               // ... above this many decoded bytes
};

struct ImageFacts {
  std::string format;  // "PNG", "JPEG", "TIFF"
  int64_t pages = 1;
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 0;        // as decoded: a palette counts 3, or 4 with transparency
  int bits = 0;                // per sample as stored
  std::string samples;         // "unsigned", "signed" or "float"
  std::string storage;         // for people: "palette, interlaced", "LZW, tiles 16x32, predictor", ...
  DType dtype = DType::uint8;  // as decoded
};

// pixels: (H, W, C), or (pages, H, W, C) of a TIFF with several pages. Values stay as stored: no gamma, no scaling, but 1, 2 and
// 4 bits become 0..255, palettes RGB or RGBA, and MinIsWhite is turned so that 0 is black.
// Types: 8 bits uint8; 16 bits int32 (0..65535); signed integers int32; 32 bits unsigned int64; floats as they are.
struct ImageFile {
  Tensor pixels;
  ImageFacts facts;
};

// DataError: not such a file, damaged, cut off, unsupported, or beyond the limits. IoError: cannot be opened.
ImageFile read_image(const std::filesystem::path& path, const ImageLimits& limits = {});
ImageFile decode_image(std::span<const std::byte> bytes, const std::string& name, const ImageLimits& limits = {});

// From the header alone (of a TIFF: from all pages' headers).
ImageFacts read_image_facts(const std::filesystem::path& path, const ImageLimits& limits = {});

// Height and width of the first page, from the header.
std::array<int64_t, 2> image_size(const std::filesystem::path& path);

// True for the endings that read_image knows (.png .jpg .jpeg .tif .tiff, any case).
bool has_image_extension(const std::filesystem::path& path);

// (H, W) or (H, W, C), C = 1..4 (gray, gray + alpha, RGB, RGBA); uint8: 8 bits, int32: 16 bits, values 0..65535 (DataError).
void write_png(const std::filesystem::path& path, const Tensor& image);

// (H, W), (H, W, C) or (pages, H, W, C); uint8: 8 bits; int32, int64: unsigned, 16 bits or, where a value asks for it, 32
// (DataError below 0 or above 2^32 - 1); float32. Deflate.
void write_tiff(const std::filesystem::path& path, const Tensor& image);

// Label map (H, W) int32 as STEM.png of 16 bits, or as STEM.tif of 32 bits where an id is above 65535. Returns the path.
std::filesystem::path write_label_map(const std::filesystem::path& stem, const Tensor& labels);

// For the formats' readers: throws DataError where `facts` go beyond `limits`; `file_bytes` is the size of the file.
void check_image_limits(const ImageFacts& facts, uint64_t file_bytes, const ImageLimits& limits, std::string_view name);

// For the formats' readers: turns n samples of type From that lie at the end of storage for n values of type To into those
// values, in place (To is at least as wide, so no sample is overwritten before it is read).
template <class From, class To, class Convert>
void expand_in_place(To* storage, int64_t n, Convert convert) {
  static_assert(sizeof(To) >= sizeof(From));
  const std::byte* from = reinterpret_cast<const std::byte*>(storage + n) - static_cast<size_t>(n) * sizeof(From);
  for (int64_t i = 0; i < n; ++i) {
    From v;
    std::memcpy(&v, from + static_cast<size_t>(i) * sizeof(From), sizeof v);
    const To w = convert(v);
    std::memcpy(storage + i, &w, sizeof w);
  }
}

}  // namespace glia
