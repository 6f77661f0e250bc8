// Minima and maxima of x seen as (outer, n, inner), and where they are.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/reduce_extremes.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/reduce_plan.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/reduce.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

// NaN beats every number, and nothing beats NaN.
template <bool largest>
HWY_INLINE Vector better(Vector best, Vector x) {
  const auto take = largest ? hn::Gt(x, best) : hn::Lt(x, best);
  return hn::IfThenElse(hn::Or(take, hn::IsNaN(x)), x, best);
}
template <bool largest>
HWY_INLINE float better(float best, float x) {
  return (largest ? x > best : x < best) || x != x ? x : best;
}

// Of n >= 1 rows.
template <bool largest>
void column_extremes(const float* x, int64_t n, int64_t inner, int64_t columns, float* to) {
  const int64_t lanes = vector_lanes();
  int64_t c = 0;
  for (; c + lanes <= columns; c += lanes) {
    Vector best = load(x + c);
    for (int64_t i = 1; i < n; ++i) best = better<largest>(best, load(x + i * inner + c));
    store<false>(best, to + c);
  }
  for (; c < columns; ++c) {
    float best = x[c];
    for (int64_t i = 1; i < n; ++i) best = better<largest>(best, x[i * inner + c]);
    to[c] = best;
  }
}

template <bool largest>
float row_extreme(const float* x, int64_t n) {
  const int64_t lanes = vector_lanes();
  float best = x[0];
  int64_t i = 0;
  if (n >= lanes) {
    Vector v = load(x);
    for (i = lanes; i + lanes <= n; i += lanes) v = better<largest>(v, load(x + i));
    HWY_ALIGN float each[HWY_MAX_BYTES / 4] = {};
    store<false>(v, each);
    best = each[0];
    for (int64_t k = 1; k < lanes; ++k) best = better<largest>(best, each[k]);
  }
  for (; i < n; ++i) best = better<largest>(best, x[i]);
  return best;
}

template <bool largest>
void extremes_of(const ReductionExtent& e, const float* x, float* y) {
  const ReductionCut cut(e);
  std::vector<float> partial(static_cast<size_t>(e.outer * cut.row_chunks * e.inner));
  parallel_for(cut.tasks, cut.grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t column = task % cut.column_blocks * block, part = task / cut.column_blocks, o = part / cut.row_chunks;
      const int64_t first = part % cut.row_chunks * cut.rows, rows = std::min(cut.rows, e.n - first);
      const float* from = x + (o * e.n + first) * e.inner + column;
      float* at = partial.data() + part * e.inner + column;
      if (e.inner == 1) {
        *at = row_extreme<largest>(from, rows);
      } else {
        column_extremes<largest>(from, rows, e.inner, std::min(block, e.inner - column), at);
      }
    }
  });
  for (int64_t o = 0; o < e.outer; ++o)
    column_extremes<largest>(partial.data() + o * cut.row_chunks * e.inner, cut.row_chunks, e.inner, e.inner, y + o * e.inner);
}

void extremes(const ReductionExtent& e, bool largest, const float* x, float* y) {
  largest ? extremes_of<true>(e, x, y) : extremes_of<false>(e, x, y);
}

// The first place of `best`, or of a NaN; n where there is none.
int64_t first_place(const float* x, int64_t n, float best) {
  const int64_t lanes = vector_lanes();
  const Vector wanted = hn::Set(VectorTag(), best);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const Vector v = load(x + i);
    if (!hn::AllFalse(VectorTag(), hn::Or(hn::Eq(v, wanted), hn::IsNaN(v)))) break;
  }
  while (i < n && x[i] != best && x[i] == x[i]) ++i;
  return i;
}

// dx = dy where x is the first of its group that equals y, else 0.
void extremes_backward(const ReductionExtent& e, const float* x, const float* y, const float* dy, float* dx) {
  if (e.inner == 1) {
    parallel_for(e.outer * e.n, 1 << 18, [&](int64_t begin, int64_t end) { std::fill(dx + begin, dx + end, 0.0f); });
    parallel_for(e.outer, std::max<int64_t>(1, elements_per_chunk / e.n), [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o) {
        const int64_t i = first_place(x + o * e.n, e.n, y[o]);
        if (i < e.n) dx[o * e.n + i] = dy[o];
      }
    });
    return;
  }
  const int64_t columns = num_chunks(e.inner, block);
  const auto grain = std::max<int64_t>(1, elements_per_chunk / (e.n * std::min(e.inner, block)));
  parallel_for(e.outer * columns, grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t o = task / columns, column = task % columns * block, width = std::min(block, e.inner - column);
      const float *from = x + o * e.n * e.inner + column, *best = y + o * e.inner + column, *g = dy + o * e.inner + column;
      float* to = dx + o * e.n * e.inner + column;
      bool found[block] = {};
      for (int64_t i = 0; i < e.n; ++i) {
        for (int64_t c = 0; c < width; ++c) {
          const float v = from[i * e.inner + c];
          const bool first = (!found[c]) & ((v == best[c]) | (v != v));
          to[i * e.inner + c] = first ? g[c] : 0.0f;
          found[c] |= first;
        }
      }
    }
  });
}

// Places of the extremes of `rows` short rows of n, as many rows at a time as a vector has lanes.
template <bool largest>
void places_of_short_rows(const float* x, int64_t n, int64_t rows, int64_t* y) {
  const hn::ScalableTag<int32_t> di;
  const VectorTag d;
  const int64_t lanes = vector_lanes();
  const auto first = hn::Mul(hn::Iota(di, 0), hn::Set(di, static_cast<int32_t>(n)));
  for (int64_t r = 0; r < rows; r += lanes) {
    r = std::min(r, rows - lanes);  // the last ones again
    const float* from = x + r * n;
    Vector best = hn::GatherIndex(d, from, first);
    auto place = hn::Zero(di);
    for (int32_t i = 1; i < n; ++i) {
      const auto at = hn::Set(di, i);
      const Vector v = hn::GatherIndex(d, from, hn::Add(first, at));
      const auto beats = hn::Or(largest ? hn::Gt(v, best) : hn::Lt(v, best), hn::IsNaN(v));
      const auto take = hn::AndNot(hn::IsNaN(best), beats);
      best = hn::IfThenElse(take, v, best);
      place = hn::IfThenElse(hn::RebindMask(di, take), at, place);
    }
    HWY_ALIGN int32_t each[HWY_MAX_BYTES / 4] = {};
    hn::Store(place, di, each);
    std::copy_n(each, lanes, y + r);
  }
}

template <bool largest>
void places_of(const ReductionExtent& e, const float* x, int64_t* y) {
  parallel_for(e.outer, std::max<int64_t>(1, elements_per_chunk / (e.n * e.inner)), [&](int64_t begin, int64_t end) {
    constexpr int64_t short_row = 128;
    if (e.inner == 1 && e.n <= short_row && end - begin >= vector_lanes())
      return places_of_short_rows<largest>(x + begin * e.n, e.n, end - begin, y + begin);
    if (e.inner == 1) {
      for (int64_t o = begin; o < end; ++o) {
        const float* from = x + o * e.n;
        float best = from[0];
        int64_t at = 0;
        for (int64_t i = 1; i < e.n; ++i) {
          const float v = from[i];
          const bool take = ((largest ? v > best : v < best) | (v != v)) & (best == best);
          best = take ? v : best;
          at = take ? i : at;
        }
        y[o] = at;
      }
      return;
    }
    std::vector<float> best(static_cast<size_t>(e.inner));
    for (int64_t o = begin; o < end; ++o) {
      const float* from = x + o * e.n * e.inner;
      int64_t* to = y + o * e.inner;
      std::copy_n(from, e.inner, best.data());
      std::fill_n(to, e.inner, int64_t{0});
      for (int64_t i = 1; i < e.n; ++i) {
        for (int64_t c = 0; c < e.inner; ++c) {
          const float v = from[i * e.inner + c], b = best[static_cast<size_t>(c)];
          const bool take = ((largest ? v > b : v < b) | (v != v)) & (b == b);
          best[static_cast<size_t>(c)] = take ? v : b;
          to[c] = take ? i : to[c];
        }
      }
    }
  });
}

void places(const ReductionExtent& e, bool largest, const float* x, int64_t* y) {
  largest ? places_of<true>(e, x, y) : places_of<false>(e, x, y);
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(extremes);
HWY_EXPORT(extremes_backward);
HWY_EXPORT(places);

namespace {

// Element types other than float32 go to the reference.
template <class Op, class Body>
void extreme(const Op& op, bool largest, const Tensor& x, Tensor& y, Body reference_body) {
  if (x.dtype() != DType::float32) return reference_body(op, x, y);
  if (y.size() == 0) return;
  const ReductionPlan plan(x.shape(), axis_set(op.axes, x.rank(), "max"));
  HWY_DYNAMIC_DISPATCH(extremes)(plan.extent, largest, plan.arrange(x).data<float>(), y.data<float>());
}

void extreme_backward(const std::vector<int>& axes, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {
  if (!dx || dx->size() == 0) return;
  const ReductionPlan plan(x.shape(), axis_set(axes, x.rank(), "max"));
  const Tensor from = plan.arrange(x);
  plan.scatter(*dx, [&](Tensor& to) {
    HWY_DYNAMIC_DISPATCH(extremes_backward)
    (plan.extent, from.data<float>(), y.data<float>(), dy.data<float>(), to.data<float>());
  });
}

template <class Op, class Body>
void place(const Op& op, bool largest, const Tensor& x, Tensor& y, Body reference_body) {
  if (x.dtype() != DType::float32) return reference_body(op, x, y);
  if (y.size() == 0) return;
  const int axis = normalize_axis(op.axis, x.rank(), "argmax");
  const ReductionExtent e{x.shape().product(0, axis), x.dim(axis), x.shape().product(axis + 1, x.rank())};
  HWY_DYNAMIC_DISPATCH(places)(e, largest, x.data<float>(), y.data<int64_t>());
}

}  // namespace

void max(const Max& op, const Tensor& x, Tensor& y) { extreme(op, true, x, y, reference::max); }
void min(const Min& op, const Tensor& x, Tensor& y) { extreme(op, false, x, y, reference::min); }
void max_backward(const Max& op, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {
  extreme_backward(op.axes, x, y, dy, dx);
}
void min_backward(const Min& op, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {
  extreme_backward(op.axes, x, y, dy, dx);
}

void argmax(const ArgMax& op, const Tensor& x, Tensor& y) { place(op, true, x, y, reference::argmax); }
void argmin(const ArgMin& op, const Tensor& x, Tensor& y) { place(op, false, x, y, reference::argmin); }

}  // namespace glia::cpu
#endif
