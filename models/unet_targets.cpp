#include "models/unet_targets.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/labels.h"

namespace glia {

Tensor border_classes(const Tensor& labels, int64_t width) {
  const int64_t rows = labels.dim(0), columns = labels.dim(1);
  const int32_t* label = labels.data<int32_t>();
  // Smallest and largest non-zero label of each window, rows then columns: they differ where two cells are near.
  constexpr int32_t none = std::numeric_limits<int32_t>::max();
  std::vector<int32_t> low(static_cast<size_t>(rows * columns), none), high(low.size(), 0);
  for (int64_t y = 0; y < rows; ++y)
    for (int64_t x = 0; x < columns; ++x)
      for (int64_t k = std::max<int64_t>(0, x - width); k <= std::min(columns - 1, x + width); ++k)
        if (const int32_t v = label[y * columns + k]; v != 0) {
          low[size_t(y * columns + x)] = std::min(low[size_t(y * columns + x)], v);
          high[size_t(y * columns + x)] = std::max(high[size_t(y * columns + x)], v);
        }
  Tensor classes({rows, columns}, DType::int64);
  for (int64_t y = 0; y < rows; ++y)
    for (int64_t x = 0; x < columns; ++x) {
      int32_t smallest = none, largest = 0;
      for (int64_t k = std::max<int64_t>(0, y - width); k <= std::min(rows - 1, y + width); ++k) {
        smallest = std::min(smallest, low[size_t(k * columns + x)]);
        largest = std::max(largest, high[size_t(k * columns + x)]);
      }
      const bool near_two = largest > 0 && smallest != largest;
      classes.data<int64_t>()[y * columns + x] = near_two ? 2 : label[y * columns + x] > 0 ? 1 : 0;
    }
  return classes;
}

Tensor cells_of(const Tensor& labels) {
  Tensor mask(labels.shape());
  std::transform(labels.data<int32_t>(), labels.data<int32_t>() + mask.size(), mask.data<float>(),
                 [](int32_t label) { return label > 0 ? 1.0f : 0.0f; });
  return mask;
}

void name_instances(Tensor& mask, const Tensor& labels) {
  constexpr int reach = 3;
  Tensor inside(mask.shape(), DType::uint8);
  std::transform(mask.data<int32_t>(), mask.data<int32_t>() + mask.size(), inside.data<uint8_t>(),
                 [](int32_t m) { return static_cast<uint8_t>(m); });
  const auto known = labels.values<int32_t>();
  const int32_t highest = known.empty() ? 0 : *std::max_element(known.begin(), known.end());
  const Tensor grown = grow_labels(labels, reach, inside);
  for (int64_t i = 0; i < mask.size(); ++i) {
    int32_t& m = mask.data<int32_t>()[i];
    if (m != 0) m = grown.data<int32_t>()[i] != 0 ? grown.data<int32_t>()[i] : highest + 1;
  }
}

}  // namespace glia
