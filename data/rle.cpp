// Masks are row-major and Rle column-major, so encoding and decoding go through strips of 64 columns that are transposed in
// 8x8 blocks inside the cache.
#include "data/rle.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "data/limits.h"
#include "data/rle_runs.h"
#include "kernels/mask_runs.h"

namespace glia {
namespace {

constexpr int64_t strip = 64;  // columns

void check_size(int64_t height, int64_t width, const char* what) {
  if (height < 0 || width < 0 || (height > 0 && width > file_limits().pixels / height))
    throw DataError("{}: a mask of {} x {} pixels (height x width), want at most {} pixels in all{}", what, height, width,
                    file_limits().pixels, raise_hint("pixels"));
}

// Transposes 8 rows of 8 bytes; byte i of a word is column i.
void transpose_8x8(std::array<uint64_t, 8>& r) {
  const auto swap = [](uint64_t& a, uint64_t& b, int shift, uint64_t mask) {
    const uint64_t t = ((a >> shift) ^ b) & mask;
    b ^= t;
    a ^= t << shift;
  };
  for (size_t i = 0; i < 4; ++i) swap(r[i], r[i + 4], 32, 0x00000000FFFFFFFFu);
  for (size_t i : {0u, 1u, 4u, 5u}) swap(r[i], r[i + 2], 16, 0x0000FFFF0000FFFFu);
  for (size_t i : {0u, 2u, 4u, 6u}) swap(r[i], r[i + 1], 8, 0x00FF00FF00FF00FFu);
}

// to[x * to_stride + y] = from[y * from_stride + x] for y < rows, x < columns.
void transpose(const uint8_t* from, int64_t from_stride, int64_t rows, int64_t columns, uint8_t* to, int64_t to_stride) {
  static_assert(std::endian::native == std::endian::little);
  int64_t y = 0;
  for (; y + 8 <= rows; y += 8) {
    int64_t x = 0;
    for (; x + 8 <= columns; x += 8) {
      std::array<uint64_t, 8> block;
      for (int64_t i = 0; i < 8; ++i) std::memcpy(&block[size_t(i)], from + (y + i) * from_stride + x, 8);
      transpose_8x8(block);
      for (int64_t i = 0; i < 8; ++i) std::memcpy(to + (x + i) * to_stride + y, &block[size_t(i)], 8);
    }
    for (; x < columns; ++x)
      for (int64_t i = y; i < y + 8; ++i) to[x * to_stride + i] = from[i * from_stride + x];
  }
  for (; y < rows; ++y)
    for (int64_t x = 0; x < columns; ++x) to[x * to_stride + y] = from[y * from_stride + x];
}

// Adds the runs of non-zero bytes of data[0, size), which stand at `offset` of the mask.
void add_runs(const uint8_t* data, int64_t size, int64_t offset, RunWriter& writer) {
  for_each_nonzero_run(data, size, [&](int64_t begin, int64_t end) { writer.add(offset + begin, offset + end); });
}

template <class T>
void paint(const Rle& rle, T value, const Tensor& image, const char* what) {
  GLIA_CHECK(image.shape() == Shape({rle.height, rle.width}), "{}: a mask of {} x {} on an image {}", what, rle.height, rle.width,
             image.shape());
  T* to = image.data<T>();
  const int64_t w = rle.width;
  for_each_column_run(rle, [&](int64_t x, int64_t y, int64_t end) {
    for (; y < end; ++y) to[y * w + x] = value;
  });
}

struct Run {
  int64_t begin, end;
};

const char* name_of(PixelOrder order) { return order == PixelOrder::row ? "row" : "column"; }

std::vector<Run> parse_pairs(std::string_view text, int64_t height, int64_t width, PixelOrder order) {
  check_size(height, width, "run lengths");
  const int64_t pixels = height * width;
  std::vector<int64_t> numbers;
  for (size_t i = 0; i < text.size();) {
    if (text[i] == ' ' || text[i] == '\t' || text[i] == '\r' || text[i] == '\n') {
      ++i;
      continue;
    }
    const size_t begin = i;
    int64_t n = 0;
    for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i)
      n = std::min<int64_t>(n * 10 + (text[i] - '0'), int64_t(1) << 40);
    if (i == begin || (i < text.size() && !std::strchr(" \t\r\n", text[i]))) {
      while (i < text.size() && text[i] != ' ') ++i;
      const std::string_view token = text.substr(begin, std::min<size_t>(i - begin, 20));
      throw DataError("run lengths: '{}' as number {}, want whole numbers from 1{}", token, numbers.size() + 1,
                      token.starts_with('-') ? "" : " (is this a COCO string?)");
    }
    numbers.push_back(n);
  }
  if (numbers.size() % 2)
    throw DataError("run lengths: {} numbers, want pairs of start and length (text cut off?)", numbers.size());
  std::vector<Run> runs;
  runs.reserve(numbers.size() / 2);
  int64_t previous_begin = 0, previous_end = 0;
  for (size_t i = 0; i < numbers.size(); i += 2) {
    const int64_t start = numbers[i], length = numbers[i + 1];
    if (start < 1)
      throw DataError("run lengths: pair {} starts at 0, want starts from 1 (written with 0-based starts?)", i / 2 + 1);
    if (length < 1) throw DataError("run lengths: pair {} '{} {}' is empty, want lengths from 1", i / 2 + 1, start, length);
    if (start - 1 + length > pixels)
      throw DataError("run lengths: pair {} '{} {}' ends at pixel {}, the image has {} x {} = {} (wrong image size?)", i / 2 + 1,
                      start, length, start - 1 + length, height, width, pixels);
    if (start - 1 < previous_begin)
      throw DataError("run lengths: pair {} '{} {}' comes after a pair that starts later; want ascending starts ({}-major order)",
                      i / 2 + 1, start, length, name_of(order));
    if (start - 1 < previous_end)
      throw DataError("run lengths: pair {} '{} {}' overlaps the pair before it, which ends at pixel {}", i / 2 + 1, start,
                      length, previous_end);
    runs.push_back({start - 1, start - 1 + length});
    previous_begin = start - 1;
    previous_end = start - 1 + length;
  }
  return runs;
}

// Row-major runs of a mask to column-major counts (or back, with height and width exchanged), through a bitmap of the bounding
// box, transposed: cell (x, y) stands at (x - x0) * box_height + y - y0.
std::vector<uint32_t> exchange_order(std::span<const Run> runs, int64_t height, int64_t width) {
  std::vector<uint32_t> counts;
  RunWriter writer(counts);
  if (!runs.empty()) {
    int64_t x0 = width, x1 = 0;
    for (const Run& r : runs) {
      const int64_t first = r.begin / width, last = (r.end - 1) / width;
      x0 = std::min(x0, first == last ? r.begin - first * width : 0);
      x1 = std::max(x1, first == last ? r.end - first * width : width);
    }
    const int64_t y0 = runs.front().begin / width, y1 = (runs.back().end - 1) / width + 1;
    const int64_t box_height = y1 - y0;
    std::vector<uint8_t> bits(size_t((x1 - x0) * box_height));
    for (const Run& r : runs) {
      for (int64_t p = r.begin; p < r.end;) {
        const int64_t y = p / width, end = std::min(r.end, (y + 1) * width);
        uint8_t* at = bits.data() + (p - y * width - x0) * box_height + (y - y0);
        for (; p < end; ++p, at += box_height) *at = 1;
      }
    }
    for (int64_t x = x0; x < x1; ++x) add_runs(bits.data() + (x - x0) * box_height, box_height, x * height + y0, writer);
  }
  writer.finish(height * width);
  return counts;
}

// How many of the runs touch a run of the line above: near 1 for a cell, near 0 for one that was read in the wrong order.
double touching(std::span<const Run> runs, int64_t line) {
  size_t above = 0, hits = 0;
  for (size_t i = 1; i < runs.size(); ++i) {
    while (above < i && runs[above].end + line <= runs[i].begin) ++above;
    hits += above < i && runs[above].begin + line < runs[i].end;
  }
  return runs.size() < 2 ? 1.0 : double(hits) / double(runs.size() - 1);
}

}  // namespace

Rle encode_mask(const Tensor& mask) {
  GLIA_CHECK(mask.rank() == 2 && (mask.dtype() == DType::uint8 || mask.dtype() == DType::boolean),
             "encode_mask: a mask {} of {}, want (H, W) of uint8 or bool", mask.shape(), name_of(mask.dtype()));
  const int64_t h = mask.dim(0), w = mask.dim(1);
  check_size(h, w, "encode_mask");
  const auto* from = reinterpret_cast<const uint8_t*>(mask.raw());
  Rle rle{h, w, {}};
  RunWriter writer(rle.counts);
  std::vector<uint8_t> columns(size_t(strip * h));
  for (int64_t x = 0; x < w && h > 0; x += strip) {
    const int64_t n = std::min(strip, w - x);
    transpose(from + x, w, h, n, columns.data(), h);
    add_runs(columns.data(), n * h, x * h, writer);
  }
  writer.finish(h * w);
  return rle;
}

Tensor decode_mask(const Rle& rle) {
  check_size(rle.height, rle.width, "decode_mask");
  const int64_t h = rle.height, w = rle.width;
  Tensor mask = Tensor::zeros({h, w}, DType::uint8);
  if (area(rle) * 16 < h * w) {  // few pixels: set them one by one
    paint_mask(rle, 1, mask);
    return mask;
  }
  std::vector<uint8_t> columns(size_t(strip * h));
  int64_t x = 0;  // first column of the strip at hand
  const auto flush = [&] {
    const int64_t n = std::min(strip, w - x);
    transpose(columns.data(), h, n, h, mask.data<uint8_t>() + x, w);
    std::fill(columns.begin(), columns.end(), uint8_t(0));
  };
  for_each_run(rle, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      while (begin >= (x + strip) * h) {
        flush();
        x += strip;
      }
      const int64_t stop = std::min(end, (x + strip) * h);
      std::memset(columns.data() + (begin - x * h), 1, size_t(stop - begin));
      begin = stop;
    }
  });
  flush();
  return mask;
}

void paint_mask(const Rle& rle, uint8_t value, const Tensor& image) { paint(rle, value, image, "paint_mask"); }
void paint_label(const Rle& rle, int32_t label, const Tensor& labels) { paint(rle, label, labels, "paint_label"); }

Rle rle_from_pairs(std::string_view text, int64_t height, int64_t width, PixelOrder order) {
  const std::vector<Run> runs = parse_pairs(text, height, width, order);
  Rle rle{height, width, {}};
  if (order == PixelOrder::row) {
    rle.counts = exchange_order(runs, height, width);
  } else {
    RunWriter writer(rle.counts);
    for (const Run& r : runs) writer.add(r.begin, r.end);
    writer.finish(height * width);
  }
  return rle;
}

std::string to_pairs(const Rle& rle, PixelOrder order) {
  std::vector<uint32_t> counts;
  if (order == PixelOrder::row) {  // the same exchange: the transposed mask is width x height
    std::vector<Run> runs;
    for_each_run(rle, [&](int64_t begin, int64_t end) { runs.push_back({begin, end}); });
    counts = exchange_order(runs, rle.width, rle.height);
  } else {
    counts = rle.counts;
  }
  std::string text;
  int64_t p = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (i % 2) fmt::format_to(std::back_inserter(text), "{}{} {}", text.empty() ? "" : " ", p + 1, counts[i]);
    p += counts[i];
  }
  return text;
}

bool other_order_fits_better(std::string_view text, int64_t height, int64_t width, PixelOrder order) {
  const std::vector<Run> runs = parse_pairs(text, height, width, order);
  if (runs.size() < 8 || height == width) return false;
  const int64_t line = order == PixelOrder::row ? width : height, other = order == PixelOrder::row ? height : width;
  return touching(runs, line) < 0.5 && touching(runs, other) > 0.8;
}

Rle rle_from_counts(std::span<const int64_t> counts, int64_t height, int64_t width) {
  check_size(height, width, "run lengths");
  const int64_t pixels = height * width;
  Rle rle{height, width, {}};
  RunWriter writer(rle.counts);
  int64_t total = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] < 0) throw DataError("run lengths: count {} is {}, want 0 or more", i + 1, counts[i]);
    if (counts[i] > pixels - total)
      throw DataError("run lengths: the first {} counts add up to more than {} x {} = {} pixels (wrong image size?)", i + 1,
                      height, width, pixels);
    if (i % 2 && counts[i]) writer.add(total, total + counts[i]);
    total += counts[i];
  }
  if (total != pixels)
    throw DataError("run lengths: counts add up to {}, the image has {} x {} = {} pixels (wrong image size, or cut off?)", total,
                    height, width, pixels);
  writer.finish(pixels);
  return rle;
}

Rle rle_from_coco_string(std::string_view text, int64_t height, int64_t width) {
  std::vector<int64_t> counts;
  counts.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    int64_t x = 0;
    int shift = 0;
    for (bool more = true; more; shift += 5) {
      if (i == text.size()) throw DataError("COCO mask string: ends inside a number (cut off?)");
      const int c = static_cast<unsigned char>(text[i]) - 48;
      if (c < 0 || c > 63)
        throw DataError("COCO mask string: byte 0x{:02x} at {}, want '0' to 'o' (is this Kaggle's start-length text?)",
                        static_cast<unsigned char>(text[i]), i);
      if (shift > 35) throw DataError("COCO mask string: the number at byte {} has more than 40 bits", i);
      x |= int64_t(c & 31) << shift;
      more = (c & 32) != 0;
      if (!more && (c & 16)) x |= -(int64_t(1) << (shift + 5));
      ++i;
    }
    if (counts.size() > 2) x += counts[counts.size() - 2];
    counts.push_back(x);
  }
  return rle_from_counts(counts, height, width);
}

std::string to_coco_string(const Rle& rle) {
  std::string text;
  for (size_t i = 0; i < rle.counts.size(); ++i) {
    int64_t x = rle.counts[i];
    if (i > 2) x -= rle.counts[i - 2];
    for (bool more = true; more;) {
      int64_t c = x & 31;
      x >>= 5;
      more = (c & 16) ? x != -1 : x != 0;
      if (more) c |= 32;
      text.push_back(char(c + 48));
    }
  }
  return text;
}

int64_t area(const Rle& rle) {
  int64_t n = 0;
  for (size_t i = 1; i < rle.counts.size(); i += 2) n += rle.counts[i];
  return n;
}

Box bounding_box(const Rle& rle) {
  const int64_t h = rle.height;
  int64_t x0 = rle.width, x1 = -1, y0 = h, y1 = -1;
  for_each_run(rle, [&](int64_t begin, int64_t end) {
    const int64_t first = begin / h, last = (end - 1) / h;
    x0 = std::min(x0, first);
    x1 = std::max(x1, last);
    y0 = std::min(y0, first < last ? 0 : begin - first * h);
    y1 = std::max(y1, first < last ? h - 1 : end - 1 - last * h);
  });
  if (x1 < 0) return {};
  return {double(x0), double(y0), double(x1 - x0 + 1), double(y1 - y0 + 1)};
}

}  // namespace glia
