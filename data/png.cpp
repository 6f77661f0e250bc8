// libpng reports errors by longjmp. So: each `step_*` function below calls setjmp and has only trivial locals; all that owns
// memory lives in its caller, and the callbacks never throw.
#include "data/png.h"

#include <png.h>

#include <array>
#include <csetjmp>

#include "data/atomic_file.h"
#include "data/limits.h"
#include "tensor/error.h"

namespace glia {
namespace {

struct Decoder {
  std::span<const std::byte> bytes;
  size_t at = 0;
  std::array<char, 160> message{};
  png_structp png = nullptr;
  png_infop info = nullptr;
  // of the header
  png_uint_32 width = 0, height = 0;
  int bits = 0, colour = 0, interlace = 0;
  int palette_size = 0, transparent_size = 0;
  png_colorp palette = nullptr;
  png_bytep transparent = nullptr;
  size_t row_bytes = 0;  // after the transformations

  ~Decoder() { png_destroy_read_struct(&png, &info, nullptr); }
};

void keep_message(std::array<char, 160>& into, const char* text) { std::strncpy(into.data(), text, into.size() - 1); }

[[noreturn]] void on_read_error(png_structp png, png_const_charp text) {
  keep_message(static_cast<Decoder*>(png_get_error_ptr(png))->message, text);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void read_bytes(png_structp png, png_bytep to, size_t n) {
  auto* d = static_cast<Decoder*>(png_get_io_ptr(png));
  if (n > d->bytes.size() - d->at) png_error(png, "the file was cut off");
  std::memcpy(to, d->bytes.data() + d->at, n);
  d->at += n;
}

bool step_header(Decoder& d) {
  if (setjmp(png_jmpbuf(d.png))) return false;
  png_set_read_fn(d.png, &d, read_bytes);
  png_set_user_limits(d.png, 0x7fffffff, 0x7fffffff);  // check_image_limits decides
  png_set_chunk_malloc_max(d.png, static_cast<png_alloc_size_t>(file_limits().png_chunk));
  png_set_crc_action(d.png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
  png_read_info(d.png, d.info);
  png_get_IHDR(d.png, d.info, &d.width, &d.height, &d.bits, &d.colour, &d.interlace, nullptr, nullptr);
  if (d.colour == PNG_COLOR_TYPE_PALETTE) {
    if (!png_get_PLTE(d.png, d.info, &d.palette, &d.palette_size)) png_error(d.png, "no palette");
    png_get_tRNS(d.png, d.info, &d.transparent, &d.transparent_size, nullptr);
  }
  return true;
}

// Samples of one byte each below 8 bits, native order at 16.
bool step_transformations(Decoder& d) {
  if (setjmp(png_jmpbuf(d.png))) return false;
  if (d.bits < 8) png_set_packing(d.png);
  if (d.bits == 16) png_set_swap(d.png);
  if (d.interlace != PNG_INTERLACE_NONE) png_set_interlace_handling(d.png);
  png_read_update_info(d.png, d.info);
  d.row_bytes = png_get_rowbytes(d.png, d.info);
  return true;
}

bool step_rows(Decoder& d, png_bytepp rows) {
  if (setjmp(png_jmpbuf(d.png))) return false;
  png_read_image(d.png, rows);
  png_read_end(d.png, nullptr);
  return true;
}

[[noreturn]] void fail(const Decoder& d, const std::string& name) {
  throw DataError("{}: damaged PNG: {} (at byte {} of {})", name, d.message.data(), d.at, d.bytes.size());
}

// libpng takes memory for a text as long as its chunk says it is; the limit that it is given holds for what it decompresses.
void check_chunks(std::span<const std::byte> bytes, const std::string& name) {
  const auto most = static_cast<uint64_t>(file_limits().png_chunk);
  for (size_t at = 8; at + 8 <= bytes.size();) {
    uint64_t length = 0;
    for (size_t i = 0; i < 4; ++i) length = length << 8 | std::to_integer<uint64_t>(bytes[at + i]);
    const bool pixels = !(std::to_integer<unsigned>(bytes[at + 4]) & 0x20);  // a small letter: a chunk that can be left out
    if (!pixels && length > most)
      throw DataError("{}: a PNG with a chunk of {} bytes that are no pixels, at most {} are allowed (at byte {} of {}){}", name,
                      length, most, at, bytes.size(), raise_hint("png_chunk"));
    at += 12 + length;
  }
}

ImageFacts read_header(Decoder& d, std::span<const std::byte> bytes, const std::string& name) {
  check_chunks(bytes, name);
  d.bytes = bytes;
  d.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &d, on_read_error, on_warning);
  d.info = d.png ? png_create_info_struct(d.png) : nullptr;
  if (!d.info) throw OutOfMemoryError("{}: no memory for reading a PNG", name);
  if (!step_header(d)) fail(d, name);
  ImageFacts facts;
  facts.format = "PNG";
  facts.height = d.height;
  facts.width = d.width;
  facts.bits = d.bits;
  facts.samples = "unsigned";
  facts.dtype = d.bits == 16 ? DType::int32 : DType::uint8;
  const bool palette = d.colour == PNG_COLOR_TYPE_PALETTE;
  facts.channels = palette ? (d.transparent_size > 0 ? 4 : 3) : png_get_channels(d.png, d.info);
  facts.storage = palette ? "palette" : "";
  if (d.interlace != PNG_INTERLACE_NONE) facts.storage += palette ? ", interlaced" : "interlaced";
  return facts;
}

// Palette indices at the end of the storage become RGB or RGBA, in place as expand_in_place does. libpng itself lets indices
// beyond the palette pass when no transformation is set.
void expand_palette(const Decoder& d, uint8_t* storage, int64_t pixels, int64_t channels, const std::string& name) {
  const uint8_t* index = storage + pixels * (channels - 1);
  for (int64_t i = 0; i < pixels; ++i) {
    const int k = index[i];
    if (k >= d.palette_size)
      throw DataError("{}: damaged PNG: colour index {}, but the palette has {} colours", name, k, d.palette_size);
    const png_color c = d.palette[k];
    uint8_t* to = storage + i * channels;
    to[0] = c.red, to[1] = c.green, to[2] = c.blue;
    if (channels == 4) to[3] = k < d.transparent_size ? d.transparent[k] : uint8_t{255};
  }
}

}  // namespace

ImageFacts png_facts(std::span<const std::byte> bytes, const std::string& name) {
  Decoder d;
  return read_header(d, bytes, name);
}

ImageFile decode_png(std::span<const std::byte> bytes, const std::string& name, const ImageLimits& limits) {
  Decoder d;
  ImageFile image{{}, read_header(d, bytes, name)};
  const ImageFacts& facts = image.facts;
  check_image_limits(facts, bytes.size(), limits, name);
  if (!step_transformations(d)) fail(d, name);

  const bool palette = d.colour == PNG_COLOR_TYPE_PALETTE;
  const int64_t n = facts.height * facts.width * facts.channels;
  const size_t wanted_row = static_cast<size_t>(facts.width * (palette ? 1 : facts.channels)) * (d.bits == 16 ? 2 : 1);
  GLIA_CHECK(d.row_bytes == wanted_row, "{}: libpng rows of {} bytes, want {}", name, d.row_bytes, wanted_row);
  image.pixels = Tensor({facts.height, facts.width, facts.channels}, facts.dtype);
  // libpng's samples go to the end of the storage and are expanded from there.
  std::byte* samples = image.pixels.raw() + image.pixels.bytes() - wanted_row * d.height;
  std::vector<png_bytep> rows(d.height);
  for (size_t y = 0; y < d.height; ++y) rows[y] = reinterpret_cast<png_bytep>(samples + y * wanted_row);
  if (!step_rows(d, rows.data())) fail(d, name);

  if (palette) {
    expand_palette(d, image.pixels.data<uint8_t>(), facts.height * facts.width, facts.channels, name);
  } else if (d.bits == 16) {
    expand_in_place<uint16_t>(image.pixels.data<int32_t>(), n, [](uint16_t v) { return int32_t{v}; });
  } else if (d.bits < 8) {
    const int scale = 255 / ((1 << d.bits) - 1);
    for (uint8_t& v : image.pixels.values<uint8_t>()) v = static_cast<uint8_t>(v * scale);
  }
  return image;
}

namespace {

struct Encoder {
  std::string out;
  std::array<char, 160> message{};
  png_structp png = nullptr;
  png_infop info = nullptr;
  ~Encoder() { png_destroy_write_struct(&png, &info); }
};

[[noreturn]] void on_write_error(png_structp png, png_const_charp text) {
  keep_message(static_cast<Encoder*>(png_get_error_ptr(png))->message, text);
  png_longjmp(png, 1);
}

void write_bytes(png_structp png, png_bytep from, size_t n) {
  try {
    static_cast<Encoder*>(png_get_io_ptr(png))->out.append(reinterpret_cast<const char*>(from), n);
    return;
  } catch (...) {  // no memory: reported below, outside the handler
  }
  png_error(png, "no memory");
}

void flush_nothing(png_structp) {}

bool step_write(Encoder& e, png_uint_32 width, png_uint_32 height, int bits, int colour, png_bytepp rows) {
  if (setjmp(png_jmpbuf(e.png))) return false;
  png_set_write_fn(e.png, &e, write_bytes, flush_nothing);
  png_set_IHDR(e.png, e.info, width, height, bits, colour, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  png_write_info(e.png, e.info);
  if (bits == 16) png_set_swap(e.png);
  png_write_image(e.png, rows);
  png_write_end(e.png, e.info);
  return true;
}

}  // namespace

std::string encode_png(const Tensor& image, std::string_view name) {
  GLIA_CHECK(image.rank() == 2 || image.rank() == 3, "{}: PNG of {}, want (H, W) or (H, W, C)", name, image.shape());
  GLIA_CHECK(image.dtype() == DType::uint8 || image.dtype() == DType::int32, "{}: PNG of {}, want uint8 or int32", name,
             name_of(image.dtype()));
  const int64_t h = image.dim(0), w = image.dim(1), c = image.rank() == 3 ? image.dim(2) : 1;
  GLIA_CHECK(h > 0 && w > 0 && h < 1 << 24 && w < 1 << 24 && c >= 1 && c <= 4,
             "{}: PNG of {}, want sides from 1, 1 to 4 channels", name, image.shape());
  const bool wide = image.dtype() == DType::int32;
  const Tensor host = image.to(Device{});
  std::vector<uint16_t> narrowed;
  if (wide) {
    narrowed.reserve(static_cast<size_t>(host.size()));
    for (const int32_t v : host.values<int32_t>()) {
      if (v < 0 || v > 65535) throw DataError("{}: value {} in a PNG of 16 bits, want 0 to 65535; TIFF holds more", name, v);
      narrowed.push_back(static_cast<uint16_t>(v));
    }
  }
  std::byte* first = wide ? reinterpret_cast<std::byte*>(narrowed.data()) : host.raw();
  const size_t row_bytes = static_cast<size_t>(w * c) * (wide ? 2 : 1);
  std::vector<png_bytep> rows(static_cast<size_t>(h));
  for (size_t y = 0; y < rows.size(); ++y) rows[y] = reinterpret_cast<png_bytep>(first + y * row_bytes);

  Encoder e;
  e.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &e, on_write_error, on_warning);
  e.info = e.png ? png_create_info_struct(e.png) : nullptr;
  if (!e.info) throw OutOfMemoryError("{}: no memory for writing a PNG", name);
  constexpr std::array<int, 4> colours{PNG_COLOR_TYPE_GRAY, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_COLOR_TYPE_RGB,
                                       PNG_COLOR_TYPE_RGB_ALPHA};
  if (!step_write(e, static_cast<png_uint_32>(w), static_cast<png_uint_32>(h), wide ? 16 : 8, colours[static_cast<size_t>(c - 1)],
                  rows.data()))
    throw InternalError("{}: libpng: {}", name, e.message.data());
  return std::move(e.out);
}

void write_png(const std::filesystem::path& path, const Tensor& image) { write_file(path, encode_png(image, path.string())); }

}  // namespace glia
