#pragma once
// Elliptic cells, and a Cellpose that is small enough to train in a test.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "models/cellpose_segmenter.h"
#include "tensor/random.h"

namespace glia::tests {

// Labels (H, W) of ellipses: centre y, x, radii y, x.
inline Tensor ellipses(int64_t height, int64_t width, const std::vector<std::array<double, 4>>& cells) {
  Tensor labels = Tensor::zeros({height, width}, DType::int32);
  for (size_t k = 0; k < cells.size(); ++k)
    for (int64_t i = 0; i < height * width; ++i)
      if (std::hypot((double(i / width) - cells[k][0]) / cells[k][2], (double(i % width) - cells[k][1]) / cells[k][3]) <= 1)
        labels.data<int32_t>()[i] = static_cast<int32_t>(k) + 1;
  return labels;
}

inline double longest_arrow(const Tensor& flow) {
  double longest = 0;
  for (int64_t i = 0; i < flow.size(); i += 2)
    longest = std::max(longest, std::hypot(double(flow.data<float>()[i]), double(flow.data<float>()[i + 1])));
  return longest;
}

inline CellposeSegmenterOptions tiny_cellpose() {
  CellposeSegmenterOptions o;
  o.network.base_channels = 4;
  o.diam_mean = 12;
  o.augment.crop = {48, 48};
  o.tiling.tile = 64;
  return o;
}

inline Example elliptic_cells(int64_t index, int64_t height = 64, int64_t width = 80) {
  Example e;
  e.labels = ellipses(height, width, {{18, 20, 9, 9}, {40, 24, 8, 12}, {30, 58 - double(index), 12, 8}});
  e.image = Tensor({height, width, 1}, DType::uint8);
  const Philox random(5, static_cast<uint64_t>(index));
  for (int64_t i = 0; i < e.image.size(); ++i)
    e.image.data<uint8_t>()[i] =
        static_cast<uint8_t>(random.uniform(uint64_t(i), 0, 40) + (e.labels.data<int32_t>()[i] ? 150 : 20));
  e.categories = {0, 0, 0};
  e.index = index;
  e.id = fmt::format("cells{}", index);
  return e;
}

}  // namespace glia::tests
