#include "kernels/labels.h"

#include <algorithm>
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

}  // namespace glia::reference
