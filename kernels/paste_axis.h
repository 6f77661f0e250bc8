#pragma once
// Where the pixels of an image fall on a map of M values that is stretched over [low, high) of one of its axes.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/op.h"

namespace glia {

// The place of pixel `at` on the map, value i at place i. Rounded step by step as detectron2's grid and torch's grid_sample do.
GLIA_HOST_DEVICE inline float paste_place(float at, float low, float size, int64_t m) {
  const float grid = (at + .5f - low) / size * 2 - 1;
  return (grid + 1) * (float(m) / 2) - .5f;
}

// The pixels [begin, begin + size of the lists) of `count` that the map reaches: pixel i has (1 - share) of value before[i] and
// share of the one after it, where -1 and M are 0. None where the interval has no finite positive length.
struct PasteAxis {
  int64_t begin = 0;
  std::vector<int32_t> before;
  std::vector<float> share;
  int64_t size() const { return static_cast<int64_t>(before.size()); }

  void set(float low, float high, int64_t m, int64_t count) {
    before.clear();
    share.clear();
    begin = 0;
    const float length = high - low;
    if (!(length > 0) || !std::isfinite(length)) return;
    // Half a value of the map beyond the interval, and what rounding may add.
    const double reach = double(length) / double(m) / 2 + 2 + 1e-6 * (double(length) + std::abs(double(low)));
    const auto clamped = [&](double x) { return static_cast<int64_t>(std::clamp(x, 0.0, double(count))); };
    const int64_t end = clamped(std::ceil(double(high) + reach));
    for (int64_t i = clamped(std::floor(double(low) - reach)); i < end; ++i) {
      const float place = paste_place(float(i), low, length, m);
      if (!(place > -1 && place < float(m))) continue;
      if (before.empty()) begin = i;
      const float whole = std::floor(place);
      before.push_back(static_cast<int32_t>(whole));
      share.push_back(place - whole);
    }
  }
};

}  // namespace glia
