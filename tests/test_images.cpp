// Image files: what we write we read, JPEG against libjpeg, limits before memory is taken.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>

#include "data/atomic_file.h"
#include "data/image_io.h"
#include "data/jpeg.h"
#include "data/png.h"
#include "data/tiff.h"
#include "tests/bytes_of.h"
#include "tests/data_error_of.h"
#include "tests/paths.h"

using namespace glia;
using tests::bytes_of;
using tests::data_error_of;
using tests::TemporaryFolder;

namespace {

// Values that look random, the same each time.
template <class T>
Tensor pattern(const Shape& shape, T most) {
  Tensor t(shape, dtype_of<T>);
  uint64_t state = 1;
  for (T& v : t.values<T>()) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    v = static_cast<T>((state >> 33) % (static_cast<uint64_t>(most) + 1));
  }
  return t;
}

bool equal_bytes(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.bytes() == b.bytes() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

}  // namespace

TEST_SUITE_BEGIN("data");

TEST_CASE("images: PNG round trips") {
  TemporaryFolder folder;
  for (const int64_t c : {1, 2, 3, 4}) {
    CAPTURE(c);
    const Tensor narrow = pattern<uint8_t>({7, 5, c}, 255), wide = pattern<int32_t>({3, 11, c}, 65535);
    write_png(folder / "a.png", narrow);
    write_png(folder / "b.png", wide);
    CHECK(equal_bytes(read_image(folder / "a.png").pixels, narrow));
    const ImageFile b = read_image(folder / "b.png");
    CHECK(equal_bytes(b.pixels, wide));
    CHECK(b.facts.bits == 16);
    CHECK(b.facts.channels == c);
    CHECK(b.facts.format == "PNG");
  }
  write_png(folder / "flat.png", pattern<uint8_t>({4, 6}, 255));
  CHECK(read_image(folder / "flat.png").pixels.shape() == Shape{4, 6, 1});
  CHECK_THROWS_AS(write_png(folder / "c.png", Tensor::full({2, 2}, 65536, DType::int32)), DataError);
  CHECK_THROWS_AS(write_png(folder / "c.png", Tensor::full({2, 2}, -1, DType::int32)), DataError);
  CHECK_THROWS_AS(write_png(folder / "c.png", Tensor::full({2, 2, 5}, 1, DType::uint8)), InternalError);
  CHECK(!std::filesystem::exists(folder / "c.png"));
}

TEST_CASE("images: TIFF round trips") {
  TemporaryFolder folder;
  const auto path = folder / "a.tif";
  for (const int64_t c : {1, 2, 3, 4, 5}) {
    CAPTURE(c);
    for (const Tensor& t : {pattern<uint8_t>({300, 211, c}, 255), pattern<int32_t>({31, 17, c}, 65535),
                            pattern<int32_t>({31, 17, c}, 65536 * 1000), pattern<int64_t>({9, 17, c}, 0xffffffff)}) {
      write_tiff(path, t);
      const ImageFile back = read_image(path);
      CHECK(back.pixels.shape() == t.shape());
      CHECK(equal_bytes(back.pixels.cast(t.dtype()), t));
    }
  }
  Tensor f = pattern<int32_t>({8, 9}, 1000).cast(DType::float32);
  f.data<float>()[0] = std::numeric_limits<float>::quiet_NaN();
  f.data<float>()[1] = -std::numeric_limits<float>::infinity();
  write_tiff(path, f);
  CHECK(equal_bytes(read_image(path).pixels, f));
  const Tensor pages = pattern<uint8_t>({4, 6, 7, 3}, 255);
  write_tiff(path, pages);
  CHECK(read_image(path).pixels.shape() == pages.shape());
  CHECK(equal_bytes(read_image(path).pixels, pages));
  CHECK(image_size(path) == std::array<int64_t, 2>{6, 7});
  CHECK(read_image_facts(path).pages == 4);
  CHECK_THROWS_AS(write_tiff(path, Tensor::full({1, 1}, -1, DType::int32)), DataError);
  CHECK_THROWS_AS(write_tiff(path, Tensor::full({1, 1}, 4294967296.0, DType::int64)), DataError);
  CHECK(equal_bytes(read_image(path).pixels, pages));  // a failed write leaves the old file
}

TEST_CASE("images: label maps keep every id") {
  TemporaryFolder folder;
  for (const int most : {65535, 65536}) {
    Tensor labels = Tensor::zeros({5, 6}, DType::int32);
    labels.data<int32_t>()[7] = most;
    const auto path = write_label_map(folder / "cells.v1", labels);
    CHECK(path.filename() == (most > 65535 ? "cells.v1.tif" : "cells.v1.png"));
    CHECK(equal_bytes(read_image(path).pixels.cast(DType::int32), labels));
  }
}

TEST_CASE("images: JPEG as libjpeg decodes it") {
  const auto folder = tests::source_folder() / "tests/fixtures/jpeg";
  for (const std::string name : {"gray", "colour", "progressive"}) {
    CAPTURE(name);
    const ImageFile got = read_image(folder / (name + ".jpg"));
    const Tensor want = read_image(folder / (name + ".png")).pixels;
    REQUIRE(got.pixels.shape() == want.shape());
    CHECK(equal_bytes(got.pixels, want));
    CHECK(got.facts.storage == (name == "progressive" ? "progressive" : "baseline"));
    CHECK(image_size(folder / (name + ".jpg")) == std::array<int64_t, 2>{37, 45});
  }
  std::string two_frames = read_file(folder / "gray.jpg");
  const size_t frame = two_frames.find("\xff\xc0");
  const size_t length = static_cast<size_t>(two_frames[frame + 3]) + 2;
  two_frames.insert(frame, two_frames.substr(frame, length));
  CHECK(data_error_of([&] { decode_jpeg(bytes_of(two_frames), "x", {}); }).find("two SOF markers") != std::string::npos);

  const std::string small = read_file(folder / "colour.jpg");  // 37 x 45 x 3 bytes in 1225: a ratio between 4 and 5
  const auto decode = [&](uint64_t ratio) { decode_jpeg(bytes_of(small), "x", {.expansion = ratio, .free_bytes = 0}); };
  CHECK_NOTHROW(decode(10));
  CHECK(data_error_of([&] { decode(9); }).find("image_ratio") != std::string::npos);
}

TEST_CASE("images: JPEG turned as Exif says") {
  // Where a stored row and column are shown, as Exif's table has it: 6 means that row 0 is the right side and column 0 the top.
  const auto shown_at = [](int orientation, int64_t row, int64_t column, int64_t h, int64_t w) -> std::array<int64_t, 2> {
    switch (orientation) {
      case 2: return {row, w - 1 - column};
      case 3: return {h - 1 - row, w - 1 - column};
      case 4: return {h - 1 - row, column};
      case 5: return {column, row};
      case 6: return {column, h - 1 - row};
      case 7: return {w - 1 - column, h - 1 - row};
      case 8: return {w - 1 - column, row};
      default: return {row, column};
    }
  };
  const std::string plain = read_file(tests::source_folder() / "tests/fixtures/jpeg/colour.jpg");
  const Tensor stored = decode_jpeg(bytes_of(plain), "x", {}).pixels;
  const int64_t h = stored.dim(0), w = stored.dim(1);
  const auto with_exif = [&](const std::string& tiff) {
    const std::string block = std::string("Exif\0\0", 6) + tiff;
    const char size[2] = {static_cast<char>((block.size() + 2) >> 8), static_cast<char>((block.size() + 2) & 255)};
    return plain.substr(0, 2) + "\xff\xe1" + std::string(size, 2) + block + plain.substr(2);
  };
  for (const bool big_endian : {true, false}) {
    for (int orientation = 0; orientation <= 9; ++orientation) {
      CAPTURE(orientation);
      const char o = static_cast<char>(orientation);
      const std::string tiff =
          big_endian ? std::string("MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0", 19) + o + std::string(6, '\0')
                     : std::string("II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0", 18) + o + std::string(7, '\0');
      const std::string file = with_exif(tiff);
      const Tensor got = decode_jpeg(bytes_of(file), "x", {}).pixels;
      const bool turned = orientation >= 5 && orientation <= 8;
      REQUIRE(got.shape() == (turned ? Shape{w, h, 3} : Shape{h, w, 3}));
      CHECK(jpeg_facts(bytes_of(file), "x").height == (turned ? w : h));
      bool equal = true;
      for (int64_t row = 0; row < h; ++row)
        for (int64_t column = 0; column < w; ++column) {
          const auto [y, x] = shown_at(orientation, row, column, h, w);
          equal = equal &&
                  std::equal(stored.data<uint8_t>() + (row * w + column) * 3, stored.data<uint8_t>() + (row * w + column) * 3 + 3,
                             got.data<uint8_t>() + (y * got.dim(1) + x) * 3);
        }
      CHECK(equal);
    }
  }
  // Broken blocks are as good as none.
  const std::string whole = std::string("MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0", 26);
  for (size_t length = 0; length < 20; ++length)
    CHECK(decode_jpeg(bytes_of(with_exif(whole.substr(0, length))), "x", {}).pixels.shape() == stored.shape());
  std::string far = whole;
  far[4] = '\x7f';
  CHECK(decode_jpeg(bytes_of(with_exif(far)), "x", {}).pixels.shape() == stored.shape());
}

TEST_CASE("images: limits hold before memory is taken (R17)") {
  const std::string png = encode_png(Tensor::zeros({40, 50, 3}, DType::uint8), "x");
  const std::string tiff = encode_tiff(Tensor::zeros({3, 40, 50, 3}, DType::uint8), "x");
  const auto error = [](const std::string& image, const ImageLimits& limits) {
    return data_error_of([&] { decode_image(bytes_of(image), "x", limits); });
  };
  for (const std::string& image : {png, tiff}) {
    ImageLimits limits;
    limits.pixels = 2000;
    CHECK(error(image, limits) == "");
    limits.pixels = 2001;
    CHECK(error(image, limits) == "");
    limits.pixels = 1999;
    CHECK(error(image, limits).find("at most 1999 are allowed") != std::string::npos);
    limits = {};
    const uint64_t bytes = image == png ? 6000 : 18000;
    limits.bytes = bytes;
    CHECK(error(image, limits) == "");
    limits.bytes = bytes - 1;
    CHECK(error(image, limits).find("bytes allowed") != std::string::npos);
    limits = {};
    limits.free_bytes = 100;
    limits.expansion = bytes / image.size() + 1;
    CHECK(error(image, limits) == "");
    limits.expansion = bytes / image.size() / 2;
    CHECK(error(image, limits).find("exhaust memory") != std::string::npos);
  }
  ImageLimits limits;
  limits.pages = 3;
  CHECK(error(tiff, limits) == "");
  limits.pages = 2;
  CHECK(error(tiff, limits).find("more than the 2 pages") != std::string::npos);
}

TEST_CASE("images: pages of two sizes, unknown files, endings") {
  TemporaryFolder folder;
  write_file(folder / "a.png", "GIF89a and more");
  CHECK(data_error_of([&] { read_image(folder / "a.png"); }).find("47 49 46 38 39 61") != std::string::npos);
  CHECK_THROWS_AS(read_image(folder / "none.png"), IoError);
  CHECK_THROWS_AS(read_image(folder.path()), IoError);
  CHECK(has_image_extension("x/y.TIFF"));
  CHECK(has_image_extension("y.jpeg"));
  CHECK(!has_image_extension("y.png.txt"));
  // The second page's header (the file's end is the first place that 'II*' pages share) gets another height.
  std::string tiff = encode_tiff(pattern<uint8_t>({2, 6, 7, 1}, 255), "x");
  const std::string height_tag{"\x01\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00", 12};
  const size_t second = tiff.rfind(height_tag);
  REQUIRE(second != tiff.find(height_tag));
  tiff[second + 8] = 5;
  CHECK(data_error_of([&] { decode_tiff(bytes_of(tiff), "x", {}); }).find("page 2 is 5 x 7 x 1 uint8, the first 6 x 7 x 1") !=
        std::string::npos);
}

TEST_SUITE_END();
