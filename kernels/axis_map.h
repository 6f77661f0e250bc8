#pragma once
// Where each index of an output comes from, axis by axis: y[i, j, ...] = x[source[0][i], source[1][j], ...]. Slices, pads and
// flips are such maps; their gradient adds dy[i, j, ...] to dx[source[0][i], source[1][j], ...].
#include <vector>

#include "tensor/shape.h"

namespace glia {

struct AxisMap {
  Shape x, y;
  std::array<std::vector<int64_t>, Shape::max_rank> source;  // of length y[axis]; -1: no source (a constant)

  int rank() const { return x.rank(); }
  // The first axis from which on x is copied as it is.
  int identity_from() const {
    int axis = rank();
    while (axis > 0 && is_identity(axis - 1)) --axis;
    return axis;
  }
  bool is_identity(int axis) const {
    if (x[axis] != y[axis]) return false;
    const auto& map = source[static_cast<size_t>(axis)];
    for (size_t i = 0; i < map.size(); ++i)
      if (map[i] != static_cast<int64_t>(i)) return false;
    return true;
  }
};

}  // namespace glia
