#include "kernels/shape.h"

#include <algorithm>
#include <numeric>

namespace glia {

TensorSpec Concat::infer(std::span<const Tensor> xs) const {
  Shape shape = xs[0].shape();
  const int at = normalize_axis(axis, shape.rank(), "concat");
  int64_t total = 0;
  for (size_t i = 0; i < xs.size(); ++i) {
    Shape other = xs[i].shape();
    GLIA_CHECK(xs[i].dtype() == xs[0].dtype(), "concat: input {} is {}, input 0 {}", i, name_of(xs[i].dtype()),
               name_of(xs[0].dtype()));
    if (other.rank() == shape.rank()) {
      total += other[at];
      other.set(at, shape[at]);
    }
    GLIA_CHECK(other == shape, "concat along axis {}: input {} is {}, input 0 {}; the other axes must agree", at, i,
               xs[i].shape(), xs[0].shape());
  }
  shape.set(at, total);
  return {shape, xs[0].dtype()};
}

AxisMap Slice::map(const Shape& x) const {
  const size_t rank = static_cast<size_t>(x.rank());
  for (const auto* list : {&start, &stop, &step})
    GLIA_CHECK(list->empty() || list->size() == rank, "slice: {} entries for the {} axes of {}", list->size(), rank, x);
  AxisMap m{.x = x, .y = x, .source = {}};
  for (size_t i = 0; i < rank; ++i) {
    const int axis = static_cast<int>(i);
    const int64_t n = x[axis], by = step.empty() ? 1 : step[i];
    int64_t from = start.empty() ? 0 : start[i], to = stop.empty() ? n : stop[i];
    if (from < 0) from += n;
    if (to < 0) to += n;
    GLIA_CHECK(0 <= from && from <= to && to <= n && by >= 1, "slice: axis {} of {} from {} to {} by {}", axis, x, from, to, by);
    for (int64_t j = from; j < to; j += by) m.source[i].push_back(j);
    m.y.set(axis, static_cast<int64_t>(m.source[i].size()));
  }
  return m;
}

Slice slice_of(const Shape& x, int axis, int64_t begin, int64_t end) {
  Slice op{.start = std::vector<int64_t>(static_cast<size_t>(x.rank()), 0), .stop = {x.begin(), x.end()}};
  const auto at = static_cast<size_t>(normalize_axis(axis, x.rank(), "slice"));
  op.start[at] = begin;
  op.stop[at] = end;
  return op;
}

Slice centre_crop(const Shape& x, int64_t height, int64_t width) {
  GLIA_CHECK(x.rank() == 4 && height >= 0 && width >= 0 && height <= x[1] && width <= x[2],
             "centre_crop: {} x {} of {}, want at most its (N, H, W, C)", height, width, x);
  const int64_t top = (x[1] - height) / 2, left = (x[2] - width) / 2;
  return {.start = {0, top, left, 0}, .stop = {x[0], top + height, left + width, x[3]}};
}

PadMode parse_pad_mode(std::string_view text) {
  if (text == "constant") return PadMode::constant;
  if (text == "reflect") return PadMode::reflect;
  if (text == "edge") return PadMode::edge;
  throw UsageError("pad mode '{}': want constant, reflect or edge", text);
}

AxisMap Pad::map(const Shape& x) const {
  GLIA_CHECK(static_cast<int>(pads.size()) == x.rank(), "pad: {} pairs for the {} axes of {}", pads.size(), x.rank(), x);
  AxisMap m{.x = x, .y = x, .source = {}};
  for (size_t i = 0; i < pads.size(); ++i) {
    const int axis = static_cast<int>(i);
    const int64_t n = x[axis], before = pads[i][0], after = pads[i][1], size = n + before + after;
    const int64_t limit = mode == PadMode::reflect ? n - 1 : mode == PadMode::edge && n == 0 ? 0 : INT64_MAX;
    GLIA_CHECK(size >= 0, "pad: axis {} of {} by {} and {} leaves nothing to crop", axis, x, before, after);
    GLIA_CHECK(before <= std::max<int64_t>(0, limit) && after <= std::max<int64_t>(0, limit),
               "pad: axis {} of {} by {} and {}; this mode pads by at most {}", axis, x, before, after,
               std::max<int64_t>(0, limit));
    m.y.set(axis, size);
    for (int64_t j = -before; j < size - before; ++j) {
      int64_t from = j;
      if (mode == PadMode::constant && (j < 0 || j >= n)) from = -1;
      if (mode == PadMode::edge) from = std::clamp<int64_t>(j, 0, n - 1);
      if (mode == PadMode::reflect) from = j < 0 ? -j : j >= n ? 2 * (n - 1) - j : j;
      m.source[i].push_back(from);
    }
  }
  return m;
}

Permute Permute::inverse() const {
  const int rank = static_cast<int>(axes.size());
  Permute result{.axes = std::vector<int>(axes.size())};
  for (int i = 0; i < rank; ++i)
    result.axes[static_cast<size_t>(normalize_axis(axes[static_cast<size_t>(i)], rank, "permute"))] = i;
  return result;
}

TensorSpec Permute::infer(const Tensor& x) const {
  GLIA_CHECK(static_cast<int>(axes.size()) == x.rank(), "permute: {} axes for {}", axes.size(), x.shape());
  Shape shape = x.shape();
  unsigned seen = 0;
  for (int i = 0; i < x.rank(); ++i) {
    const int axis = normalize_axis(axes[static_cast<size_t>(i)], x.rank(), "permute");
    GLIA_CHECK(!(seen >> axis & 1u), "permute: axis {} is given twice", axis);
    seen |= 1u << axis;
    shape.set(i, x.dim(axis));
  }
  return {shape, x.dtype()};
}

AxisMap Flip::map(const Shape& x) const {
  AxisMap m{.x = x, .y = x, .source = {}};
  for (int i = 0; i < x.rank(); ++i) {
    auto& source = m.source[static_cast<size_t>(i)];
    source.resize(static_cast<size_t>(x[i]));
    std::iota(source.begin(), source.end(), int64_t{0});
  }
  for (const int axis : axes) {
    auto& source = m.source[static_cast<size_t>(normalize_axis(axis, x.rank(), "flip"))];
    std::reverse(source.begin(), source.end());
  }
  return m;
}

}  // namespace glia
