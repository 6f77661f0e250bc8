#include "data/rle_resample.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "data/rle.h"
#include "data/rle_runs.h"
#include "tensor/error.h"

namespace glia {
namespace {

// The positions [first, last) whose sources lie in [begin, end).
struct Range {
  int64_t first, last;
};

Range positions_in(const std::vector<int64_t>& source, int64_t begin, int64_t end) {
  const auto at = [&](auto before) {
    return static_cast<int64_t>(std::partition_point(source.begin(), source.end(), before) - source.begin());
  };
  if (source.front() > source.back()) return {at([&](int64_t s) { return s >= end; }), at([&](int64_t s) { return s >= begin; })};
  return {at([&](int64_t s) { return s < begin; }), at([&](int64_t s) { return s < end; })};
}

}  // namespace

std::vector<int64_t> nearest_sources(int64_t in, int64_t out) {
  std::vector<int64_t> source(static_cast<size_t>(out));
  if (in == out) {
    std::iota(source.begin(), source.end(), int64_t{0});
    return source;
  }
  const double step = static_cast<double>(in) / static_cast<double>(out);
  double at = step * .5;
  for (int64_t& s : source) s = std::min(static_cast<int64_t>(at), in - 1), at += step;
  return source;
}

Rle resample_mask(const Rle& mask, const std::vector<int64_t>& rows, const std::vector<int64_t>& columns, bool transpose,
                  std::vector<uint8_t>& buffer) {
  GLIA_CHECK(!rows.empty() && !columns.empty(), "resample_mask: to {} x {} pixels", rows.size(), columns.size());
  Rle result{static_cast<int64_t>(rows.size()), static_cast<int64_t>(columns.size()), {}};
  RunWriter writer(result.counts);
  const Box box = bounding_box(mask);
  const auto left = static_cast<int64_t>(box[0]), top = static_cast<int64_t>(box[1]);
  const auto width = static_cast<int64_t>(box[2]), height = static_cast<int64_t>(box[3]);
  if (height > 0) {
    buffer.assign(static_cast<size_t>(height * width), 0);  // the tight window, column by column
    for_each_column_run(mask, [&](int64_t x, int64_t y, int64_t end) {
      std::memset(&buffer[static_cast<size_t>((x - left) * height + y - top)], 1, static_cast<size_t>(end - y));
    });
    const Range down = transpose ? positions_in(rows, left, left + width) : positions_in(rows, top, top + height);
    const Range across = transpose ? positions_in(columns, top, top + height) : positions_in(columns, left, left + width);
    const int64_t step = transpose ? height : 1, origin = transpose ? left : top;
    for (int64_t x = across.first; x < across.last; ++x) {
      const int64_t source = columns[static_cast<size_t>(x)];
      const uint8_t* line = buffer.data() + (transpose ? source - top : (source - left) * height);
      int64_t begin = -1;  // of the run at hand
      for (int64_t y = down.first; y < down.last; ++y) {
        const bool inside = line[(rows[static_cast<size_t>(y)] - origin) * step] != 0;
        if (inside && begin < 0) begin = y;
        if (!inside && begin >= 0) {
          writer.add(x * result.height + begin, x * result.height + y);
          begin = -1;
        }
      }
      if (begin >= 0) writer.add(x * result.height + begin, x * result.height + down.last);
    }
  }
  writer.finish(result.height * result.width);
  return result;
}

bool reaches_into(const Rle& mask, int64_t top, int64_t left, int64_t height, int64_t width) {
  bool found = false;
  for_each_column_run(
      mask, [&](int64_t x, int64_t y, int64_t end) { found |= x >= left && x < left + width && y < top + height && end > top; });
  return found;
}

}  // namespace glia
