#include "data/polygon.h"

#include <algorithm>
#include <cmath>

#include "data/limits.h"
#include "data/rle.h"

namespace glia {
namespace {

constexpr double fine = 5;               // the grid's refinement
constexpr double max_outline = 5 * 1e7;  // points on the fine grid

struct Point {
  int64_t u, v;
};

// Walks along the fine outline and notes where it crosses the centre of a pixel column: the column-major index of the first pixel
// at or below the crossing.
class Crossings {
 public:
  Crossings(int64_t height, int64_t width) : height_(height), width_(width) {}

  void visit(Point p) {
    if (started_ && p.u != previous_.u) {
      const double x = (double(p.u < previous_.u ? p.u : p.u - 1) + .5) / fine - .5;
      if (std::floor(x) == x && x >= 0 && x <= double(width_ - 1)) {
        double y = (double(std::min(p.v, previous_.v)) + .5) / fine - .5;
        y = std::ceil(std::clamp(y, 0.0, double(height_)));
        indices_.push_back(int64_t(x) * height_ + int64_t(y));
      }
    }
    previous_ = p;
    started_ = true;
  }

  // The pixels between the 1st and 2nd, 3rd and 4th, ... crossing are inside.
  Rle finish() {
    indices_.push_back(height_ * width_);
    std::sort(indices_.begin(), indices_.end());
    std::vector<int64_t> counts;
    int64_t last = 0;
    for (int64_t i : indices_) {
      counts.push_back(i - last);
      last = i;
    }
    return rle_from_counts(counts, height_, width_);
  }

 private:
  int64_t height_, width_;
  std::vector<int64_t> indices_;
  Point previous_{};
  bool started_ = false;
};

void check_size(int64_t height, int64_t width) {
  if (height < 0 || width < 0 || (height > 0 && width > file_limits().pixels / height))
    throw DataError("polygon: an image of {} x {} pixels (height x width), want at most {} pixels in all{}", height, width,
                    file_limits().pixels, raise_hint("pixels"));
}

int64_t on_grid(double x) { return static_cast<int64_t>(fine * x + .5); }  // toward zero, as the original's cast

void draw_edge(Point s, Point e, Crossings& to) {
  const int64_t dx = std::abs(e.u - s.u), dy = std::abs(e.v - s.v);
  const bool along_x = dx >= dy;
  const bool flipped = along_x ? s.u > e.u : s.v > e.v;
  if (flipped) std::swap(s, e);
  const int64_t n = along_x ? dx : dy;
  const double slope = n == 0 ? 0 : along_x ? double(e.v - s.v) / double(dx) : double(e.u - s.u) / double(dy);
  for (int64_t d = 0; d <= n; ++d) {
    const int64_t t = flipped ? n - d : d;
    if (along_x) {
      to.visit({s.u + t, static_cast<int64_t>(double(s.v) + slope * double(t) + .5)});
    } else {
      to.visit({static_cast<int64_t>(double(s.u) + slope * double(t) + .5), s.v + t});
    }
  }
}

}  // namespace

Rle rle_from_polygon(std::span<const double> xy, int64_t height, int64_t width) {
  check_size(height, width);
  if (xy.size() % 2 || xy.size() < 6)
    throw DataError("polygon: {} numbers, want x0 y0 x1 y1 ... of at least 3 points", xy.size());
  double length = 0;
  for (size_t i = 0; i < xy.size(); i += 2) {
    const size_t next = i + 2 < xy.size() ? i + 2 : 0;
    length += std::max(std::abs(xy[next] - xy[i]), std::abs(xy[next + 1] - xy[i + 1])) * fine;
    if (!std::isfinite(xy[i]) || !std::isfinite(xy[i + 1]) || std::max(std::abs(xy[i]), std::abs(xy[i + 1])) > max_outline)
      throw DataError("polygon: point {} is ({}, {}), want finite pixel coordinates", i / 2, xy[i], xy[i + 1]);
  }
  if (length > max_outline)
    throw DataError("polygon: an outline of {:.0f} pixels, want at most {:.0f}", length / fine, max_outline / fine);
  Crossings crossings(height, width);
  for (size_t i = 0; i < xy.size(); i += 2) {
    const size_t next = i + 2 < xy.size() ? i + 2 : 0;
    draw_edge({on_grid(xy[i]), on_grid(xy[i + 1])}, {on_grid(xy[next]), on_grid(xy[next + 1])}, crossings);
  }
  return crossings.finish();
}

Rle rle_from_polygons(std::span<const Polygon> polygons, int64_t height, int64_t width) {
  check_size(height, width);
  if (polygons.empty()) return rle_from_counts(std::vector<int64_t>{height * width}, height, width);
  std::vector<Rle> parts;
  parts.reserve(polygons.size());
  for (const Polygon& p : polygons) parts.push_back(rle_from_polygon(p, height, width));
  return merge(parts);
}

Rle rle_from_box(const Box& b, int64_t height, int64_t width) {
  const double x1 = b[0] + b[2], y1 = b[1] + b[3];
  return rle_from_polygon(std::vector<double>{b[0], b[1], b[0], y1, x1, y1, x1, b[1]}, height, width);
}

double polygon_area(std::span<const double> xy) {
  double sum = 0;
  for (size_t i = 0; i + 1 < xy.size(); i += 2) {
    const size_t next = i + 2 < xy.size() ? i + 2 : 0;
    sum += xy[i] * xy[next + 1] - xy[next] * xy[i + 1];
  }
  return std::abs(sum) / 2;
}

}  // namespace glia
