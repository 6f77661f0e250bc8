#pragma once
// The biological half of the synthetic pictures: kinds of cells, their outlines, and where they lie.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/instance.h"
#include "tensor/random.h"

namespace glia::synth {

struct Range {
  double low, high;
};

// What the cells of one class look like. Lengths in pixels, phases in radians.
struct CellKind {
  std::string name;
  double count;           // median number in 520 x 704 pixels
  double count_spread;    // of its logarithm
  double area;            // of the body, median
  double area_spread;     // of its logarithm
  Range aspect;           // long over short axis
  double lobes;           // irregularity of the outline, relative to the radius
  Range processes;        // number per cell
  Range process_length;   // in body radii
  Range process_width;    // half width at the root
  double clumped;         // fraction of cells that lie against another one
  double overlap;         // largest overlap with others, relative to the area
  double thickness;       // phase of the middle
  double edge;            // distance over which the thickness rises
  double texture;         // relative to the thickness
  double granules;        // per 100 pixels of area
  double neurites;        // mean number per cell, outside the mask
  double round_fraction;  // of cells that have rounded up
  double debris;          // specks in 520 x 704 pixels
};

const CellKind& phase_kind(int index);    // 0..2: shsy5y, astro, cort
const CellKind& nucleus_kind(int index);  // 0..2

// A cell in a window of its own. depth: distance to the outline in pixels, positive inside; the mask is depth > 0.
struct Cell {
  int64_t height = 0, width = 0;  // of the window
  double x = 0, y = 0;            // centre of the body in the window
  double long_axis = 0, short_axis = 0, angle = 0;
  bool rounded = false;
  std::vector<float> depth;
  int64_t area = 0;           // of the mask
  int64_t left = 0, top = 0;  // of the window in the picture; the window may reach outside
};

Cell make_cell(const CellKind& kind, Random& random);

// Draws the number of cells, makes and places them. No cell covers more of the others than its kind allows; parts outside the
// picture are cut off, and what stays is one piece of at least 12 pixels.
std::vector<Cell> place_cells(const CellKind& kind, int64_t height, int64_t width, double density, Random& random);

// A curved, tapering line: points a pixel or two apart with half widths.
struct PathPoint {
  double x, y, radius;
};
std::vector<PathPoint> make_path(double x, double y, double angle, double length, Range radius, double bend, Random& random);

// Visits the pixels of the window [0, height) x [0, width) near the path: visit(index, depth), depth = radius - distance > -2.
template <class Visit>
void draw_path(std::span<const PathPoint> path, int64_t height, int64_t width, double offset_x, double offset_y, Visit&& visit);

Rle to_rle(const Cell& cell, int64_t height, int64_t width);  // the part of the mask inside the picture

}  // namespace glia::synth

#include <algorithm>
#include <cmath>

template <class Visit>
void glia::synth::draw_path(std::span<const PathPoint> path, int64_t height, int64_t width, double offset_x, double offset_y,
                            Visit&& visit) {
  for (size_t i = 1; i < path.size(); ++i) {
    const PathPoint &p = path[i - 1], &q = path[i];
    const double reach = std::max(p.radius, q.radius) + 2, dx = q.x - p.x, dy = q.y - p.y;
    const double length2 = std::max(1e-9, dx * dx + dy * dy);
    const int64_t x0 = std::max<int64_t>(0, static_cast<int64_t>(std::floor(std::min(p.x, q.x) + offset_x - reach)));
    const int64_t x1 = std::min(width - 1, static_cast<int64_t>(std::ceil(std::max(p.x, q.x) + offset_x + reach)));
    const int64_t y0 = std::max<int64_t>(0, static_cast<int64_t>(std::floor(std::min(p.y, q.y) + offset_y - reach)));
    const int64_t y1 = std::min(height - 1, static_cast<int64_t>(std::ceil(std::max(p.y, q.y) + offset_y + reach)));
    for (int64_t y = y0; y <= y1; ++y) {
      for (int64_t x = x0; x <= x1; ++x) {
        const double px = static_cast<double>(x) - offset_x - p.x, py = static_cast<double>(y) - offset_y - p.y;
        const double t = std::clamp((px * dx + py * dy) / length2, 0.0, 1.0);
        const double ex = px - t * dx, ey = py - t * dy;
        const double depth = p.radius + t * (q.radius - p.radius) - std::sqrt(ex * ex + ey * ey);
        if (depth > -2) visit(static_cast<size_t>(y * width + x), static_cast<float>(depth));
      }
    }
  }
}
