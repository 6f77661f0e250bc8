// Walks the markers of a JPEG (ITU T.81, annex B), then lets stb_image decode it.
#include "data/jpeg.h"

#include <algorithm>
#include <limits>
#include <memory>

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image.h>
#pragma GCC diagnostic pop

#include "tensor/error.h"

namespace glia {
namespace {

constexpr int max_scans = 500;  // more cost hours on a small file; encoders write about ten

struct Walk {
  ImageFacts facts;
  int scans = 0;
};

// Reads segment after segment up to the end marker. With `header_only`, up to the frame header.
class MarkerWalker {
 public:
  MarkerWalker(std::span<const std::byte> bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  Walk run(bool header_only) {
    at_ = 2;  // the start marker, which the caller has seen
    for (;;) {
      const int marker = next_marker();
      if (marker == 0xd9) break;
      if (marker == 0x01 || (marker >= 0xd0 && marker <= 0xd7)) continue;  // no length
      const size_t length = static_cast<size_t>(u16(at_));
      if (length < 2) fail("a segment of no length");
      if (length > bytes_.size() - at_) fail("a segment ends beyond the file; it was cut off");
      const bool frame = marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
      if (frame) {
        read_frame(marker, length);
        if (header_only) return walk_;
      }
      at_ += length;
      if (marker == 0xda) {
        if (++walk_.scans > max_scans) fail("more than 500 scans");
        skip_scan();
      }
    }
    if (walk_.facts.channels == 0 || walk_.scans == 0) fail("no image before its end marker");
    return walk_;
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw DataError("{}: damaged JPEG: {} (at byte {} of {})", name_, what, at_, bytes_.size());
  }
  int u8(size_t i) const {
    if (i >= bytes_.size()) fail("the file was cut off");
    return std::to_integer<int>(bytes_[i]);
  }
  int u16(size_t i) const { return u8(i) << 8 | u8(i + 1); }

  int next_marker() {
    if (u8(at_) != 0xff) fail("a marker is missing");
    while (u8(at_) == 0xff) ++at_;  // any number of fill bytes
    return u8(at_++);
  }
  void skip_scan() {
    for (;; ++at_) {
      const auto rest = bytes_.subspan(std::min(at_, bytes_.size()));
      at_ += static_cast<size_t>(std::find(rest.begin(), rest.end(), std::byte{0xff}) - rest.begin());
      const int next = u8(at_ + 1);
      if (next == 0xff) continue;
      if (next != 0 && !(next >= 0xd0 && next <= 0xd7)) return;
    }
  }
  void read_frame(int marker, size_t length) {
    if (walk_.facts.channels != 0) fail("a second frame");
    if (length < 8) fail("a frame header that is too short");
    ImageFacts& f = walk_.facts;
    f.format = "JPEG";
    f.bits = u8(at_ + 2);
    f.height = u16(at_ + 3);
    f.width = u16(at_ + 5);
    const int components = u8(at_ + 7);
    f.samples = "unsigned";
    f.storage = marker == 0xc2 ? "progressive" : "baseline";
    if (marker > 0xc2) throw DataError("{}: a lossless, differential or arithmetic-coded JPEG, which is not supported", name_);
    if (f.bits != 8) throw DataError("{}: a JPEG of {} bits, only 8 are supported", name_, f.bits);
    if (components != 1 && components != 3 && components != 4) fail("a number of components that is not 1, 3 or 4");
    if (f.height == 0 || f.width == 0) fail("a side of no pixels");
    f.channels = components == 1 ? 1 : 3;
    if (components == 4) f.storage += ", CMYK";
  }

  std::span<const std::byte> bytes_;
  const std::string& name_;
  size_t at_ = 0;
  Walk walk_;
};

}  // namespace

ImageFacts jpeg_facts(std::span<const std::byte> bytes, const std::string& name) {
  return MarkerWalker(bytes, name).run(true).facts;
}

ImageFile decode_jpeg(std::span<const std::byte> bytes, const std::string& name, const ImageLimits& limits) {
  ImageFile image{{}, MarkerWalker(bytes, name).run(false).facts};
  const ImageFacts& f = image.facts;
  // The decoder needs about four times the image, and a JPEG holds at most about 1000 pixels a byte.
  ImageLimits tight = limits;
  tight.expansion = std::min<uint64_t>(limits.expansion, 1024);
  tight.free_bytes = std::min<uint64_t>(limits.free_bytes, uint64_t{8} << 20);
  check_image_limits(f, bytes.size(), tight, name);
  if (bytes.size() > static_cast<size_t>(std::numeric_limits<int>::max())) throw DataError("{}: a JPEG above 2 GiB", name);
  int width = 0, height = 0, channels = 0;
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
      stbi_load_from_memory(reinterpret_cast<const stbi_uc*>(bytes.data()), static_cast<int>(bytes.size()), &width, &height,
                            &channels, static_cast<int>(f.channels)),
      stbi_image_free);
  if (!pixels) throw DataError("{}: damaged JPEG: {}", name, stbi_failure_reason());
  if (width != f.width || height != f.height) throw DataError("{}: damaged JPEG: two different sizes", name);
  image.pixels = Tensor({f.height, f.width, f.channels}, DType::uint8);
  copy_bytes(image.pixels.raw(), pixels.get(), image.pixels.bytes());
  return image;
}

}  // namespace glia
