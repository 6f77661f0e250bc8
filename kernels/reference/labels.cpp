#include "kernels/labels.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

namespace glia::reference {

void connected_components(const ConnectedComponents& op, const Tensor& x, Tensor& labels) {
  const int64_t h = x.dim(0), w = x.dim(1);
  const Tensor value = x.cast(DType::int32);
  const int32_t* v = value.data<int32_t>();
  int32_t* to = labels.data<int32_t>();
  labels.fill(0);
  int32_t count = 0;
  std::vector<int64_t> open;
  for (int64_t start = 0; start < h * w; ++start) {
    if (v[start] == 0 || to[start] != 0) continue;
    to[start] = ++count;
    open.assign(1, start);
    while (!open.empty()) {
      const int64_t p = open.back();
      open.pop_back();
      for (int64_t dy = -1; dy <= 1; ++dy) {
        for (int64_t dx = -1; dx <= 1; ++dx) {
          const int64_t py = p / w + dy, px = p % w + dx, q = py * w + px;
          if (py < 0 || py >= h || px < 0 || px >= w || (op.connectivity == 4 && dy != 0 && dx != 0)) continue;
          if (v[q] == 0 || to[q] != 0 || (op.by_value && v[q] != v[p])) continue;
          to[q] = count;
          open.push_back(q);
        }
      }
    }
  }
}

void squared_distance(const SquaredDistance&, const Tensor& mask, Tensor& squared) {
  const int64_t h = mask.dim(0), w = mask.dim(1);
  const auto* inside = reinterpret_cast<const uint8_t*>(mask.raw());
  std::vector<std::pair<int64_t, int64_t>> outside;
  for (int64_t y = 0; y < h; ++y)
    for (int64_t x = 0; x < w; ++x)
      if (!inside[y * w + x]) outside.emplace_back(y, x);
  for (int64_t y = 0; y < h; ++y) {
    for (int64_t x = 0; x < w; ++x) {
      int64_t best = (h + w) * (h + w);
      if (!inside[y * w + x]) best = 0;
      if (best)
        for (const auto& [oy, ox] : outside) best = std::min(best, (y - oy) * (y - oy) + (x - ox) * (x - ox));
      squared.data<int32_t>()[y * w + x] = int32_t(best);
    }
  }
}

// Sweeps over the image until nothing changes.
void watershed(const Watershed& op, const Tensor& x, const Tensor& markers, const Tensor& mask, Tensor& labels) {
  const int64_t h = x.dim(0), w = x.dim(1);
  const Tensor values = x.cast(DType::float64);
  const auto* inside = mask ? reinterpret_cast<const uint8_t*>(mask.raw()) : nullptr;
  int32_t* to = labels.data<int32_t>();
  using Level = std::pair<bool, double>;  // whether it is NaN; else the value
  const auto level = [&](int64_t p) {
    const double v = values.data<double>()[p];
    return std::isnan(v) ? Level(true, 0) : Level(false, v);
  };
  std::vector<std::pair<Level, int64_t>> order(size_t(h * w));  // level and steps of pixels with a label
  for (int64_t p = 0; p < h * w; ++p) {
    to[p] = !inside || inside[p] ? markers.data<int32_t>()[p] : 0;
    order[size_t(p)] = {level(p), 0};
  }
  const auto first_neighbour = [&](int64_t p) {  // -1: none has a label
    int64_t best = -1;
    for (int64_t dy = -1; dy <= 1; ++dy) {
      for (int64_t dx = -1; dx <= 1; ++dx) {
        const int64_t qy = p / w + dy, qx = p % w + dx, q = qy * w + qx;
        if (qy < 0 || qy >= h || qx < 0 || qx >= w || q == p || (op.connectivity == 4 && dy != 0 && dx != 0)) continue;
        if (to[q] != 0 && (best < 0 || order[size_t(q)] < order[size_t(best)])) best = q;
      }
    }
    return best;
  };
  for (bool changed = true; changed;) {
    changed = false;
    for (int64_t p = 0; p < h * w; ++p) {
      if ((inside && !inside[p]) || markers.data<int32_t>()[p] != 0) continue;
      const int64_t from = first_neighbour(p);
      if (from < 0) continue;
      auto [highest, steps] = order[size_t(from)];
      const auto now = level(p) > highest ? std::pair(level(p), int64_t(1)) : std::pair(highest, steps + 2);
      changed = changed || to[p] != to[from] || order[size_t(p)] != now;
      to[p] = to[from];
      order[size_t(p)] = now;
    }
  }
}

}  // namespace glia::reference
