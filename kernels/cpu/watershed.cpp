// Dijkstra's algorithm over pixels: whoever leaves the queue first has the least (level, steps), and claims its free neighbours.
#include <functional>
#include <queue>

#include "kernels/flood_frame.h"
#include "kernels/labels.h"

namespace glia::cpu {

void watershed(const Watershed& op, const Tensor& x, const Tensor& markers, const Tensor& mask, Tensor& labels) {
  flood::Frame frame(x, markers, mask, op.connectivity);
  using Entry = unsigned __int128;  // the key, then the place in raster order: one comparison
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
  const auto push = [&](uint64_t key, size_t place) { queue.push(Entry(key) << 64 | place); };
  for (size_t p = 0; p < frame.pixels.size(); ++p)
    if (frame.pixels[p].label) push(flood::marker_key(frame.pixels[p].level), p);
  while (!queue.empty()) {
    const Entry here = queue.top();
    queue.pop();
    if (!queue.empty()) frame.prefetch_neighbours(static_cast<size_t>(queue.top()));
    const auto key = static_cast<uint64_t>(here >> 64);
    const auto place = static_cast<size_t>(here);
    for (const int64_t n : frame.neighbours) {
      flood::Pixel& q = frame.pixels[place + size_t(n)];
      if (q.level == flood::closed || q.label) continue;
      q.label = frame.pixels[place].label;
      push(flood::flooded_key(key, q.level), place + size_t(n));
    }
  }
  frame.copy_labels(labels);
}

}  // namespace glia::cpu
