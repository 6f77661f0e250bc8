#include "kernels/flow.h"

#include <algorithm>
#include <vector>

#include "kernels/flow_math.h"

namespace glia::reference {
namespace {

// The pixels of one label, and its bounding box.
struct Cell {
  std::vector<std::array<int64_t, 2>> pixels;  // y, x in raster order
  int64_t y0 = INT64_MAX, x0 = INT64_MAX, y1 = -1, x1 = -1;
};

// Of the cell's pixels the nearest to their mean.
std::array<int64_t, 2> centre_of(const Cell& cell) {
  double mean_y = 0, mean_x = 0;
  for (const auto& [y, x] : cell.pixels) {
    mean_y += double(y - cell.y0 + 1);
    mean_x += double(x - cell.x0 + 1);
  }
  mean_y /= double(cell.pixels.size());
  mean_x /= double(cell.pixels.size());
  std::array<int64_t, 2> best{};
  double nearest = INFINITY;
  for (const auto& [y, x] : cell.pixels) {
    const double distance = flow::squared_distance(double(y - cell.y0 + 1), double(x - cell.x0 + 1), mean_y, mean_x);
    if (distance < nearest) nearest = distance, best = {y, x};
  }
  return best;
}

}  // namespace

void flow_targets(const FlowTargets& op, const Tensor& labels, Tensor& flow) {
  const int64_t h = labels.dim(0), w = labels.dim(1);
  flow.fill(0);
  std::vector<Cell> cells(static_cast<size_t>(op.count) + 1);
  for (int64_t i = 0; i < h * w; ++i) {
    const int64_t label = labels.data<int32_t>()[i], y = i / w, x = i % w;
    GLIA_CHECK(label >= 0 && label <= op.count, "flow_targets: label {} at ({}, {}), want 0 to {}", label, y, x, op.count);
    Cell& cell = cells[static_cast<size_t>(label)];
    cell.pixels.push_back({y, x});
    cell.y0 = std::min(cell.y0, y), cell.y1 = std::max(cell.y1, y);
    cell.x0 = std::min(cell.x0, x), cell.x1 = std::max(cell.x1, x);
  }
  std::vector<double> heat(static_cast<size_t>((h + 2) * (w + 2))), next(heat.size());
  const auto place = [&](int64_t y, int64_t x) { return static_cast<size_t>((y + 1) * (w + 2) + x + 1); };
  for (size_t label = 1; label < cells.size(); ++label) {
    const Cell& cell = cells[label];
    if (cell.pixels.empty()) continue;
    const auto [centre_y, centre_x] = centre_of(cell);
    for (int64_t step = 0; step < flow::diffusion_steps(cell.y1 - cell.y0 + 1, cell.x1 - cell.x0 + 1); ++step) {
      heat[place(centre_y, centre_x)] += 1;
      for (const auto& [y, x] : cell.pixels) {
        const auto row = [&](int64_t dy) {
          return flow::sum3(heat[place(y + dy, x - 1)], heat[place(y + dy, x)], heat[place(y + dy, x + 1)]);
        };
        next[place(y, x)] = flow::sum3(row(-1), row(0), row(1)) * flow::ninth;
      }
      std::swap(heat, next);
    }
    for (const auto& [y, x] : cell.pixels) {
      const auto arrow = flow::arrow(heat[place(y - 1, x)], heat[place(y + 1, x)], heat[place(y, x - 1)], heat[place(y, x + 1)]);
      flow.data<float>()[2 * (y * w + x)] = arrow.y;
      flow.data<float>()[2 * (y * w + x) + 1] = arrow.x;
    }
    for (const auto& [y, x] : cell.pixels) heat[place(y, x)] = next[place(y, x)] = 0;
  }
}

void follow_flow(const FollowFlow& op, const Tensor& flow, const Tensor& points, Tensor& moved) {
  dispatch_floating(points.dtype(), "follow_flow", [&]<class T>(T) {
    const int64_t h = flow.dim(0), w = flow.dim(1);
    for (int64_t i = 0; i < points.dim(0); ++i) {
      flow::Point<T> p{flow::keep_inside(points.data<T>()[2 * i], T(h - 1)),
                       flow::keep_inside(points.data<T>()[2 * i + 1], T(w - 1))};
      for (int64_t step = 0; step < op.steps; ++step) p = flow::step(flow.data<T>(), h, w, op.interpolate, p);
      moved.data<T>()[2 * i] = p.y;
      moved.data<T>()[2 * i + 1] = p.x;
    }
  });
}

void flow_seeds(const FlowSeeds& op, const Tensor& points, Tensor& counts, Tensor& owner) {
  counts.fill(0);
  owner.fill(0);
  const int64_t columns = counts.dim(1);
  int32_t* count = counts.data<int32_t>();
  dispatch_floating(points.dtype(), "flow_seeds", [&]<class T>(T) {
    for (int64_t i = 0; i < points.dim(0); ++i)
      ++count[flow::grid_index(points.data<T>()[2 * i], points.data<T>()[2 * i + 1], op.height, op.width, FlowSeeds::margin)];
  });
  std::vector<int64_t> seeds;
  for (int64_t i = 0; i < counts.size(); ++i) {
    if (count[i] <= flow::seed_points) continue;
    bool peak = true;
    for (int64_t dy = -flow::peak_radius; dy <= flow::peak_radius; ++dy)
      for (int64_t dx = -flow::peak_radius; dx <= flow::peak_radius; ++dx)
        peak = peak && count[i + dy * columns + dx] <= count[i];
    if (peak) seeds.push_back(i);
  }
  std::stable_sort(seeds.begin(), seeds.end(), [&](int64_t a, int64_t b) { return count[a] < count[b]; });
  for (const int64_t seed : seeds) {  // later ones paint over earlier ones
    std::vector<int64_t> reached{seed};
    for (int round = 0; round < flow::grow_radius; ++round) {
      std::vector<int64_t> grown;
      for (const int64_t i : reached)
        for (int64_t dy = -1; dy <= 1; ++dy)
          for (int64_t dx = -1; dx <= 1; ++dx)
            if (count[i + dy * columns + dx] > flow::grow_points) grown.push_back(i + dy * columns + dx);
      std::sort(grown.begin(), grown.end());
      grown.erase(std::unique(grown.begin(), grown.end()), grown.end());
      reached = grown;
    }
    for (const int64_t i : reached) owner.data<int32_t>()[i] = static_cast<int32_t>(seed + 1);
  }
}

}  // namespace glia::reference
