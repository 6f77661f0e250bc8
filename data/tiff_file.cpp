// libtiff over memory. Its error handler keeps the first message, which becomes the exception's text; nothing throws through it.
#include "data/tiff_file.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "tensor/error.h"

namespace glia::tiff {
namespace {

constexpr tmsize_t max_library_allocation = tmsize_t{32} << 20;

tmsize_t read_proc(thandle_t h, void* to, tmsize_t n) {
  auto& s = *static_cast<Stream*>(h);
  if (s.in.data() == nullptr) {  // libtiff reads back what it wrote
    const size_t m = s.at < s.out.size() ? std::min(static_cast<size_t>(n), s.out.size() - s.at) : 0;
    copy_bytes(to, s.out.data() + s.at, m);
    s.at += m;
    return static_cast<tmsize_t>(m);
  }
  const size_t m = s.at < s.in.size() ? std::min(static_cast<size_t>(n), s.in.size() - s.at) : 0;
  copy_bytes(to, s.in.data() + s.at, m);
  s.at += m;
  return static_cast<tmsize_t>(m);
}

tmsize_t write_proc(thandle_t h, void* from, tmsize_t n) {
  auto& s = *static_cast<Stream*>(h);
  if (s.in.data() != nullptr) return -1;
  try {
    if (s.out.size() < s.at + static_cast<size_t>(n)) s.out.resize(s.at + static_cast<size_t>(n));
  } catch (...) {
    return -1;
  }
  copy_bytes(s.out.data() + s.at, from, static_cast<size_t>(n));
  s.at += static_cast<uint64_t>(n);
  return n;
}

toff_t size_proc(thandle_t h) {
  const auto& s = *static_cast<Stream*>(h);
  return s.in.data() ? s.in.size() : s.out.size();
}

toff_t seek_proc(thandle_t h, toff_t offset, int whence) {
  auto& s = *static_cast<Stream*>(h);
  s.at = whence == SEEK_SET ? offset : whence == SEEK_CUR ? s.at + offset : size_proc(h) + offset;
  return s.at;
}

int close_proc(thandle_t) { return 0; }

int on_error(TIFF*, void* user, const char*, const char* format, va_list arguments) {
  auto& s = *static_cast<Stream*>(user);
  if (s.error[0] == 0) std::vsnprintf(s.error.data(), s.error.size(), format, arguments);
  return 1;
}

int on_warning(TIFF*, void*, const char*, const char*, va_list) { return 1; }

}  // namespace

Tiff open_stream(Stream& stream, const std::string& name, const char* mode) {
  const std::unique_ptr<TIFFOpenOptions, void (*)(TIFFOpenOptions*)> options(TIFFOpenOptionsAlloc(), TIFFOpenOptionsFree);
  if (!options) throw OutOfMemoryError("{}: no memory for a TIFF", name);
  const auto file_bytes = static_cast<tmsize_t>(stream.in.size());
  TIFFOpenOptionsSetMaxSingleMemAlloc(options.get(), std::max(file_bytes, max_library_allocation));
  TIFFOpenOptionsSetErrorHandlerExtR(options.get(), on_error, &stream);
  TIFFOpenOptionsSetWarningHandlerExtR(options.get(), on_warning, &stream);
  return {TIFFClientOpenExt(name.c_str(), mode, &stream, read_proc, write_proc, seek_proc, close_proc, size_proc, nullptr,
                            nullptr, options.get()),
          TIFFClose};
}

[[noreturn]] void fail(const Stream& stream, const std::string& name, const char* otherwise) {
  std::string_view text = stream.error[0] ? stream.error.data() : otherwise;
  if (text.starts_with(name + ": ")) text.remove_prefix(name.size() + 2);
  throw DataError("{}: damaged TIFF: {} (at byte {} of {})", name, text, std::min<uint64_t>(stream.at, stream.in.size()),
                  stream.in.size());
}

const char* compression_name(uint16_t compression) {
  switch (compression) {
    case COMPRESSION_NONE: return "uncompressed";
    case COMPRESSION_PACKBITS: return "PackBits";
    case COMPRESSION_LZW: return "LZW";
    case COMPRESSION_DEFLATE:
    case COMPRESSION_ADOBE_DEFLATE: return "Deflate";
    case COMPRESSION_ZSTD: return "Zstandard";
    case COMPRESSION_JPEG: return "JPEG";
    default: return nullptr;
  }
}

std::optional<DType> dtype_for(const Page& p) {
  if (p.format == SAMPLEFORMAT_IEEEFP) {
    if (p.bits == 16 || p.bits == 32) return DType::float32;
    if (p.bits == 64) return DType::float64;
    return std::nullopt;
  }
  const bool is_signed = p.format == SAMPLEFORMAT_INT;
  if (!is_signed && p.format != SAMPLEFORMAT_UINT && p.format != SAMPLEFORMAT_VOID) return std::nullopt;
  switch (p.bits) {
    case 1:
    case 2:
    case 4: return is_signed ? std::nullopt : std::optional(DType::uint8);
    case 8: return is_signed ? DType::int32 : DType::uint8;
    case 16: return DType::int32;
    case 32: return is_signed ? DType::int32 : DType::int64;
    case 64: return DType::int64;
    default: return std::nullopt;
  }
}

Page read_page(TIFF* tif, const Stream& stream, const std::string& name) {
  Page p;
  if (!TIFFGetField(tif, TIFFTAG_IMAGEWIDTH, &p.width) || !TIFFGetField(tif, TIFFTAG_IMAGELENGTH, &p.height))
    fail(stream, name, "no width or height");
  TIFFGetFieldDefaulted(tif, TIFFTAG_BITSPERSAMPLE, &p.bits);
  TIFFGetFieldDefaulted(tif, TIFFTAG_SAMPLESPERPIXEL, &p.samples);
  TIFFGetFieldDefaulted(tif, TIFFTAG_SAMPLEFORMAT, &p.format);
  TIFFGetFieldDefaulted(tif, TIFFTAG_PLANARCONFIG, &p.planar);
  TIFFGetFieldDefaulted(tif, TIFFTAG_COMPRESSION, &p.compression);
  TIFFGetField(tif, TIFFTAG_PHOTOMETRIC, &p.photometric);
  const char* method = compression_name(p.compression);
  if (!method || !TIFFIsCODECConfigured(p.compression))
    throw DataError("{}: TIFF compression {} is not supported; save it with LZW, Deflate or none", name, p.compression);
  if (p.compression == COMPRESSION_LZW || p.compression == COMPRESSION_DEFLATE || p.compression == COMPRESSION_ADOBE_DEFLATE ||
      p.compression == COMPRESSION_ZSTD)
    TIFFGetField(tif, TIFFTAG_PREDICTOR, &p.predictor);
  if (p.compression == COMPRESSION_JPEG && p.photometric == PHOTOMETRIC_YCBCR) {
    TIFFSetField(tif, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
    p.photometric = PHOTOMETRIC_RGB;
  }
  p.tiled = TIFFIsTiled(tif) != 0;
  if (p.tiled) {
    TIFFGetField(tif, TIFFTAG_TILEWIDTH, &p.tile_width);
    TIFFGetField(tif, TIFFTAG_TILELENGTH, &p.tile_height);
  } else {
    TIFFGetFieldDefaulted(tif, TIFFTAG_ROWSPERSTRIP, &p.rows_per_strip);
  }
  if (p.width == 0 || p.height == 0 || p.samples == 0 || (p.tiled ? !p.tile_width || !p.tile_height : !p.rows_per_strip))
    fail(stream, name, "no pixels, samples or rows");
  p.rows_per_strip = std::min(p.rows_per_strip, p.height);
  switch (p.photometric) {
    case PHOTOMETRIC_MINISBLACK:
    case PHOTOMETRIC_MINISWHITE:
    case PHOTOMETRIC_RGB: break;
    case PHOTOMETRIC_PALETTE:
      if (p.samples == 1 && p.bits <= 8 && p.format == SAMPLEFORMAT_UINT) break;
      throw DataError("{}: TIFF with a palette for {} samples of {} bits is not supported", name, p.samples, p.bits);
    default: throw DataError("{}: TIFF colour space {} is not supported; save it as grey or RGB", name, p.photometric);
  }
  if (!dtype_for(p))
    throw DataError("{}: TIFF samples of {} bits, sample format {}, are not supported; save it with 8, 16 or 32 bits", name,
                    p.bits, p.format);
  return p;
}
}  // namespace glia::tiff
