#include "tensor/shape.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "tensor/error.h"

namespace glia {

Shape::Shape(std::span<const int64_t> dims) {
  GLIA_CHECK(dims.size() <= size_t(max_rank), "shape: {} dimensions, at most {} are supported", dims.size(), max_rank);
  int64_t nonzero = 1;
  for (const int64_t d : dims) {
    GLIA_CHECK(d >= 0, "shape: negative dimension {}", d);
    if (d > 0) {
      GLIA_CHECK(nonzero <= std::numeric_limits<int64_t>::max() / 16 / d, "shape: too many elements for 64 bits");
      nonzero *= d;
    }
    dims_[static_cast<size_t>(rank_++)] = d;
  }
}

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (int i = 0; i < shape.rank(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (shape.rank() == 1 ? ",)" : ")");
}

int normalize_axis(int axis, int rank, const char* op) {
  GLIA_CHECK(axis >= -rank && axis < rank, "{}: axis {} for a tensor of rank {}", op, axis, rank);
  return axis < 0 ? axis + rank : axis;
}

}  // namespace glia

fmt::format_context::iterator fmt::formatter<glia::Shape>::format(const glia::Shape& s, format_context& c) const {
  const std::string text = to_string(s);
  return std::copy(text.begin(), text.end(), c.out());
}
