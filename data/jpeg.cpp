// libjpeg reports errors by a callback that must not return. As in png.cpp: each `step_*` function calls setjmp and has only trivial
// locals, all that owns memory lives in its caller, and the callbacks never throw.
#include "data/jpeg.h"

#include <csetjmp>
#include <cstdio>

#include <jpeglib.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "tensor/error.h"

namespace glia {
namespace {

constexpr int exif_marker = JPEG_APP0 + 1;
constexpr int max_scans = 500;  // more would cost hours on a small file; encoders write about ten

struct Decoder {
  jpeg_decompress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg_progress_mgr progress{};
  std::jmp_buf jump{};
  std::array<char, JMSG_LENGTH_MAX> message{};
  std::span<const std::byte> bytes;

  ~Decoder() { jpeg_destroy_decompress(&jpeg); }
};

Decoder& decoder_of(j_common_ptr jpeg) { return *static_cast<Decoder*>(jpeg->client_data); }

[[noreturn]] void on_error(j_common_ptr jpeg) {
  Decoder& d = decoder_of(jpeg);
  jpeg->err->format_message(jpeg, d.message.data());
  std::longjmp(d.jump, 1);
}

// Levels below 0 are warnings of damaged data, the others tell what the file contains.
void on_message(j_common_ptr jpeg, int level) {
  if (level < 0) on_error(jpeg);
}

void on_progress(j_common_ptr jpeg) {
  Decoder& d = decoder_of(jpeg);
  if (d.jpeg.input_scan_number <= max_scans) return;
  std::snprintf(d.message.data(), d.message.size(), "more than %d scans", max_scans);
  std::longjmp(d.jump, 1);
}

bool step_header(Decoder& d) {
  if (setjmp(d.jump)) return false;
  jpeg_create_decompress(&d.jpeg);  // clears the struct but for err and client_data
  d.progress.progress_monitor = on_progress;
  d.jpeg.progress = &d.progress;
  jpeg_save_markers(&d.jpeg, exif_marker, 0xFFFF);
  jpeg_mem_src(&d.jpeg, reinterpret_cast<const unsigned char*>(d.bytes.data()), static_cast<unsigned long>(d.bytes.size()));
  jpeg_read_header(&d.jpeg, TRUE);
  jpeg_calc_output_dimensions(&d.jpeg);
  return true;
}

bool step_rows(Decoder& d, JSAMPROW* rows) {
  if (setjmp(d.jump)) return false;
  jpeg_start_decompress(&d.jpeg);
  while (d.jpeg.output_scanline < d.jpeg.output_height)
    jpeg_read_scanlines(&d.jpeg, rows + d.jpeg.output_scanline, d.jpeg.output_height - d.jpeg.output_scanline);
  jpeg_finish_decompress(&d.jpeg);
  return true;
}

// Tag 274 of the first directory of an Exif block, which is a TIFF file's beginning; 1 where there is none or it makes no sense.
int exif_orientation(std::span<const uint8_t> exif) {
  constexpr std::string_view head("Exif\0\0", 6);
  if (exif.size() < head.size() + 8 || !std::equal(head.begin(), head.end(), exif.begin())) return 1;
  const std::span<const uint8_t> tiff = exif.subspan(head.size());
  const bool big_endian = tiff[0] == 'M';
  const auto number = [&](size_t at, size_t bytes) {
    size_t value = 0;
    for (size_t i = 0; i < bytes; ++i) value = value << 8 | tiff[big_endian ? at + i : at + bytes - 1 - i];
    return value;
  };
  const size_t directory = number(4, 4);
  if (directory > tiff.size() - 2) return 1;
  for (size_t i = 0, count = number(directory, 2); i < count; ++i) {
    const size_t entry = directory + 2 + 12 * i;
    if (entry + 12 > tiff.size()) return 1;
    if (number(entry, 2) != 274) continue;
    const size_t orientation = number(entry + 8, 2);
    return orientation >= 1 && orientation <= 8 ? static_cast<int>(orientation) : 1;
  }
  return 1;
}

int orientation_of(const Decoder& d) {
  for (auto marker = d.jpeg.marker_list; marker; marker = marker->next) {
    const int found = marker->marker == exif_marker ? exif_orientation({marker->data, marker->data_length}) : 1;
    if (found != 1) return found;
  }
  return 1;
}

// Exif's orientations: 2 mirrored, 3 turned by 180 degrees, 4 upside down, 5 transposed, 6 to be turned clockwise, 7 transposed over the
// other diagonal, 8 to be turned anticlockwise.
Tensor turned(const Tensor& pixels, int orientation) {
  const bool swap = orientation >= 5, from_below = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7,
             from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const int64_t height = pixels.dim(0), width = pixels.dim(1), channels = pixels.dim(2);
  Tensor result({swap ? width : height, swap ? height : width, channels}, DType::uint8);
  uint8_t* to = result.data<uint8_t>();
  for (int64_t y = 0; y < result.dim(0); ++y) {
    for (int64_t x = 0; x < result.dim(1); ++x, to += channels) {
      const int64_t row = swap ? x : y, column = swap ? y : x;
      const int64_t from = (from_below ? height - 1 - row : row) * width + (from_right ? width - 1 - column : column);
      std::copy_n(pixels.data<uint8_t>() + from * channels, channels, to);
    }
  }
  return result;
}

[[noreturn]] void fail(const Decoder& d, const std::string& name) {
  const size_t left = d.jpeg.src ? std::min(d.jpeg.src->bytes_in_buffer, d.bytes.size()) : d.bytes.size();
  throw DataError("{}: damaged JPEG: {} (at byte {} of {})", name, d.message.data(), d.bytes.size() - left, d.bytes.size());
}

ImageFacts read_header(Decoder& d, std::span<const std::byte> bytes, const std::string& name) {
  d.bytes = bytes;
  d.jpeg.err = jpeg_std_error(&d.errors);
  d.jpeg.client_data = &d;
  d.errors.error_exit = on_error;
  d.errors.emit_message = on_message;
  if (!step_header(d)) fail(d, name);
  const J_COLOR_SPACE colours = d.jpeg.jpeg_color_space;
  const bool cmyk = colours == JCS_CMYK || colours == JCS_YCCK;
  if (!cmyk && colours != JCS_GRAYSCALE && colours != JCS_RGB && colours != JCS_YCbCr)
    throw DataError("{}: a JPEG of {} components of unknown meaning is not supported", name, d.jpeg.num_components);
  ImageFacts f;
  f.format = "JPEG";
  f.height = d.jpeg.output_height;
  f.width = d.jpeg.output_width;
  if (orientation_of(d) >= 5) std::swap(f.height, f.width);
  f.channels = colours == JCS_GRAYSCALE ? 1 : 3;
  f.bits = d.jpeg.data_precision;
  f.samples = "unsigned";
  f.storage = d.jpeg.progressive_mode ? "progressive" : "baseline";
  if (cmyk) f.storage += ", CMYK";
  return f;
}

// Inverted CMYK, as Adobe writes it (255 = no ink), to RGB.
void cmyk_to_rgb(const uint8_t* from, uint8_t* to, int64_t pixels, bool inverted) {
  for (int64_t i = 0; i < pixels; ++i) {
    const int k = inverted ? from[4 * i + 3] : 255 - from[4 * i + 3];
    for (int c = 0; c < 3; ++c) {
      const int ink = inverted ? from[4 * i + c] : 255 - from[4 * i + c];
      to[3 * i + c] = static_cast<uint8_t>((ink * k + 127) / 255);
    }
  }
}

}  // namespace

ImageFacts jpeg_facts(std::span<const std::byte> bytes, const std::string& name) {
  Decoder d;
  return read_header(d, bytes, name);
}

ImageFile decode_jpeg(std::span<const std::byte> bytes, const std::string& name, const ImageLimits& limits) {
  Decoder d;
  ImageFile image{{}, read_header(d, bytes, name)};
  const ImageFacts& f = image.facts;
  // The decoder needs about three times the image, so it gets half of the ratio: by default 1500, where a JPEG reaches 1024.
  ImageLimits tight = limits;
  tight.expansion = std::max<uint64_t>(limits.expansion / 2, 1);
  tight.free_bytes = std::min<uint64_t>(limits.free_bytes, uint64_t{8} << 20);
  check_image_limits(f, bytes.size(), tight, name);
  const bool cmyk = d.jpeg.num_components == 4;
  d.jpeg.out_color_space = cmyk ? JCS_CMYK : f.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;

  const int64_t height = d.jpeg.output_height, width = d.jpeg.output_width;  // as stored
  const int orientation = orientation_of(d);                                 // libjpeg forgets it when it is done
  image.pixels = Tensor({height, width, f.channels}, DType::uint8);
  std::vector<uint8_t> inks(cmyk ? static_cast<size_t>(height * width * 4) : 0);
  uint8_t* first = cmyk ? inks.data() : image.pixels.data<uint8_t>();
  std::vector<JSAMPROW> rows(static_cast<size_t>(height));
  for (size_t y = 0; y < rows.size(); ++y) rows[y] = first + y * static_cast<size_t>(width * (cmyk ? 4 : f.channels));
  if (!step_rows(d, rows.data())) fail(d, name);
  if (cmyk) cmyk_to_rgb(inks.data(), image.pixels.data<uint8_t>(), height * width, d.jpeg.saw_Adobe_marker);
  if (orientation != 1) image.pixels = turned(image.pixels, orientation);
  return image;
}

}  // namespace glia
