// Cellpose's dynamics. Diffusion works in a window around each cell, with sums along rows kept for the sums along columns, and
// between the first and the last pixel of each row; cells are shared among the threads. Points are followed by whole vectors of
// them, which stop once none moves.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/flow.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <vector>

#include "kernels/cpu/vector-inl.h"
#include "kernels/flow.h"
#include "kernels/flow_math.h"

#ifndef GLIA_KERNELS_CPU_FLOW_ONCE
#define GLIA_KERNELS_CPU_FLOW_ONCE
namespace glia::cpu {

// Bounding box and pixels of a label.
struct FlowCell {
  int64_t y0 = INT64_MAX, x0 = INT64_MAX, y1 = -1, x1 = -1;
  int64_t pixels = 0, sum_y = 0, sum_x = 0;
  int64_t height() const { return y1 - y0 + 1; }
  int64_t width() const { return x1 - x0 + 1; }
};

// A cell's window: its bounding box and a pixel around it. Rows are `stride` apart.
struct HeatWindow {
  int64_t height, width, stride;  // with the pixels around
  std::vector<double> heat, sums, share;
  std::vector<int64_t> first, last;          // columns of the cell's pixels, by row; first > last: none
  std::vector<int64_t> sum_first, sum_last;  // columns whose sums the rows around need

  explicit HeatWindow(const FlowCell& cell) : height(cell.height() + 2), width(cell.width() + 2), stride((width + 7) / 8 * 8) {
    const auto size = static_cast<size_t>(height * stride);
    heat.assign(size, 0);
    sums.assign(size, 0);
    share.assign(size, 0);
    first.assign(static_cast<size_t>(height), width);
    last.assign(static_cast<size_t>(height), -1);
  }
  size_t at(int64_t y, int64_t x) const { return static_cast<size_t>(y * stride + x); }

  void widen() {
    sum_first = first;
    sum_last = last;
    for (size_t y = 1; y + 1 < first.size(); ++y) {
      sum_first[y] = std::min({first[y - 1], first[y], first[y + 1]});
      sum_last[y] = std::max({last[y - 1], last[y], last[y + 1]});
    }
  }
};

}  // namespace glia::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

// to[x] = (from[x - 1] + from[x]) + from[x + 1].
HWY_INLINE void sum_row(const double* HWY_RESTRICT from, double* HWY_RESTRICT to, int64_t begin, int64_t end) {
  for (int64_t x = begin; x < end; ++x) to[x] = flow::sum3(from[x - 1], from[x], from[x + 1]);
}

HWY_INLINE void sum_column(const double* HWY_RESTRICT above, const double* HWY_RESTRICT here, const double* HWY_RESTRICT below,
                           const double* HWY_RESTRICT share, double* HWY_RESTRICT to, int64_t begin, int64_t end) {
  for (int64_t x = begin; x < end; ++x) to[x] = flow::sum3(above[x], here[x], below[x]) * share[x];
}

void spread(HeatWindow& w, int64_t steps, size_t centre) {
  double* const heat = w.heat.data();
  double* const sums = w.sums.data();
  for (int64_t step = 0; step < steps; ++step) {
    heat[centre] += 1;
    for (int64_t y = 1; y + 1 < w.height; ++y)
      sum_row(heat + y * w.stride, sums + y * w.stride, w.sum_first[size_t(y)], w.sum_last[size_t(y)] + 1);
    for (int64_t y = 1; y + 1 < w.height; ++y) {
      const double* here = sums + y * w.stride;
      sum_column(here - w.stride, here, here + w.stride, w.share.data() + y * w.stride, heat + y * w.stride, w.first[size_t(y)],
                 w.last[size_t(y)] + 1);
    }
  }
}

void make_arrows(const FlowCell& cell, const int32_t* labels, int32_t label, int64_t image_width, float* flow) {
  HeatWindow w(cell);
  const double mean_y = double(cell.sum_y - (cell.y0 - 1) * cell.pixels) / double(cell.pixels);
  const double mean_x = double(cell.sum_x - (cell.x0 - 1) * cell.pixels) / double(cell.pixels);
  double nearest = HUGE_VAL;
  size_t centre = 0;
  for (int64_t y = 1; y + 1 < w.height; ++y) {
    const int32_t* row = labels + (cell.y0 + y - 1) * image_width + cell.x0 - 1;
    for (int64_t x = 1; x + 1 < w.width; ++x) {
      if (row[x] != label) continue;
      w.share[w.at(y, x)] = flow::ninth;
      w.first[size_t(y)] = std::min(w.first[size_t(y)], x);
      w.last[size_t(y)] = x;
      const double distance = flow::squared_distance(double(y), double(x), mean_y, mean_x);
      if (distance < nearest) nearest = distance, centre = w.at(y, x);
    }
  }
  w.widen();
  spread(w, flow::diffusion_steps(cell.height(), cell.width()), centre);
  for (int64_t y = 1; y + 1 < w.height; ++y) {
    for (int64_t x = w.first[size_t(y)]; x <= w.last[size_t(y)]; ++x) {
      const size_t at = w.at(y, x), stride = size_t(w.stride);
      if (w.share[at] == 0) continue;
      const auto arrow = flow::arrow(w.heat[at - stride], w.heat[at + stride], w.heat[at - 1], w.heat[at + 1]);
      float* to = flow + 2 * ((cell.y0 + y - 1) * image_width + cell.x0 + x - 1);
      to[0] = arrow.y;
      to[1] = arrow.x;
    }
  }
}

void flow_targets(const FlowTargets& op, const Tensor& labels, Tensor& flow) {
  const int64_t h = labels.dim(0), w = labels.dim(1);
  const int32_t* const label = labels.data<int32_t>();
  std::fill_n(flow.data<float>(), flow.size(), 0.0f);
  std::vector<FlowCell> cells(static_cast<size_t>(op.count) + 1);
  for (int64_t y = 0; y < h; ++y) {
    for (int64_t x = 0; x < w; ++x) {
      const int32_t l = label[y * w + x];
      if (l == 0) continue;
      GLIA_CHECK(l > 0 && l <= op.count, "flow_targets: label {} at ({}, {}), want 0 to {}", l, y, x, op.count);
      FlowCell& cell = cells[static_cast<size_t>(l)];
      ++cell.pixels;
      cell.sum_y += y;
      cell.sum_x += x;
      cell.y0 = std::min(cell.y0, y), cell.y1 = std::max(cell.y1, y);
      cell.x0 = std::min(cell.x0, x), cell.x1 = std::max(cell.x1, x);
    }
  }
  parallel_for(op.count, 1, [&](int64_t begin, int64_t end) HWY_ATTR {
    for (int64_t i = begin + 1; i <= end; ++i)
      if (cells[size_t(i)].pixels > 0) make_arrows(cells[size_t(i)], label, static_cast<int32_t>(i), w, flow.data<float>());
  });
}

// ---- points -------------------------------------------------------------------------------------------------------------

using IndexTag = hn::RebindToSigned<VectorTag>;
using Index = hn::Vec<IndexTag>;

struct FlowField {
  const float* flow;
  int64_t h, w;
};

HWY_INLINE Vector blend(Vector a, Vector b, Vector share) { return hn::Add(a, hn::Mul(share, hn::Sub(b, a))); }
HWY_INLINE Vector keep_inside(Vector p, Vector last) {
  p = hn::IfThenElse(hn::Gt(p, last), last, p);
  return hn::IfThenElseZero(hn::Ge(p, splat(0)), p);
}
HWY_INLINE Vector gather(const float* from, Index at) { return hn::GatherIndex(VectorTag(), from, at); }

template <bool interpolate>
HWY_INLINE void follow_vector(const FlowField& field, int64_t steps, Vector& y, Vector& x) {
  const IndexTag di;
  const VectorTag d;
  const Vector last_y = splat(double(field.h - 1)), last_x = splat(double(field.w - 1));
  const Index row = hn::Set(di, static_cast<int32_t>(2 * field.w)), two = hn::Set(di, 2);
  const Index end_y = hn::Set(di, static_cast<int32_t>(field.h - 1)), end_x = hn::Set(di, static_cast<int32_t>(field.w - 1));
  y = keep_inside(y, last_y);
  x = keep_inside(x, last_x);
  for (int64_t step = 0; step < steps; ++step) {
    const Index y0 = hn::ConvertTo(di, y), x0 = hn::ConvertTo(di, x);
    const Index at = hn::Add(hn::Mul(y0, row), hn::Add(x0, x0));
    Vector vy = gather(field.flow, at), vx = gather(field.flow + 1, at);
    if constexpr (interpolate) {
      const Index right = hn::Add(at, hn::IfThenElseZero(hn::Lt(x0, end_x), two));
      const Index down = hn::IfThenElseZero(hn::Lt(y0, end_y), row);
      const Index below = hn::Add(at, down), below_right = hn::Add(right, down);
      const Vector share_y = hn::Sub(y, hn::ConvertTo(d, y0)), share_x = hn::Sub(x, hn::ConvertTo(d, x0));
      vy = blend(blend(vy, gather(field.flow, right), share_x),
                 blend(gather(field.flow, below), gather(field.flow, below_right), share_x), share_y);
      vx = blend(blend(vx, gather(field.flow + 1, right), share_x),
                 blend(gather(field.flow + 1, below), gather(field.flow + 1, below_right), share_x), share_y);
    }
    const Vector next_y = keep_inside(hn::Add(y, vy), last_y), next_x = keep_inside(hn::Add(x, vx), last_x);
    const bool still = hn::AllTrue(d, hn::And(hn::Eq(next_y, y), hn::Eq(next_x, x)));
    y = next_y;
    x = next_x;
    if (still) return;  // nor will any of them move again
  }
}

template <bool interpolate>
void follow_points(const FlowField& field, int64_t steps, const float* points, float* moved, int64_t count) {
  const VectorTag d;
  const int64_t lanes = vector_lanes();
  Vector y, x;
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::LoadInterleaved2(d, points + 2 * i, y, x);
    follow_vector<interpolate>(field, steps, y, x);
    hn::StoreInterleaved2(y, x, d, moved + 2 * i);
  }
  if (i == count) return;
  HWY_ALIGN float rest[2 * HWY_MAX_BYTES / sizeof(float)] = {};
  std::copy(points + 2 * i, points + 2 * count, rest);
  hn::LoadInterleaved2(d, rest, y, x);
  follow_vector<interpolate>(field, steps, y, x);
  hn::StoreInterleaved2(y, x, d, rest);
  std::copy(rest, rest + 2 * (count - i), moved + 2 * i);
}

void follow_flow(const FollowFlow& op, const Tensor& flow, const Tensor& points, Tensor& moved) {
  const FlowField field{flow.data<float>(), flow.dim(0), flow.dim(1)};
  const float* from = points.data<float>();
  float* to = moved.data<float>();
  parallel_for(points.dim(0), 1024, [&](int64_t begin, int64_t end) HWY_ATTR {
    if (op.interpolate) {
      follow_points<true>(field, op.steps, from + 2 * begin, to + 2 * begin, end - begin);
    } else {
      follow_points<false>(field, op.steps, from + 2 * begin, to + 2 * begin, end - begin);
    }
  });
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(flow_targets);
HWY_EXPORT(follow_flow);

void flow_targets(const FlowTargets& op, const Tensor& labels, Tensor& flow) {
  HWY_DYNAMIC_DISPATCH(flow_targets)(op, labels, flow);
}
void follow_flow(const FollowFlow& op, const Tensor& flow, const Tensor& points, Tensor& moved) {
  HWY_DYNAMIC_DISPATCH(follow_flow)(op, flow, points, moved);
}

void flow_seeds(const FlowSeeds& op, const Tensor& points, Tensor& counts, Tensor& owner) {
  const int64_t columns = counts.dim(1);
  int32_t* const count = counts.data<int32_t>();
  int32_t* const own = owner.data<int32_t>();
  std::fill_n(count, counts.size(), 0);
  std::fill_n(own, owner.size(), 0);
  const float* p = points.data<float>();
  for (int64_t i = 0; i < points.dim(0); ++i)
    ++count[flow::grid_index(p[2 * i], p[2 * i + 1], op.height, op.width, FlowSeeds::margin)];
  for (int64_t i = 0; i < counts.size(); ++i) {  // in raster order: a later seed wins over an equal one
    if (count[i] <= flow::seed_points || !flow::is_peak(count + i, columns)) continue;
    const flow::Grown grown = flow::grow(count + i, columns);
    for (int r = 0; r < flow::grow_size; ++r) {
      for (int c = 0; c < flow::grow_size; ++c) {
        if (!(grown.rows[r] >> c & 1)) continue;
        int32_t& before = own[i + (r - flow::grow_radius) * columns + c - flow::grow_radius];
        if (before == 0 || count[before - 1] <= count[i]) before = static_cast<int32_t>(i + 1);
      }
    }
  }
}

}  // namespace glia::cpu
#endif
