#include "data/contours.h"

#include <algorithm>
#include <cmath>

#include "data/rle.h"
#include "kernels/labels.h"

namespace glia {
namespace {

// Directions counter-clockwise on the screen, from east.
constexpr std::array<int64_t, 8> step_x{1, 1, 0, -1, -1, -1, 0, 1};
constexpr std::array<int64_t, 8> step_y{0, -1, -1, -1, 0, 1, 1, 1};

// Walks around the component `id` from its first pixel in raster order; its west, north-west, north and north-east neighbours
// are outside.
std::vector<std::array<int32_t, 2>> trace(const Tensor& components, int32_t id, int64_t x, int64_t y, ContourPoints kind) {
  const int64_t h = components.dim(0), w = components.dim(1);
  const int32_t* map = components.data<int32_t>();
  const auto inside = [&](int64_t px, int64_t py) { return px >= 0 && px < w && py >= 0 && py < h && map[py * w + px] == id; };
  const auto at = [](int64_t px, int64_t py) { return std::array<int32_t, 2>{int32_t(px), int32_t(py)}; };
  // The last pixel of the walk is the first neighbour clockwise from the west.
  int back = 4;
  do {
    back = (back + 7) % 8;
  } while (back != 4 && !inside(x + step_x[size_t(back)], y + step_y[size_t(back)]));
  if (back == 4 && !inside(x - 1, y)) return {at(x, y)};  // a single pixel
  const int64_t last_x = x + step_x[size_t(back)], last_y = y + step_y[size_t(back)];

  std::vector<std::array<int32_t, 2>> points;
  int64_t px = x, py = y;
  int from = back;               // direction to the previous pixel
  int heading = (back + 4) % 8;  // of the previous step
  for (;;) {
    int next = from;
    do {
      next = (next + 1) % 8;
    } while (!inside(px + step_x[size_t(next)], py + step_y[size_t(next)]));
    if (kind == ContourPoints::all || next != heading) points.push_back(at(px, py));
    heading = next;
    const int64_t qx = px + step_x[size_t(next)], qy = py + step_y[size_t(next)];
    if (qx == x && qy == y && px == last_x && py == last_y) return points;
    px = qx;
    py = qy;
    from = (next + 4) % 8;
  }
}

}  // namespace

std::vector<Contour> contours(const Tensor& labels, ContourPoints points, ContourParts parts) {
  const Tensor components = connected_components(labels, {.connectivity = 8, .by_value = true});
  const int64_t w = labels.dim(1);
  const int32_t* map = components.data<int32_t>();
  std::vector<Contour> found;
  int32_t last = 0;  // components are numbered by their first pixels
  for (int64_t p = 0; p < labels.size(); ++p) {
    if (map[p] <= last) continue;
    last = map[p];
    found.push_back({labels.data<int32_t>()[p], trace(components, last, p % w, p / w, points)});
  }
  std::stable_sort(found.begin(), found.end(), [](const Contour& a, const Contour& b) { return a.label < b.label; });
  if (parts == ContourParts::every) return found;
  std::vector<Contour> longest;
  for (Contour& c : found) {
    if (longest.empty() || longest.back().label != c.label) {
      longest.push_back(std::move(c));
    } else if (c.points.size() > longest.back().points.size()) {
      longest.back() = std::move(c);
    }
  }
  return longest;
}

std::vector<Contour> contours(const Rle& mask, ContourPoints points, ContourParts parts) {
  const Box box = bounding_box(mask);
  const auto x0 = int64_t(box[0]), y0 = int64_t(box[1]), w = int64_t(box[2]), h = int64_t(box[3]);
  Tensor cut = Tensor::zeros({h, w}, DType::int32);
  int64_t p = 0;
  for (size_t i = 0; i < mask.counts.size(); p += mask.counts[i], ++i) {
    if (i % 2 == 0) continue;
    for (int64_t q = p; q < p + int64_t(mask.counts[i]); ++q)
      cut.data<int32_t>()[(q % mask.height - y0) * w + q / mask.height - x0] = 1;
  }
  std::vector<Contour> found = contours(cut, points, parts);
  for (Contour& c : found)
    for (auto& [x, y] : c.points) x += int32_t(x0), y += int32_t(y0);
  return found;
}

double contour_area(const Contour& c) {
  int64_t sum = 0;
  for (size_t i = 0; i < c.points.size(); ++i) {
    const auto &a = c.points[i], &b = c.points[(i + 1) % c.points.size()];
    sum += int64_t(a[0]) * b[1] - int64_t(b[0]) * a[1];
  }
  return double(std::abs(sum)) / 2;
}

double contour_length(const Contour& c) {
  double sum = 0;
  for (size_t i = 0; i < c.points.size(); ++i) {
    const auto &a = c.points[i], &b = c.points[(i + 1) % c.points.size()];
    sum += std::hypot(double(b[0] - a[0]), double(b[1] - a[1]));
  }
  return sum;
}

}  // namespace glia
