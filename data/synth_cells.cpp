// Outlines and places of synthetic cells.
#include "data/synth_cells.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace glia::synth {
namespace {

constexpr double pi = std::numbers::pi;
constexpr int64_t min_piece = 12;  // pixels

double between(Range range, Random& random) { return random.uniform(range.low, range.high); }

// Number, area and overlap follow the statistics of the Sartorius training set.
const std::array<CellKind, 3> phase_kinds{{
    {.name = "shsy5y",
     .count = 290,
     .count_spread = 0.35,
     .area = 165,
     .area_spread = 0.42,
     .aspect = {1.3, 3.4},
     .lobes = 0.07,
     .processes = {0, 2.4},
     .process_length = {0.9, 2.2},
     .process_width = {1.6, 3.2},
     .clumped = 0.8,
     .overlap = 0.06,
     .thickness = 0.95,
     .edge = 1.6,
     .texture = 0.22,
     .granules = 3.0,
     .neurites = 0.1,
     .round_fraction = 0.05,
     .debris = 60},
    {.name = "astro",
     .count = 58,
     .count_spread = 0.4,
     .area = 640,
     .area_spread = 0.6,
     .aspect = {1.1, 3.0},
     .lobes = 0.14,
     .processes = {2, 5},
     .process_length = {0.9, 2.4},
     .process_width = {3.0, 6.5},
     .clumped = 0.5,
     .overlap = 0.1,
     .thickness = 0.42,
     .edge = 2.0,
     .texture = 0.2,
     .granules = 3.2,
     .neurites = 0.15,
     .round_fraction = 0.05,
     .debris = 110},
    {.name = "cort",
     .count = 30,
     .count_spread = 0.45,
     .area = 185,
     .area_spread = 0.35,
     .aspect = {1.0, 1.7},
     .lobes = 0.06,
     .processes = {0, 3},
     .process_length = {0.4, 1.0},
     .process_width = {1.4, 2.6},
     .clumped = 0.35,
     .overlap = 0.04,
     .thickness = 2.5,
     .edge = 2.6,
     .texture = 0.14,
     .granules = 1.5,
     .neurites = 2.2,
     .round_fraction = 0.1,
     .debris = 170},
}};

const std::array<CellKind, 3> nucleus_kinds{{
    {.name = "nucleus",
     .count = 120,
     .count_spread = 0.5,
     .area = 320,
     .area_spread = 0.3,
     .aspect = {1.0, 1.6},
     .lobes = 0.05,
     .processes = {0, 0},
     .process_length = {0, 0},
     .process_width = {0, 0},
     .clumped = 0.4,
     .overlap = 0.08,
     .thickness = 1,
     .edge = 2.2,
     .texture = 0.16,
     .granules = 0,
     .neurites = 0,
     .round_fraction = 0.04,
     .debris = 6},
    {.name = "large_nucleus",
     .count = 34,
     .count_spread = 0.4,
     .area = 1500,
     .area_spread = 0.25,
     .aspect = {1.1, 1.8},
     .lobes = 0.06,
     .processes = {0, 0},
     .process_length = {0, 0},
     .process_width = {0, 0},
     .clumped = 0.3,
     .overlap = 0.06,
     .thickness = 1,
     .edge = 3.5,
     .texture = 0.12,
     .granules = 0,
     .neurites = 0,
     .round_fraction = 0.03,
     .debris = 10},
    {.name = "lobed_nucleus",
     .count = 80,
     .count_spread = 0.5,
     .area = 420,
     .area_spread = 0.4,
     .aspect = {1.0, 1.9},
     .lobes = 0.16,
     .processes = {0, 0},
     .process_length = {0, 0},
     .process_width = {0, 0},
     .clumped = 0.65,
     .overlap = 0.1,
     .thickness = 1,
     .edge = 2.0,
     .texture = 0.3,
     .granules = 0,
     .neurites = 0,
     .round_fraction = 0.08,
     .debris = 14},
}};

// Outline in polar form: an ellipse times 1 + a few waves. Tabulated over 256 directions.
std::array<float, 256> make_outline(double a, double b, double lobes, Random& random) {
  std::array<double, 5> amplitude{}, phase{};
  for (size_t k = 0; k < 5; ++k) {
    amplitude[k] = lobes * random.normal() / std::sqrt(static_cast<double>(k) + 1.5);
    phase[k] = random.uniform(0, 2 * pi);
  }
  std::array<float, 256> radius{};
  for (size_t i = 0; i < 256; ++i) {
    const double t = 2 * pi * static_cast<double>(i) / 256, c = std::cos(t), s = std::sin(t);
    double wave = 1;
    for (size_t k = 0; k < 5; ++k) wave += amplitude[k] * std::cos(static_cast<double>(k + 2) * t + phase[k]);
    radius[i] = static_cast<float>(a * b / std::sqrt(b * b * c * c + a * a * s * s) * std::clamp(wave, 0.45, 1.8));
  }
  return radius;
}

// Union of two shapes given by depth, with the corner between them filled over about k pixels (as a membrane does).
float smooth_union(float a, float b, float k) {
  const float h = std::max(0.0f, k - std::abs(a - b)) / k;
  return std::max(a, b) + h * h * k * 0.25f;
}

// Counts the mask's pixels inside the picture, and those that others already cover.
struct Cover {
  int64_t inside = 0, taken = 0;
};
Cover cover(const Cell& cell, const std::vector<uint8_t>& occupied, int64_t height, int64_t width) {
  Cover result;
  for (int64_t y = std::max<int64_t>(0, -cell.top); y < std::min(cell.height, height - cell.top); ++y) {
    for (int64_t x = std::max<int64_t>(0, -cell.left); x < std::min(cell.width, width - cell.left); ++x) {
      if (cell.depth[static_cast<size_t>(y * cell.width + x)] <= 0) continue;
      ++result.inside;
      result.taken += occupied[static_cast<size_t>((y + cell.top) * width + x + cell.left)];
    }
  }
  return result;
}

// Keeps the largest 8-connected piece of the mask's part inside the picture: depth becomes negative elsewhere.
void keep_one_piece(Cell& cell, int64_t height, int64_t width) {
  const int64_t w = cell.width;
  std::vector<int32_t> piece(cell.depth.size(), 0);
  std::vector<int64_t> stack;
  int32_t pieces = 0, best = 0;
  int64_t best_area = 0;
  const auto inside = [&](int64_t y, int64_t x) {
    return y >= 0 && y < cell.height && x >= 0 && x < w && y + cell.top >= 0 && y + cell.top < height && x + cell.left >= 0 &&
           x + cell.left < width && cell.depth[static_cast<size_t>(y * w + x)] > 0;
  };
  for (int64_t start = 0; start < cell.height * w; ++start) {
    if (piece[static_cast<size_t>(start)] || !inside(start / w, start % w)) continue;
    int64_t area = 0;
    piece[static_cast<size_t>(start)] = ++pieces;
    stack.push_back(start);
    while (!stack.empty()) {
      const int64_t i = stack.back(), y = i / w, x = i % w;
      stack.pop_back();
      ++area;
      for (int64_t ny = y - 1; ny <= y + 1; ++ny) {
        for (int64_t nx = x - 1; nx <= x + 1; ++nx) {
          if (!inside(ny, nx) || piece[static_cast<size_t>(ny * w + nx)]) continue;
          piece[static_cast<size_t>(ny * w + nx)] = pieces;
          stack.push_back(ny * w + nx);
        }
      }
    }
    if (area > best_area) best = pieces, best_area = area;
  }
  for (size_t i = 0; i < cell.depth.size(); ++i) {
    if (cell.depth[i] > 0 && piece[i] != best) cell.depth[i] = -1;
  }
  cell.area = best_area;
}

void move_centre_to(Cell& cell, double x, double y) {
  cell.left = std::llround(x - cell.x);
  cell.top = std::llround(y - cell.y);
}

}  // namespace

const CellKind& phase_kind(int index) { return phase_kinds.at(static_cast<size_t>(index)); }
const CellKind& nucleus_kind(int index) { return nucleus_kinds.at(static_cast<size_t>(index)); }

std::vector<PathPoint> make_path(double x, double y, double angle, double length, Range radius, double bend, Random& random) {
  std::vector<PathPoint> path;
  const double step = 2.5;
  const int steps = std::max(2, static_cast<int>(length / step));
  double turn = bend * random.normal();
  for (int i = 0; i <= steps; ++i) {
    const double t = static_cast<double>(i) / steps;
    path.push_back({x, y, radius.high + (radius.low - radius.high) * std::pow(t, 0.7)});
    turn = 0.85 * turn + 0.5 * bend * random.normal();
    angle += turn;
    x += step * std::cos(angle);
    y += step * std::sin(angle);
  }
  return path;
}

Cell make_cell(const CellKind& kind, Random& random) {
  Cell cell;
  cell.rounded = random.uniform() < kind.round_fraction;
  const double area = kind.area * std::exp(std::clamp(random.normal(), -2.2, 2.2) * kind.area_spread) * (cell.rounded ? 0.7 : 1);
  const double aspect = cell.rounded ? random.uniform(1, 1.12) : between(kind.aspect, random);
  cell.long_axis = std::sqrt(area / pi * aspect);
  cell.short_axis = cell.long_axis / aspect;
  cell.angle = random.uniform(0, 2 * pi);
  const auto outline = make_outline(cell.long_axis, cell.short_axis, cell.rounded ? 0.02 : kind.lobes, random);
  const auto radius_at = [&](double direction) {
    const double turns = direction / (2 * pi);
    return static_cast<double>(outline[static_cast<size_t>((turns - std::floor(turns)) * 256) & 255]);
  };

  // Processes leave near the ends of the long axis more often than from the sides.
  std::vector<std::vector<PathPoint>> processes;
  const int count = cell.rounded ? 0 : static_cast<int>(std::lround(between(kind.processes, random)));
  const double scale = std::sqrt(area / pi);
  for (int i = 0; i < count; ++i) {
    const double side = (i % 2) * pi + 0.75 * random.normal();
    const double r = 0.55 * radius_at(side), length = between(kind.process_length, random) * scale;
    const double root = std::min(between(kind.process_width, random), 0.6 * cell.short_axis);
    processes.push_back(make_path(r * std::cos(cell.angle + side), r * std::sin(cell.angle + side), cell.angle + side, length + r,
                                  {random.uniform(0.85, 1.1), root}, 0.09, random));
    if (random.uniform() < 0.3) processes.back().back().radius += random.uniform(0.4, 1.6);  // a growth cone
  }

  double left = 0, right = 0, top = 0, bottom = 0;
  const double reach = static_cast<double>(*std::max_element(outline.begin(), outline.end()));
  left = top = -reach, right = bottom = reach;
  for (const auto& path : processes) {
    for (const PathPoint& p : path) {
      left = std::min(left, p.x - p.radius), right = std::max(right, p.x + p.radius);
      top = std::min(top, p.y - p.radius), bottom = std::max(bottom, p.y + p.radius);
    }
  }
  cell.x = std::ceil(-left) + 3 + random.uniform();
  cell.y = std::ceil(-top) + 3 + random.uniform();
  cell.width = static_cast<int64_t>(cell.x + right) + 4;
  cell.height = static_cast<int64_t>(cell.y + bottom) + 4;

  std::vector<float> arms(static_cast<size_t>(cell.height * cell.width), -50.0f);
  for (const auto& path : processes) {
    draw_path(path, cell.height, cell.width, cell.x, cell.y, [&](size_t i, float depth) { arms[i] = std::max(arms[i], depth); });
  }
  cell.depth.resize(arms.size());
  for (int64_t y = 0; y < cell.height; ++y) {
    for (int64_t x = 0; x < cell.width; ++x) {
      const size_t i = static_cast<size_t>(y * cell.width + x);
      const float dx = static_cast<float>(static_cast<double>(x) - cell.x),
                  dy = static_cast<float>(static_cast<double>(y) - cell.y);
      const float distance = std::sqrt(dx * dx + dy * dy);
      float body = static_cast<float>(reach) - distance;
      if (body > -4) body = static_cast<float>(radius_at(std::atan2(dy, dx) - cell.angle)) - distance;
      cell.depth[i] = smooth_union(body, arms[i], 4.0f);
    }
  }
  cell.area = std::count_if(cell.depth.begin(), cell.depth.end(), [](float d) { return d > 0; });
  return cell;
}

std::vector<Cell> place_cells(const CellKind& kind, int64_t height, int64_t width, double density, Random& random) {
  const double pixels = static_cast<double>(height * width);
  const double spread = std::exp(std::clamp(random.normal(), -2.0, 2.0) * kind.count_spread);
  const int64_t wanted = std::max<int64_t>(1, std::llround(kind.count * spread * density * pixels / (520.0 * 704.0)));
  std::vector<uint8_t> occupied(static_cast<size_t>(height * width), 0);
  std::vector<Cell> cells;
  const auto fits = [&](const Cell& cell, double allowed) {
    const Cover c = cover(cell, occupied, height, width);
    return c.inside >= min_piece && static_cast<double>(c.taken) <= allowed * static_cast<double>(c.inside);
  };
  for (int64_t i = 0; i < wanted; ++i) {
    Cell cell = make_cell(kind, random);
    const double allowed = random.uniform() < 0.25 ? random.uniform(0, kind.overlap * 2) : 0;
    bool placed = false;
    for (int attempt = 0; attempt < 12 && !placed; ++attempt) {
      if (!cells.empty() && random.uniform() < kind.clumped) {  // slide towards a neighbour until they touch
        const Cell& other = cells[random.below(cells.size())];
        const double direction = random.uniform(0, 2 * pi), ox = static_cast<double>(other.left) + other.x,
                     oy = static_cast<double>(other.top) + other.y;
        Cell last;
        for (double r = cell.long_axis + other.long_axis + 4; r > 3; r -= 1) {
          move_centre_to(cell, ox + r * std::cos(direction), oy + r * std::sin(direction));
          if (!fits(cell, allowed)) break;
          placed = true;
          last.left = cell.left, last.top = cell.top;
        }
        if (placed) cell.left = last.left, cell.top = last.top;
      } else {
        move_centre_to(cell, random.uniform(0, static_cast<double>(width)), random.uniform(0, static_cast<double>(height)));
        placed = fits(cell, allowed);
      }
    }
    if (!placed) continue;
    keep_one_piece(cell, height, width);
    if (cell.area < min_piece) continue;
    for (int64_t y = std::max<int64_t>(0, -cell.top); y < std::min(cell.height, height - cell.top); ++y) {
      for (int64_t x = std::max<int64_t>(0, -cell.left); x < std::min(cell.width, width - cell.left); ++x) {
        if (cell.depth[static_cast<size_t>(y * cell.width + x)] > 0) {
          occupied[static_cast<size_t>((y + cell.top) * width + x + cell.left)] = 1;
        }
      }
    }
    cells.push_back(std::move(cell));
  }
  return cells;
}

Rle to_rle(const Cell& cell, int64_t height, int64_t width) {
  Rle rle{height, width, {}};
  int64_t end = 0;  // pixels covered by the counts so far
  for (int64_t x = std::max<int64_t>(0, -cell.left); x < std::min(cell.width, width - cell.left); ++x) {
    for (int64_t y = std::max<int64_t>(0, -cell.top); y < std::min(cell.height, height - cell.top); ++y) {
      if (cell.depth[static_cast<size_t>(y * cell.width + x)] <= 0) continue;
      const int64_t position = (x + cell.left) * height + y + cell.top;
      if (position == end && !rle.counts.empty()) {
        ++rle.counts.back();
      } else {
        rle.counts.push_back(static_cast<uint32_t>(position - end));
        rle.counts.push_back(1);
      }
      end = position + 1;
    }
  }
  if (end < height * width || rle.counts.empty()) rle.counts.push_back(static_cast<uint32_t>(height * width - end));
  return rle;
}

}  // namespace glia::synth
