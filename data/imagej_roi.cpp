// ImageJ's outlines; see the header for the layout.
#include "data/imagej_roi.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>

#include "data/atomic_file.h"
#include "data/zip.h"
#include "tensor/error.h"

namespace glia {
namespace {

constexpr size_t header_size = 64, header2_size = 64;
constexpr uint64_t version = 227, subpixel_option = 128;
constexpr uint64_t max_roi_file = 64 << 20;  // bytes

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string& name) : bytes_(bytes), name_(name) {}
  [[noreturn]] void fail(const char* what, size_t at) const {
    throw DataError("{}: damaged ImageJ ROI: {} (at byte {} of {})", name_, what, at, bytes_.size());
  }
  uint32_t u(size_t at, size_t n) const {
    if (at > bytes_.size() || n > bytes_.size() - at) fail("the file was cut off", bytes_.size());
    uint32_t v = 0;
    for (size_t i = 0; i < n; ++i) v = v << 8 | std::to_integer<uint32_t>(bytes_[at + i]);
    return v;
  }
  int s16(size_t at) const { return static_cast<int16_t>(u(at, 2)); }
  float f32(size_t at) const { return std::bit_cast<float>(u(at, 4)); }
  size_t size() const { return bytes_.size(); }

 private:
  std::span<const std::byte> bytes_;
  const std::string& name_;
};

void append_utf8(std::string& out, uint32_t c) {
  const auto byte = [&](uint32_t v) { out += static_cast<char>(v); };
  if (c < 0x80) {
    byte(c);
  } else if (c < 0x800) {
    byte(0xc0 | c >> 6), byte(0x80 | (c & 63));
  } else if (c < 0x10000) {
    byte(0xe0 | c >> 12), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63));
  } else {
    byte(0xf0 | c >> 18), byte(0x80 | (c >> 12 & 63)), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63));
  }
}

// UTF-16 units; a lone half of a pair becomes U+FFFD.
std::string read_name(const Reader& r, size_t at, size_t units) {
  std::string name;
  for (size_t i = 0; i < units; ++i) {
    uint32_t c = r.u(at + 2 * i, 2);
    if (c >= 0xd800 && c < 0xdc00 && i + 1 < units) {
      const uint32_t low = r.u(at + 2 * i + 2, 2);
      if (low >= 0xdc00 && low < 0xe000) {
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        ++i;
      }
    }
    append_utf8(name, c >= 0xd800 && c < 0xe000 ? 0xfffd : c);
  }
  return name;
}

std::vector<uint16_t> utf16_of(std::string_view text) {
  std::vector<uint16_t> units;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
    uint32_t c = more == 3 ? lead & 7u : more == 2 ? lead & 15u : more == 1 ? lead & 31u : lead;
    for (size_t k = 1; k <= more; ++k) c = c << 6 | (i + k < text.size() ? static_cast<unsigned char>(text[i + k]) & 63u : 0);
    i += 1 + more;
    if (c > 0xffff) {
      units.push_back(static_cast<uint16_t>(0xd800 + ((c - 0x10000) >> 10)));
      c = 0xdc00 + (c & 0x3ff);
    }
    units.push_back(static_cast<uint16_t>(c));
  }
  return units;
}

class Writer {
 public:
  explicit Writer(size_t size) : text_(size, '\0') {}
  void u(size_t at, size_t n, uint64_t v) {
    for (size_t i = 0; i < n; ++i) text_[at + i] = static_cast<char>(v >> 8 * (n - 1 - i) & 0xff);
  }
  void f32(size_t at, float v) { u(at, 4, std::bit_cast<uint32_t>(v)); }
  std::string text_;
};

}  // namespace

ImagejRoi decode_roi(std::span<const std::byte> bytes, const std::string& name) {
  const Reader r(bytes, name);
  if (r.u(0, 4) != 0x496f7574) r.fail("it does not begin with \"Iout\"", 0);
  if (bytes.size() < header_size) r.fail("the file was cut off", bytes.size());
  const uint32_t type = r.u(6, 1);
  if (type != 0 && type != 7 && type != 8)
    throw DataError("{}: an ImageJ ROI of type {}; only polygons, freehand and traced outlines (0, 7, 8) are supported", name,
                    type);
  ImagejRoi roi;
  roi.type = static_cast<ImagejRoi::Type>(type);
  const int top = r.s16(8), left = r.s16(10), bottom = r.s16(12), right = r.s16(14);
  roi.bounds = {left, top, right, bottom};
  roi.subpixel = r.u(4, 2) >= 222 && (r.u(50, 2) & subpixel_option);
  roi.slice = static_cast<int>(r.u(56, 4));
  size_t n = r.u(16, 2);
  if (n == 0) n = r.u(18, 4);  // more than 65,535 points
  if (n > (bytes.size() - header_size) / (roi.subpixel ? 12 : 4)) r.fail("its points end beyond the file; it was cut off", 16);
  roi.points.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    if (roi.subpixel) {
      const float x = r.f32(header_size + 4 * n + 4 * i), y = r.f32(header_size + 8 * n + 4 * i);
      if (!std::isfinite(x) || !std::isfinite(y)) r.fail("a point that is not finite", header_size + 4 * n + 4 * i);
      roi.points.push_back({x, y});
    } else {
      roi.points.push_back({static_cast<float>(left + static_cast<int>(r.u(header_size + 2 * i, 2))),
                            static_cast<float>(top + static_cast<int>(r.u(header_size + 2 * n + 2 * i, 2)))});
    }
  }
  if (const size_t second = r.u(60, 4); second > 0) {
    const size_t name_at = r.u(second + 16, 4), name_length = r.u(second + 20, 4);
    if (name_length > 0) {
      if (name_at > bytes.size() || name_length > (bytes.size() - name_at) / 2)
        r.fail("its name ends beyond the file", second + 16);
      roi.name = read_name(r, name_at, name_length);
    }
  }
  return roi;
}

std::string encode_roi(const ImagejRoi& roi) {
  GLIA_CHECK(!roi.points.empty(), "ImageJ ROI \"{}\" without points", roi.name);
  float low_x = roi.points[0][0], high_x = low_x, low_y = roi.points[0][1], high_y = low_y;
  bool subpixel = roi.subpixel;
  for (const auto& [x, y] : roi.points) {
    GLIA_CHECK(std::isfinite(x) && std::isfinite(y), "ImageJ ROI \"{}\": a point that is not finite", roi.name);
    low_x = std::min(low_x, x), high_x = std::max(high_x, x), low_y = std::min(low_y, y), high_y = std::max(high_y, y);
    subpixel = subpixel || x != std::floor(x) || y != std::floor(y);
  }
  const auto clamp16 = [](double v) { return static_cast<int>(std::clamp(v, -32768.0, 32767.0)); };
  if (low_x < -32768 || low_y < -32768 || high_x > 32766 || high_y > 32766) subpixel = true;  // floats hold any place
  const int left = clamp16(std::floor(low_x)), top = clamp16(std::floor(low_y));
  const size_t n = roi.points.size();
  const std::vector<uint16_t> name = utf16_of(roi.name);
  const size_t second = header_size + n * (subpixel ? 12 : 4), name_at = second + header2_size;
  Writer w(name_at + 2 * name.size());
  w.u(0, 4, 0x496f7574);
  w.u(4, 2, version);
  w.u(6, 1, static_cast<uint64_t>(roi.type));
  w.u(8, 2, static_cast<uint64_t>(top));
  w.u(10, 2, static_cast<uint64_t>(left));
  w.u(12, 2, static_cast<uint64_t>(clamp16(std::floor(high_y) + 1)));
  w.u(14, 2, static_cast<uint64_t>(clamp16(std::floor(high_x) + 1)));
  if (n <= 0xffff) {
    w.u(16, 2, n);
  } else {
    w.u(18, 4, n);
  }
  if (subpixel) w.u(50, 2, subpixel_option);
  w.u(56, 4, static_cast<uint64_t>(roi.slice));
  w.u(60, 4, second);
  for (size_t i = 0; i < n; ++i) {
    const auto [x, y] = roi.points[i];
    w.u(header_size + 2 * i, 2, static_cast<uint64_t>(std::clamp(x - static_cast<float>(left), 0.f, 65535.f)));
    w.u(header_size + 2 * n + 2 * i, 2, static_cast<uint64_t>(std::clamp(y - static_cast<float>(top), 0.f, 65535.f)));
    if (subpixel) {
      w.f32(header_size + 4 * n + 4 * i, x);
      w.f32(header_size + 8 * n + 4 * i, y);
    }
  }
  w.u(second + 16, 4, name_at);
  w.u(second + 20, 4, name.size());
  for (size_t i = 0; i < name.size(); ++i) w.u(name_at + 2 * i, 2, name[i]);
  return std::move(w.text_);
}

ImagejRoi read_roi(const std::filesystem::path& path) {
  const std::string content = read_file(path, max_roi_file);
  return decode_roi(std::as_bytes(std::span(content)), path.string());
}

void write_roi(const std::filesystem::path& path, const ImagejRoi& roi) { write_file(path, encode_roi(roi)); }

std::vector<ImagejRoi> read_roi_set(const std::filesystem::path& path) {
  const ZipFile zip(path);
  std::vector<ImagejRoi> rois;
  for (const ZipEntry& e : zip.entries()) {
    if (!e.name.ends_with(".roi")) throw DataError("{}: member \"{}\" is no ImageJ ROI", path.string(), e.name);
    rois.push_back(decode_roi(zip.read(e), path.string() + ", member " + e.name));
    if (rois.back().name.empty()) rois.back().name = e.name.substr(0, e.name.size() - 4);
  }
  return rois;
}

void write_roi_set(const std::filesystem::path& path, std::span<const ImagejRoi> rois) {
  ZipWriter zip(path);
  std::set<std::string> used;
  for (ImagejRoi roi : rois) {
    std::replace_if(
        roi.name.begin(), roi.name.end(), [](char c) { return c == '/' || c == '\\' || c == ':' || c == '\0'; }, '_');
    if (roi.name.empty()) roi.name = "cell";
    const std::string base = roi.name;
    for (int k = 2; !used.insert(roi.name).second; ++k) roi.name = base + "-" + std::to_string(k);
    zip.add(roi.name + ".roi", encode_roi(roi));
  }
  zip.commit();
}

}  // namespace glia
