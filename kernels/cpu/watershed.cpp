// Dijkstra's algorithm over pixels: whoever leaves the queue first has the least (level, steps), and claims its free neighbours.
#include <algorithm>
#include <functional>
#include <queue>
#include <tuple>

#include "kernels/flood.h"
#include "kernels/labels.h"
#include "kernels/sort_keys.h"

namespace glia::cpu {
namespace {

struct Flooded {
  uint64_t key;
  int32_t pixel;
  bool operator>(const Flooded& other) const { return std::tie(key, pixel) > std::tie(other.key, other.pixel); }
};

}  // namespace

void watershed(const Watershed& op, const Tensor& x, const Tensor& markers, const Tensor& mask, Tensor& labels) {
  const int64_t h = x.dim(0), w = x.dim(1);
  const float* values = x.data<float>();
  const int32_t* seeds = markers.data<int32_t>();
  const auto* inside = mask ? reinterpret_cast<const uint8_t*>(mask.raw()) : nullptr;
  int32_t* to = labels.data<int32_t>();
  const auto level = [&](int64_t p) { return flood::level_of(ordered_bits(values[p])); };
  std::priority_queue<Flooded, std::vector<Flooded>, std::greater<>> queue;
  for (int64_t p = 0; p < h * w; ++p) {
    to[p] = !inside || inside[p] ? seeds[p] : 0;
    if (to[p]) queue.push({flood::marker_key(level(p)), int32_t(p)});
  }
  while (!queue.empty()) {
    const Flooded here = queue.top();
    queue.pop();
    const int64_t y = here.pixel / w, c = here.pixel % w;
    for (int64_t ny = std::max<int64_t>(0, y - 1); ny <= std::min(h - 1, y + 1); ++ny)
      for (int64_t nc = std::max<int64_t>(0, c - 1); nc <= std::min(w - 1, c + 1); ++nc) {
        const int64_t q = ny * w + nc;
        if (to[q] || (inside && !inside[q]) || (op.connectivity == 4 && ny != y && nc != c)) continue;
        to[q] = to[here.pixel];
        queue.push({flood::flooded_key(here.key, level(q)), int32_t(q)});
      }
  }
}

}  // namespace glia::cpu
