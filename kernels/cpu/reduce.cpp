// Reductions of x seen as (outer, n, inner): sums over n in chunks of fixed size that are combined in order. A set of axes that
// isn't one run is first permuted so that the reduced ones come last.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/reduce.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <limits>

#include "kernels/cpu/sum-inl.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/reduce.h"
#include "kernels/shape.h"

#ifndef GLIA_KERNELS_CPU_REDUCE_ONCE
#define GLIA_KERNELS_CPU_REDUCE_ONCE
namespace glia::cpu {

struct Extent {
  int64_t outer = 1, n = 1, inner = 1;
};

}  // namespace glia::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t elements_per_chunk = 1 << 14;
constexpr int64_t block = 512;  // columns whose double sums stay in the first cache

// Where the work is cut: `rows` of n per chunk, `columns` of inner; tasks are (outer, chunk of rows, block of columns).
struct Cut {
  int64_t rows, row_chunks, column_blocks, tasks, grain;
  explicit Cut(const Extent& e)
      : rows(e.inner == 1 ? elements_per_chunk : std::max<int64_t>(64, elements_per_chunk / std::min(e.inner, block))),
        row_chunks(num_chunks(e.n, rows)),
        column_blocks(num_chunks(e.inner, block)),
        tasks(e.outer * row_chunks * column_blocks),
        grain(std::max<int64_t>(1, elements_per_chunk / (std::min(rows, std::max<int64_t>(1, e.n)) * std::min(e.inner, block)))) {
  }
};

// Sums of x, or of squared distances from `mean`, over rows [0, n) of `columns` columns.
void column_sums(const float* x, int64_t n, int64_t inner, int64_t columns, const double* mean, double* HWY_RESTRICT to) {
  std::fill_n(to, columns, 0.0);
  for (int64_t i = 0; i < n; ++i) {
    const float* HWY_RESTRICT row = x + i * inner;
    if (mean) {
      for (int64_t c = 0; c < columns; ++c) {
        const double d = static_cast<double>(row[c]) - mean[c];
        to[c] += d * d;
      }
    } else {
      for (int64_t c = 0; c < columns; ++c) to[c] += static_cast<double>(row[c]);
    }
  }
}

double row_sum(const float* x, int64_t n, const double* mean) {
  if (!mean)
    return double_sum(
        n, [](Vector v) { return v; }, x);
  DoubleSum sum;
  const int64_t lanes = vector_lanes();
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) sum.add_square_of_difference(load(x + i), *mean);
  double rest = 0;
  for (; i < n; ++i) rest += (static_cast<double>(x[i]) - *mean) * (static_cast<double>(x[i]) - *mean);
  return sum.total() + rest;
}

// total[o, c] = sum over n of x, or of (x - mean[o, c])^2.
void sums(const Extent& e, const float* x, const double* mean, double* total) {
  const Cut cut(e);
  std::vector<double> partial;  // (outer, chunk, inner) where a sum is made of several chunks
  if (cut.row_chunks > 1) partial.resize(static_cast<size_t>(e.outer * cut.row_chunks * e.inner));
  double* to = cut.row_chunks > 1 ? partial.data() : total;
  if (cut.row_chunks == 0) std::fill_n(total, e.outer * e.inner, 0.0);
  parallel_for(cut.tasks, cut.grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t column = task % cut.column_blocks * block, part = task / cut.column_blocks, o = part / cut.row_chunks;
      const int64_t first = part % cut.row_chunks * cut.rows, rows = std::min(cut.rows, e.n - first);
      const float* from = x + (o * e.n + first) * e.inner + column;
      const double* m = mean ? mean + o * e.inner + column : nullptr;
      double* at = to + part * e.inner + column;
      if (e.inner == 1) {
        *at = row_sum(from, rows, m);
      } else {
        column_sums(from, rows, e.inner, std::min(block, e.inner - column), m, at);
      }
    }
  });
  if (cut.row_chunks <= 1) return;
  for (int64_t o = 0; o < e.outer; ++o) {
    for (int64_t c = 0; c < e.inner; ++c) {
      double s = 0;
      for (int64_t k = 0; k < cut.row_chunks; ++k) s += partial[static_cast<size_t>((o * cut.row_chunks + k) * e.inner + c)];
      total[o * e.inner + c] = s;
    }
  }
}

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
void extremes_of(const Extent& e, const float* x, float* y) {
  const Cut cut(e);
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

void extremes(const Extent& e, bool largest, const float* x, float* y) {
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
void extremes_backward(const Extent& e, const float* x, const float* y, const float* dy, float* dx) {
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

// dx[o, i, c] = factor dy[o, c]
void spread(const Extent& e, double factor, const float* dy, float* dx) {
  const float k = static_cast<float>(factor);
  const auto grain = std::max<int64_t>(1, elements_per_chunk / std::max<int64_t>(1, e.inner));
  parallel_for(e.outer * e.n, grain, [&](int64_t begin, int64_t end) {
    if (e.inner == 1) {
      for (int64_t r = begin; r < end;) {
        const int64_t stop = std::min(end, (r / e.n + 1) * e.n);
        std::fill(dx + r, dx + stop, k * dy[r / e.n]);
        r = stop;
      }
    } else {
      for (int64_t r = begin; r < end; ++r)
        map_span<false>(
            e.inner, dx + r * e.inner, [k](Vector v) { return hn::Mul(hn::Set(VectorTag(), k), v); }, dy + r / e.n * e.inner);
    }
  });
}

// dx = factor dy (x - mean)
void spread_distance(const Extent& e, double factor, const float* x, const double* mean, const float* dy, float* dx) {
  const auto grain = std::max<int64_t>(1, elements_per_chunk / std::max<int64_t>(1, e.inner));
  parallel_for(e.outer * e.n, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t o = r / e.n;
      const float *g = dy + o * e.inner, *from = x + r * e.inner;
      const double* m = mean + o * e.inner;
      float* to = dx + r * e.inner;
      for (int64_t c = 0; c < e.inner; ++c)
        to[c] = static_cast<float>(factor * static_cast<double>(g[c]) * (static_cast<double>(from[c]) - m[c]));
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
void places_of(const Extent& e, const float* x, int64_t* y) {
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

void places(const Extent& e, bool largest, const float* x, int64_t* y) {
  largest ? places_of<true>(e, x, y) : places_of<false>(e, x, y);
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(sums);
HWY_EXPORT(extremes);
HWY_EXPORT(extremes_backward);
HWY_EXPORT(spread);
HWY_EXPORT(spread_distance);
HWY_EXPORT(places);

namespace {

// How a set of axes is reduced: as (outer, n, inner) of x as it is, or of x permuted by `order`, the reduced axes last.
struct Plan {
  Extent extent;
  std::vector<int> order;  // empty: x as it is

  Plan(const Shape& x, unsigned axes) {
    int runs = 0;
    bool inside = false;
    for (int d = 0; d < x.rank(); ++d) {
      if (x[d] == 1) continue;  // belongs to either side
      const bool reduced = axes >> d & 1u;
      runs += reduced && !inside;
      inside = reduced;
    }
    int64_t kept = 1;
    for (int d = 0; d < x.rank(); ++d) {
      if (axes >> d & 1u) {
        extent.n *= x[d];
      } else {
        kept *= x[d];
        (extent.n == 1 && !seen_reduced(x, axes, d) ? extent.outer : extent.inner) *= x[d];
      }
    }
    if (runs <= 1) return;
    extent.outer = kept;
    extent.inner = 1;
    for (int pass = 0; pass < 2; ++pass)
      for (int d = 0; d < x.rank(); ++d)
        if ((axes >> d & 1u) == static_cast<unsigned>(pass)) order.push_back(d);
  }
  // x in the order that the extent is of.
  Tensor arrange(const Tensor& x) const {
    if (order.empty()) return x;
    const Permute op{order};
    Tensor y(op.infer(x).shape, x.dtype());
    cpu::permute(op, x, y);
    return y;
  }
  // Calls f with a tensor to write in that order, and puts it into dx.
  template <class F>
  void scatter(Tensor& dx, F f) const {
    if (order.empty()) return f(dx);
    const Permute op{order};
    Tensor arranged(op.infer(dx).shape, dx.dtype());
    f(arranged);
    cpu::permute(op.inverse(), arranged, dx);
  }

 private:
  // Whether an axis of more than one element before d is reduced (an empty one makes n 0, not 1).
  static bool seen_reduced(const Shape& x, unsigned axes, int d) {
    for (int i = 0; i < d; ++i)
      if ((axes >> i & 1u) && x[i] != 1) return true;
    return false;
  }
};

std::vector<double> sums_of(const Extent& e, const Tensor& x, const double* mean) {
  std::vector<double> total(static_cast<size_t>(e.outer * e.inner));
  HWY_DYNAMIC_DISPATCH(sums)(e, x.data<float>(), mean, total.data());
  return total;
}

void write(const std::vector<double>& values, double factor, Tensor& y) {
  std::transform(values.begin(), values.end(), y.data<float>(), [factor](double v) { return static_cast<float>(factor * v); });
}

double divisor_of(const Var& op, const Extent& e) { return std::max(0.0, static_cast<double>(e.n) - (op.unbiased ? 1 : 0)); }

std::vector<double> means_of(const Extent& e, const Tensor& x) {
  std::vector<double> mean = sums_of(e, x, nullptr);
  for (double& m : mean) m /= static_cast<double>(e.n);
  return mean;
}

void spread_to(const std::vector<int>& axes, const Tensor& dy, bool mean, Tensor* dx) {
  if (!dx || dx->size() == 0) return;
  const Plan plan(dx->shape(), axis_set(axes, dx->rank(), "sum"));
  const double factor = mean ? 1 / static_cast<double>(plan.extent.n) : 1.0;
  plan.scatter(*dx, [&](Tensor& to) { HWY_DYNAMIC_DISPATCH(spread)(plan.extent, factor, dy.data<float>(), to.data<float>()); });
}

// Element types other than float32 go to the reference.
template <class Op, class Body>
void extreme(const Op& op, bool largest, const Tensor& x, Tensor& y, Body reference_body) {
  if (x.dtype() != DType::float32) return reference_body(op, x, y);
  if (y.size() == 0) return;
  const Plan plan(x.shape(), axis_set(op.axes, x.rank(), "max"));
  HWY_DYNAMIC_DISPATCH(extremes)(plan.extent, largest, plan.arrange(x).data<float>(), y.data<float>());
}

void extreme_backward(const std::vector<int>& axes, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {
  if (!dx || dx->size() == 0) return;
  const Plan plan(x.shape(), axis_set(axes, x.rank(), "max"));
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
  const Extent e{x.shape().product(0, axis), x.dim(axis), x.shape().product(axis + 1, x.rank())};
  HWY_DYNAMIC_DISPATCH(places)(e, largest, x.data<float>(), y.data<int64_t>());
}

}  // namespace

void sum(const Sum& op, const Tensor& x, Tensor& y) {
  const Plan plan(x.shape(), axis_set(op.axes, x.rank(), "sum"));
  write(sums_of(plan.extent, plan.arrange(x), nullptr), 1, y);
}
void sum_backward(const Sum& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  spread_to(op.axes, dy, false, dx);
}

void mean(const Mean& op, const Tensor& x, Tensor& y) {
  const Plan plan(x.shape(), axis_set(op.axes, x.rank(), "mean"));
  const double n = static_cast<double>(plan.extent.n);
  write(sums_of(plan.extent, plan.arrange(x), nullptr), n > 0 ? 1 / n : std::numeric_limits<double>::quiet_NaN(), y);
}
void mean_backward(const Mean& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  spread_to(op.axes, dy, true, dx);
}

void var(const Var& op, const Tensor& x, Tensor& y) {
  const Plan plan(x.shape(), axis_set(op.axes, x.rank(), "var"));
  const Tensor from = plan.arrange(x);
  const std::vector<double> mean = means_of(plan.extent, from);
  write(sums_of(plan.extent, from, mean.data()), 1 / divisor_of(op, plan.extent), y);
}
void var_backward(const Var& op, const Tensor& x, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (!dx || dx->size() == 0) return;
  const Plan plan(x.shape(), axis_set(op.axes, x.rank(), "var"));
  const Tensor from = plan.arrange(x);
  const std::vector<double> mean = means_of(plan.extent, from);
  plan.scatter(*dx, [&](Tensor& to) {
    HWY_DYNAMIC_DISPATCH(spread_distance)
    (plan.extent, 2 / divisor_of(op, plan.extent), from.data<float>(), mean.data(), dy.data<float>(), to.data<float>());
  });
}

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
