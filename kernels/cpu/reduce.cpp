// Sums, means and variances of x seen as (outer, n, inner): sums over n in chunks of fixed size that are combined in order.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/reduce.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <limits>

#include "kernels/cpu/reduce_plan.h"
#include "kernels/cpu/sum-inl.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/reduce.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

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
void sums(const ReductionExtent& e, const float* x, const double* mean, double* total) {
  const ReductionCut cut(e);
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

// dx[o, i, c] = factor dy[o, c]
void spread(const ReductionExtent& e, double factor, const float* dy, float* dx) {
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
void spread_distance(const ReductionExtent& e, double factor, const float* x, const double* mean, const float* dy, float* dx) {
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

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(sums);
HWY_EXPORT(spread);
HWY_EXPORT(spread_distance);

namespace {

std::vector<double> sums_of(const ReductionExtent& e, const Tensor& x, const double* mean) {
  std::vector<double> total(static_cast<size_t>(e.outer * e.inner));
  HWY_DYNAMIC_DISPATCH(sums)(e, x.data<float>(), mean, total.data());
  return total;
}

void write(const std::vector<double>& values, double factor, Tensor& y) {
  std::transform(values.begin(), values.end(), y.data<float>(), [factor](double v) { return static_cast<float>(factor * v); });
}

double divisor_of(const Var& op, const ReductionExtent& e) {
  return std::max(0.0, static_cast<double>(e.n) - (op.unbiased ? 1 : 0));
}

std::vector<double> means_of(const ReductionExtent& e, const Tensor& x) {
  std::vector<double> mean = sums_of(e, x, nullptr);
  for (double& m : mean) m /= static_cast<double>(e.n);
  return mean;
}

void spread_to(const std::vector<int>& axes, const Tensor& dy, bool mean, Tensor* dx) {
  if (!dx || dx->size() == 0) return;
  const ReductionPlan plan(dx->shape(), axis_set(axes, dx->rank(), "sum"));
  const double factor = mean ? 1 / static_cast<double>(plan.extent.n) : 1.0;
  plan.scatter(*dx, [&](Tensor& to) { HWY_DYNAMIC_DISPATCH(spread)(plan.extent, factor, dy.data<float>(), to.data<float>()); });
}

}  // namespace

void sum(const Sum& op, const Tensor& x, Tensor& y) {
  const ReductionPlan plan(x.shape(), axis_set(op.axes, x.rank(), "sum"));
  write(sums_of(plan.extent, plan.arrange(x), nullptr), 1, y);
}
void sum_backward(const Sum& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  spread_to(op.axes, dy, false, dx);
}

void mean(const Mean& op, const Tensor& x, Tensor& y) {
  const ReductionPlan plan(x.shape(), axis_set(op.axes, x.rank(), "mean"));
  const double n = static_cast<double>(plan.extent.n);
  write(sums_of(plan.extent, plan.arrange(x), nullptr), n > 0 ? 1 / n : std::numeric_limits<double>::quiet_NaN(), y);
}
void mean_backward(const Mean& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  spread_to(op.axes, dy, true, dx);
}

void var(const Var& op, const Tensor& x, Tensor& y) {
  const ReductionPlan plan(x.shape(), axis_set(op.axes, x.rank(), "var"));
  const Tensor from = plan.arrange(x);
  const std::vector<double> mean = means_of(plan.extent, from);
  write(sums_of(plan.extent, from, mean.data()), 1 / divisor_of(op, plan.extent), y);
}
void var_backward(const Var& op, const Tensor& x, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (!dx || dx->size() == 0) return;
  const ReductionPlan plan(x.shape(), axis_set(op.axes, x.rank(), "var"));
  const Tensor from = plan.arrange(x);
  const std::vector<double> mean = means_of(plan.extent, from);
  plan.scatter(*dx, [&](Tensor& to) {
    HWY_DYNAMIC_DISPATCH(spread_distance)
    (plan.extent, 2 / divisor_of(op, plan.extent), from.data<float>(), mean.data(), dy.data<float>(), to.data<float>());
  });
}

}  // namespace glia::cpu
#endif
