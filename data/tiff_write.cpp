// The TIFF writer: strips of a quarter of a megabyte, Deflate, with a predictor for whole numbers.
#include <algorithm>
#include <cstring>

#include "data/atomic_file.h"
#include "data/tiff.h"
#include "data/tiff_file.h"
#include "tensor/error.h"

namespace glia {

using namespace tiff;

namespace {

// Samples of a page as they go to the file.
std::vector<std::byte> stored_samples(const Tensor& page, int bits, std::string_view name) {
  std::vector<std::byte> out(static_cast<size_t>(page.size()) * static_cast<size_t>(bits / 8));
  if (page.dtype() == DType::uint8 || page.dtype() == DType::float32) {
    copy_bytes(out.data(), page.raw(), out.size());
    return out;
  }
  const auto narrow = [&](auto values) {
    for (size_t i = 0; i < values.size(); ++i) {
      const auto v = static_cast<int64_t>(values[i]);
      if (v < 0 || v > 0xffffffff) throw DataError("{}: value {} in a TIFF, want 0 to 4294967295", name, v);
      const auto stored = static_cast<uint32_t>(v);  // little endian: its low bytes come first
      std::memcpy(out.data() + i * static_cast<size_t>(bits / 8), &stored, static_cast<size_t>(bits / 8));
    }
  };
  page.dtype() == DType::int32 ? narrow(page.values<const int32_t>()) : narrow(page.values<const int64_t>());
  return out;
}

int bits_for(const Tensor& image) {
  if (image.dtype() == DType::uint8) return 8;
  if (image.dtype() == DType::float32) return 32;
  const auto wide = [](auto values) { return std::any_of(values.begin(), values.end(), [](auto v) { return v > 65535; }); };
  return (image.dtype() == DType::int32 ? wide(image.values<const int32_t>()) : wide(image.values<const int64_t>())) ? 32 : 16;
}

void set_fields(TIFF* tif, int64_t h, int64_t w, int64_t c, int bits, bool floating) {
  TIFFSetField(tif, TIFFTAG_IMAGEWIDTH, static_cast<uint32_t>(w));
  TIFFSetField(tif, TIFFTAG_IMAGELENGTH, static_cast<uint32_t>(h));
  TIFFSetField(tif, TIFFTAG_SAMPLESPERPIXEL, static_cast<int>(c));
  TIFFSetField(tif, TIFFTAG_BITSPERSAMPLE, bits);
  TIFFSetField(tif, TIFFTAG_SAMPLEFORMAT, floating ? SAMPLEFORMAT_IEEEFP : SAMPLEFORMAT_UINT);
  TIFFSetField(tif, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
  const bool colour = (c == 3 || c == 4) && bits <= 16;
  TIFFSetField(tif, TIFFTAG_PHOTOMETRIC, colour ? PHOTOMETRIC_RGB : PHOTOMETRIC_MINISBLACK);
  if (const int64_t extra = c - (colour ? 3 : 1); extra > 0) {
    const std::vector<uint16_t> kinds(static_cast<size_t>(extra), colour ? EXTRASAMPLE_UNASSALPHA : EXTRASAMPLE_UNSPECIFIED);
    TIFFSetField(tif, TIFFTAG_EXTRASAMPLES, static_cast<int>(extra), kinds.data());
  }
  TIFFSetField(tif, TIFFTAG_COMPRESSION, COMPRESSION_ADOBE_DEFLATE);
  if (!floating) TIFFSetField(tif, TIFFTAG_PREDICTOR, PREDICTOR_HORIZONTAL);
  TIFFSetField(tif, TIFFTAG_ROWSPERSTRIP, static_cast<uint32_t>(std::clamp<int64_t>((1 << 18) / (w * c * bits / 8), 1, h)));
}

}  // namespace

std::string encode_tiff(const Tensor& image, std::string_view name) {
  GLIA_CHECK(image.rank() >= 2 && image.rank() <= 4, "{}: TIFF of {}, want (H, W), (H, W, C) or (pages, H, W, C)", name,
             image.shape());
  const DType t = image.dtype();
  GLIA_CHECK(t == DType::uint8 || t == DType::int32 || t == DType::int64 || t == DType::float32,
             "{}: TIFF of {}, want uint8, int32, int64 or float32", name, name_of(t));
  const int r = image.rank();
  const int64_t pages = r == 4 ? image.dim(0) : 1, c = r == 2 ? 1 : image.dim(-1);
  const int64_t h = r == 4 ? image.dim(1) : image.dim(0), w = r == 4 ? image.dim(2) : image.dim(1);
  GLIA_CHECK(image.size() > 0 && c < 65536 && h <= 0xffffffff && w <= 0xffffffff, "{}: TIFF of {}, want pixels", name,
             image.shape());
  const Tensor host = image.to(Device{}).reshape({pages, h, w, c});
  const int bits = bits_for(host);

  Stream stream;
  const std::string file_name(name);
  Tiff tif = open_stream(stream, file_name, host.bytes() > (size_t{3} << 30) ? "wm8" : "wm");
  bool good = tif != nullptr;
  for (int64_t i = 0; i < pages && good; ++i) {
    set_fields(tif.get(), h, w, c, bits, t == DType::float32);
    std::vector<std::byte> samples = stored_samples(host.slice(i, i + 1), bits, name);
    uint32_t rows = 0;
    TIFFGetField(tif.get(), TIFFTAG_ROWSPERSTRIP, &rows);
    const size_t row_bytes = static_cast<size_t>(w * c) * static_cast<size_t>(bits / 8);
    for (int64_t y = 0; y < h && good; y += rows) {
      const auto bytes = static_cast<tmsize_t>(row_bytes * static_cast<size_t>(std::min<int64_t>(rows, h - y)));
      good = TIFFWriteEncodedStrip(tif.get(), static_cast<uint32_t>(y / rows),
                                   samples.data() + static_cast<size_t>(y) * row_bytes, bytes) == bytes;
    }
    good = good && TIFFWriteDirectory(tif.get());
  }
  tif.reset();
  if (!good || stream.error[0]) throw InternalError("{}: libtiff: {}", name, stream.error.data());
  return std::move(stream.out);
}

void write_tiff(const std::filesystem::path& path, const Tensor& image) { write_file(path, encode_tiff(image, path.string())); }

}  // namespace glia
