// The TIFF reader: checks the chain of pages, then decodes strips or tiles page by page.
#include "data/tiff.h"

#include <algorithm>
#include <array>
#include <limits>
#include <unordered_set>

#include "data/tiff_file.h"
#include "tensor/error.h"

namespace glia {

using namespace tiff;

namespace {

constexpr uint64_t max_tile_bytes = uint64_t{32} << 20;  // or a whole page

// Follows the chain of page headers, which libtiff would leave silently where it runs in a circle.
void check_page_chain(std::span<const std::byte> bytes, const std::string& name, const ImageLimits& limits) {
  const bool big_endian = bytes.size() > 1 && bytes[0] == std::byte{'M'};
  const auto number = [&](uint64_t at, size_t n) {
    if (at > bytes.size() || n > bytes.size() - at)
      throw DataError("{}: damaged TIFF: a page's header ends beyond the file; it was cut off (at byte {} of {})", name, at,
                      bytes.size());
    uint64_t v = 0;
    for (size_t i = 0; i < n; ++i) v = v << 8 | std::to_integer<uint64_t>(bytes[at + (big_endian ? i : n - 1 - i)]);
    return v;
  };
  const bool big = number(2, 2) == 43;
  const size_t offset_bytes = big ? 8 : 4, count_bytes = big ? 8 : 2, entry_bytes = big ? 20 : 12;
  std::unordered_set<uint64_t> seen;
  for (uint64_t at = number(big ? 8 : 4, offset_bytes); at != 0;) {
    if (!seen.insert(at).second) throw DataError("{}: damaged TIFF: its chain of pages runs in a circle (at byte {})", name, at);
    if (seen.size() > static_cast<size_t>(limits.pages))
      throw DataError("{}: more than the {} pages allowed{}", name, limits.pages, raise_hint("pages"));
    const uint64_t entries = std::min<uint64_t>(number(at, count_bytes), bytes.size());  // no overflow below
    at = number(at + count_bytes + entries * entry_bytes, offset_bytes);
  }
}

ImageFacts facts_of(TIFF* tif, const Page& p) {
  ImageFacts f;
  f.format = TIFFIsBigTIFF(tif) ? "BigTIFF" : "TIFF";
  f.height = p.height;
  f.width = p.width;
  f.channels = p.channels();
  f.bits = p.bits;
  f.samples = p.format == SAMPLEFORMAT_IEEEFP ? "float" : p.format == SAMPLEFORMAT_INT ? "signed" : "unsigned";
  f.dtype = *dtype_for(p);
  f.storage = compression_name(p.compression);
  if (p.tiled) f.storage += fmt::format(", tiles {}x{}", p.tile_height, p.tile_width);
  if (p.predictor > 1) f.storage += ", predictor";
  if (p.separate()) f.storage += ", planar";
  if (p.palette()) f.storage += ", palette";
  if (p.photometric == PHOTOMETRIC_MINISWHITE) f.storage += ", 0 is white";
  if (TIFFIsBigEndian(tif)) f.storage += ", big-endian";
  return f;
}

// Goes to the next page that is no reduced copy; false at the end of the file.
bool next_page(TIFF* tif, const Stream& stream, const std::string& name) {
  for (;;) {
    if (!TIFFReadDirectory(tif)) {
      if (stream.error[0]) fail(stream, name, "");
      return false;
    }
    uint32_t kind = 0;
    TIFFGetField(tif, TIFFTAG_SUBFILETYPE, &kind);
    if (!(kind & FILETYPE_REDUCEDIMAGE)) return true;
  }
}

// Facts of the file after reading all pages' headers; the first page is current again.
ImageFacts scan_pages(TIFF* tif, const Stream& stream, const std::string& name, const ImageLimits& limits) {
  ImageFacts facts = facts_of(tif, read_page(tif, stream, name));
  if (limits.pages == 0) return facts;
  check_page_chain(stream.in, name, limits);
  while (next_page(tif, stream, name)) {
    ++facts.pages;
    const ImageFacts f = facts_of(tif, read_page(tif, stream, name));
    if (f.height != facts.height || f.width != facts.width || f.channels != facts.channels || f.dtype != facts.dtype)
      throw DataError("{}: page {} is {} x {} x {} {}, the first {} x {} x {} {}; pages of one kind are wanted", name,
                      facts.pages, f.height, f.width, f.channels, name_of(f.dtype), facts.height, facts.width, facts.channels,
                      name_of(facts.dtype));
  }
  if (facts.pages > 1 && !TIFFSetDirectory(tif, 0)) fail(stream, name, "the first page is gone");
  return facts;
}

// Decodes the strips or tiles of the current page to `samples`: (H, W, samples per pixel), each sample in stored_bytes().
class PageDecoder {
 public:
  PageDecoder(TIFF* tif, const Page& page, const Stream& stream, const std::string& name, std::byte* samples)
      : tif_(tif),
        p_(page),
        stream_(stream),
        name_(name),
        samples_(samples),
        block_samples_(page.separate() ? 1 : page.samples) {}

  void run() {
    const uint16_t planes = p_.separate() ? p_.samples : uint16_t{1};
    for (uint16_t plane = 0; plane < planes; ++plane) p_.tiled ? tiles(plane) : strips(plane);
  }

 private:
  size_t row_bytes(uint32_t width) const { return (size_t{width} * block_samples_ * p_.bits + 7) / 8; }
  std::byte* sample(uint32_t y, uint32_t x, uint16_t plane) const {
    return samples_ + ((size_t{y} * p_.width + x) * p_.samples + plane) * p_.stored_bytes();
  }

  void strips(uint16_t plane) {
    const bool direct = !p_.separate() && p_.bits >= 8;  // rows of the strip are rows of the image
    const size_t row = row_bytes(p_.width);
    if (!direct) scratch_.resize(row * p_.rows_per_strip);
    for (uint32_t y = 0; y < p_.height; y += p_.rows_per_strip) {
      const uint32_t rows = std::min(p_.rows_per_strip, p_.height - y);
      std::byte* to = direct ? sample(y, 0, 0) : scratch_.data();
      const auto wanted = static_cast<tmsize_t>(row * rows);
      if (TIFFReadEncodedStrip(tif_, TIFFComputeStrip(tif_, y, plane), to, wanted) != wanted || stream_.error[0])
        fail(stream_, name_, "a strip is too short");
      if (!direct) scatter(y, 0, rows, p_.width, row, plane);
    }
  }

  void tiles(uint16_t plane) {
    const size_t row = row_bytes(p_.tile_width);
    const auto bytes = static_cast<unsigned __int128>(row) * p_.tile_height;
    const uint64_t page_bytes = uint64_t{p_.height} * p_.width * p_.samples * p_.stored_bytes();
    if (bytes > std::max(max_tile_bytes, page_bytes)) throw DataError("{}: TIFF tiles larger than the image", name_);
    const auto wanted = static_cast<tmsize_t>(bytes);
    if (TIFFTileSize(tif_) != wanted) fail(stream_, name_, "tiles of an unexpected size");
    scratch_.resize(static_cast<size_t>(bytes));
    for (uint32_t y = 0; y < p_.height; y += std::min(p_.tile_height, p_.height - y)) {
      for (uint32_t x = 0; x < p_.width; x += std::min(p_.tile_width, p_.width - x)) {
        if (TIFFReadEncodedTile(tif_, TIFFComputeTile(tif_, x, y, 0, plane), scratch_.data(), wanted) != wanted ||
            stream_.error[0])
          fail(stream_, name_, "a tile is too short");
        scatter(y, x, std::min(p_.tile_height, p_.height - y), std::min(p_.tile_width, p_.width - x), row, plane);
      }
    }
  }

  // Copies the upper left h x w pixels of the block in scratch_ to their place.
  void scatter(uint32_t y0, uint32_t x0, uint32_t h, uint32_t w, size_t row, uint16_t plane) {
    const size_t size = p_.stored_bytes();
    for (uint32_t y = 0; y < h; ++y) {
      const std::byte* from = scratch_.data() + y * row;
      if (p_.bits < 8) {
        unpack(from, y0 + y, x0, w, plane);
      } else if (!p_.separate()) {
        std::memcpy(sample(y0 + y, x0, 0), from, size_t{w} * p_.samples * size);
      } else {
        for (uint32_t x = 0; x < w; ++x) std::memcpy(sample(y0 + y, x0 + x, plane), from + x * size, size);
      }
    }
  }

  // Samples of 1, 2 or 4 bits, the high bits first; scaled to 0..255 unless they are palette indices.
  void unpack(const std::byte* from, uint32_t y, uint32_t x0, uint32_t w, uint16_t plane) {
    const unsigned mask = (1u << p_.bits) - 1, scale = p_.palette() ? 1 : 255 / mask, per_byte = 8u / p_.bits;
    for (size_t i = 0; i < size_t{w} * block_samples_; ++i) {
      const unsigned byte = std::to_integer<unsigned>(from[i / per_byte]);
      const unsigned v = byte >> (8 - p_.bits * (i % per_byte + 1)) & mask;
      std::byte* to = p_.separate() ? sample(y, x0 + static_cast<uint32_t>(i), plane) : sample(y, x0, 0) + i;
      *to = static_cast<std::byte>(v * scale);
    }
  }

  TIFF* tif_;
  const Page& p_;
  const Stream& stream_;
  const std::string& name_;
  std::byte* samples_;
  size_t block_samples_;  // samples of a pixel that lie together
  std::vector<std::byte> scratch_;
};

// Palette indices at the end of the storage become RGB in place. Colours have 16 bits; old writers filled only the low 8.
void expand_palette(TIFF* tif, const Page& p, uint8_t* storage, int64_t pixels, const Stream& stream, const std::string& name) {
  std::array<uint16_t*, 3> map{};
  if (!TIFFGetField(tif, TIFFTAG_COLORMAP, &map[0], &map[1], &map[2])) fail(stream, name, "no palette");
  const int colours = 1 << p.bits;
  bool high = false;
  for (const uint16_t* m : map) high = high || std::any_of(m, m + colours, [](uint16_t v) { return v > 255; });
  const uint8_t* index = storage + 2 * pixels;
  for (int64_t i = 0; i < pixels; ++i) {
    const int k = index[i];
    for (int c = 0; c < 3; ++c) storage[3 * i + c] = static_cast<uint8_t>(map[static_cast<size_t>(c)][k] >> (high ? 8 : 0));
  }
}

// Samples at the end of the page's storage become the values of its type; MinIsWhite is turned.
void convert_samples(const Page& p, const Tensor& page, const std::string& name) {
  const int64_t n = page.size();
  const bool is_signed = p.format == SAMPLEFORMAT_INT, flip = p.photometric == PHOTOMETRIC_MINISWHITE && !is_signed;
  if (p.format == SAMPLEFORMAT_IEEEFP) {
    if (p.bits == 16) expand_in_place<Half>(page.data<float>(), n, [](Half v) { return static_cast<float>(v); });
  } else if (p.bits <= 8 && !is_signed) {
    if (!flip) return;
    for (uint8_t& v : page.values<uint8_t>()) v = static_cast<uint8_t>(255 - v);
  } else if (p.bits == 8) {
    expand_in_place<int8_t>(page.data<int32_t>(), n, [](int8_t v) { return int32_t{v}; });
  } else if (p.bits == 16 && is_signed) {
    expand_in_place<int16_t>(page.data<int32_t>(), n, [](int16_t v) { return int32_t{v}; });
  } else if (p.bits == 16) {
    expand_in_place<uint16_t>(page.data<int32_t>(), n, [=](uint16_t v) { return flip ? 65535 - v : int32_t{v}; });
  } else if (p.bits == 32 && !is_signed) {
    expand_in_place<uint32_t>(page.data<int64_t>(), n, [=](uint32_t v) { return flip ? int64_t{0xffffffff} - v : int64_t{v}; });
  } else if (p.bits == 64 && !is_signed) {
    if (flip) throw DataError("{}: TIFF of 64 bits with 0 as white is not supported", name);
    for (const int64_t v : page.values<int64_t>()) {
      if (v < 0) throw DataError("{}: a 64-bit value is above {}", name, std::numeric_limits<int64_t>::max());
    }
  }
}

}  // namespace

ImageFacts tiff_facts(std::span<const std::byte> bytes, const std::string& name, const ImageLimits& limits) {
  Stream stream{bytes, {}, 0, {}};
  const Tiff tif = open_stream(stream, name, "rm");
  if (!tif) fail(stream, name, "no header");
  return scan_pages(tif.get(), stream, name, limits);
}

ImageFile decode_tiff(std::span<const std::byte> bytes, const std::string& name, const ImageLimits& limits) {
  Stream stream{bytes, {}, 0, {}};
  const Tiff tif = open_stream(stream, name, "rm");
  if (!tif) fail(stream, name, "no header");
  ImageLimits all_pages = limits;
  all_pages.pages = std::max<int64_t>(limits.pages, 1);
  ImageFile image{{}, scan_pages(tif.get(), stream, name, all_pages)};
  const ImageFacts& f = image.facts;
  check_image_limits(f, bytes.size(), limits, name);
  image.pixels = Tensor({f.pages, f.height, f.width, f.channels}, f.dtype);
  for (int64_t i = 0; i < f.pages; ++i) {
    if (i > 0 && !next_page(tif.get(), stream, name)) fail(stream, name, "a page is gone");
    const Page p = read_page(tif.get(), stream, name);
    const Tensor page = image.pixels.slice(i, i + 1);
    const size_t sample_bytes = static_cast<size_t>(f.height * f.width) * p.samples * p.stored_bytes();
    PageDecoder(tif.get(), p, stream, name, page.raw() + page.bytes() - sample_bytes).run();
    if (p.palette()) {
      expand_palette(tif.get(), p, page.data<uint8_t>(), f.height * f.width, stream, name);
    } else {
      convert_samples(p, page, name);
    }
  }
  if (f.pages == 1) image.pixels = image.pixels.reshape({f.height, f.width, f.channels});
  return image;
}

}  // namespace glia
