// Recognises image files and hands them to their format's reader; checks the limits they share.
#include "data/image_io.h"

#include <algorithm>
#include <cctype>

#include "data/atomic_file.h"
#include "data/jpeg.h"
#include "data/png.h"
#include "data/tiff.h"
#include "tensor/error.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

enum class Format { png, jpeg, tiff };

bool begins_with(std::span<const std::byte> bytes, std::string_view prefix) {
  return bytes.size() >= prefix.size() && std::memcmp(bytes.data(), prefix.data(), prefix.size()) == 0;
}

Format format_of(std::span<const std::byte> bytes, const std::string& name) {
  using namespace std::string_view_literals;
  if (begins_with(bytes, "\x89PNG\r\n\x1a\n"sv)) return Format::png;
  if (begins_with(bytes, "\xff\xd8\xff"sv)) return Format::jpeg;
  for (const auto magic : {"II*\0"sv, "MM\0*"sv, "II+\0"sv, "MM\0+"sv}) {
    if (begins_with(bytes, magic)) return Format::tiff;
  }
  if (bytes.empty()) throw DataError("{}: the file is empty", name);
  std::string head;
  for (const std::byte b : bytes.first(std::min<size_t>(bytes.size(), 8)))
    head += fmt::format(" {:02x}", std::to_integer<int>(b));
  throw DataError("{}: not a PNG, JPEG or TIFF image (it begins with{}, {} bytes in all)", name, head, bytes.size());
}

ImageFacts facts_of(std::span<const std::byte> bytes, const std::string& name, const ImageLimits& limits) {
  switch (format_of(bytes, name)) {
    case Format::png: return png_facts(bytes, name);
    case Format::jpeg: return jpeg_facts(bytes, name);
    case Format::tiff: return tiff_facts(bytes, name, limits);
  }
  throw InternalError("{}: format", name);
}

}  // namespace

ImageFile decode_image(std::span<const std::byte> bytes, const std::string& name, const ImageLimits& limits) {
  switch (format_of(bytes, name)) {
    case Format::png: return decode_png(bytes, name, limits);
    case Format::jpeg: return decode_jpeg(bytes, name, limits);
    case Format::tiff: return decode_tiff(bytes, name, limits);
  }
  throw InternalError("{}: format", name);
}

ImageFile read_image(const fs::path& path, const ImageLimits& limits) {
  const MappedFile file(path);
  return decode_image(file.bytes(), path.string(), limits);
}

ImageFacts read_image_facts(const fs::path& path, const ImageLimits& limits) {
  const MappedFile file(path);
  return facts_of(file.bytes(), path.string(), limits);
}

std::array<int64_t, 2> image_size(const fs::path& path) {
  const MappedFile file(path);
  ImageLimits first_page;
  first_page.pages = 0;  // a TIFF's further pages are not looked at
  const ImageFacts facts = facts_of(file.bytes(), path.string(), first_page);
  return {facts.height, facts.width};
}

bool has_image_extension(const fs::path& path) {
  std::string ending = path.extension().string();
  for (char& c : ending) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return ending == ".png" || ending == ".jpg" || ending == ".jpeg" || ending == ".tif" || ending == ".tiff";
}

fs::path write_label_map(const fs::path& stem, const Tensor& labels) {
  GLIA_CHECK(labels.rank() == 2 && labels.dtype() == DType::int32, "label map {} {}, want (H, W) int32", labels.shape(),
             name_of(labels.dtype()));
  const auto values = labels.values<int32_t>();
  const bool wide = std::any_of(values.begin(), values.end(), [](int32_t v) { return v > 65535; });
  fs::path path = stem;
  path += wide ? ".tif" : ".png";
  wide ? write_tiff(path, labels) : write_png(path, labels);
  return path;
}

void check_image_limits(const ImageFacts& facts, uint64_t file_bytes, const ImageLimits& limits, std::string_view name) {
  if (facts.height <= 0 || facts.width <= 0 || facts.channels <= 0)
    throw DataError("{}: {} of {} x {} pixels, {} channels", name, facts.format, facts.height, facts.width, facts.channels);
  // No overflow: sides are below 2^32, and 128 bits hold every product.
  const auto pixels = static_cast<__int128>(facts.height) * facts.width;
  if (pixels > limits.pixels)
    throw DataError("{}: {} x {} pixels, at most {} are allowed; a damaged header, or an image to be cut into tiles{}", name,
                    facts.height, facts.width, limits.pixels, raise_hint("pixels"));
  const auto bytes = pixels * facts.channels * facts.pages * static_cast<int64_t>(size_of(facts.dtype));
  const auto text =
      fmt::format("{} page(s) of {} x {} x {} {}", facts.pages, facts.height, facts.width, facts.channels, name_of(facts.dtype));
  if (bytes > limits.bytes)
    throw DataError("{}: {} take more than the {} bytes allowed{}", name, text, limits.bytes, raise_hint("decoded_bytes"));
  if (bytes > limits.free_bytes && bytes / static_cast<int64_t>(limits.expansion) > file_bytes)
    throw DataError("{}: {} cannot be in a file of {} bytes; a damaged header, or a file made to exhaust memory{}", name, text,
                    file_bytes, raise_hint("image_ratio"));
}

}  // namespace glia
