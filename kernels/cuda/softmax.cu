// Softmax and its logarithm along one axis. Along the last axis, rows of up to 8192 are held in registers: one read and one write
// of each element. Along another axis, and for longer rows, a reduction finds each line's maximum and sum in one pass (a sum is
// rescaled when the maximum grows: Milakov and Gimelshein 2018) and a map applies them: two reads. Bound by memory.
#include "kernels/softmax.h"

#include "kernels/cuda/reduce_axes.cuh"
#include "kernels/cuda/rows.cuh"

namespace glia::GPU_NS {
namespace {

// y of x, given its line's maximum and sum of exp(x - maximum); dx given the line's sum of y dy, or of dy for the logarithm.
template <bool Log>
struct Formula {
  static __device__ float value(float x, float largest, float sum) {
    return Log ? x - largest - logf(sum) : expf(x - largest) / sum;
  }
  static __device__ float term(float y, float dy) { return Log ? dy : y * dy; }
  static __device__ float pull(float y, float dy, float sum) { return Log ? dy - expf(y) * sum : y * (dy - sum); }
};

template <bool Log, bool Quads>
__global__ void __launch_bounds__(1024) softmax_rows_kernel(RowShape s, const float* x, float* y) {
  GPU_SHARED(Largest, largest_parts, [32]);
  GPU_SHARED(Total<float>, sum_parts, [32]);
  const int64_t row = row_of_thread(s);
  const bool active = row < s.rows;
  const RowPart<Quads> part(s);
  float v[row_values];
  part.load(x + row * s.width, active, -INFINITY, v);
  Largest largest = Largest::none();
  GPU_UNROLL
  for (const float each : v) largest.merge({each});
  largest = merge_team(largest, s.team, largest_parts);
  Total<float> sum = Total<float>::none();
  GPU_UNROLL
  for (float& each : v) {
    const float e = expf(each - largest.value);
    sum.merge({e});
    each = Log ? each - largest.value : e;
  }
  sum = merge_team(sum, s.team, sum_parts);
  const float last = Log ? logf(sum.sum) : 1 / sum.sum;
  GPU_UNROLL
  for (float& each : v) each = Log ? each - last : each * last;
  part.store(y + row * s.width, active, v);
}

template <bool Log, bool Quads>
__global__ void __launch_bounds__(1024) softmax_rows_backward_kernel(RowShape s, const float* y, const float* dy, float* dx) {
  GPU_SHARED(Total<float>, parts, [32]);
  const int64_t row = row_of_thread(s);
  const bool active = row < s.rows;
  const RowPart<Quads> part(s);
  float v[row_values], g[row_values];
  part.load(y + row * s.width, active, 0, v);
  part.load(dy + row * s.width, active, 0, g);
  Total<float> sum = Total<float>::none();
  GPU_UNROLL
  for (int j = 0; j < row_values; ++j) sum.merge({Formula<Log>::term(v[j], g[j])});
  sum = merge_team(sum, s.team, parts);
  GPU_UNROLL
  for (int j = 0; j < row_values; ++j) g[j] = Formula<Log>::pull(v[j], g[j], sum.sum);
  part.store(dx + row * s.width, active, g);
}

// ---- lines along any axis ------------------------------------------------------------------------------------------------

struct MaximumAndSum {
  float largest, sum;  // of exp(x - largest)
  __device__ static MaximumAndSum none() { return {-INFINITY, 0}; }
  __device__ void merge(const MaximumAndSum& later) {
    const float most = fmaxf(largest, later.largest);
    if (most == -INFINITY) {  // nothing yet, or a line of -inf, whose softmax is NaN
      sum += later.sum;
      return;
    }
    sum = sum * expf(largest - most) + later.sum * expf(later.largest - most);
    largest = most;
  }
};

template <bool Log>
struct Lines {
  using Accumulator = MaximumAndSum;
  const float* x;
  float* y;
  const float2* found;
  float2 mine;
  __device__ Lines line(int64_t, int64_t o) const { return {x, y, found, found ? found[o] : float2{}}; }
  __device__ float load(int64_t at) const { return x[at]; }
  __device__ void add(MaximumAndSum& a, float v, int64_t) const { a.merge({v, v != v ? v : 1.0f}); }
  __device__ void store(int64_t at, float v, int64_t) const { y[at] = Formula<Log>::value(v, mine.x, mine.y); }
};
struct StoreFound {
  float2* found;
  __device__ void operator()(int64_t o, const MaximumAndSum& a) const { found[o] = make_float2(a.largest, a.sum); }
};

template <bool Log>
struct GradientLines {
  using Accumulator = Total<float>;
  const float *y, *dy;
  float* dx;
  const float* sums;
  float mine;
  __device__ GradientLines line(int64_t, int64_t o) const { return {y, dy, dx, sums, sums ? sums[o] : 0.0f}; }
  __device__ float2 load(int64_t at) const { return make_float2(y[at], dy[at]); }
  __device__ void add(Accumulator& a, float2 v, int64_t) const { a.sum += Formula<Log>::term(v.x, v.y); }
  __device__ void store(int64_t at, float2 v, int64_t) const { dx[at] = Formula<Log>::pull(v.x, v.y, mine); }
};
struct StoreSum {
  float* sums;
  __device__ void operator()(int64_t o, const Total<float>& a) const { sums[o] = a.sum; }
};

Extent lines_of(const AxisView& v) {
  Extent e;
  if (v.outer > 1 || v.inner == 1) e.kept.push_back(v.outer, v.length * v.inner);
  if (v.inner > 1) e.kept.push_back(v.inner, 1);
  e.reduced.push_back(v.length, v.inner);
  return e;
}

// ---- launchers -----------------------------------------------------------------------------------------------------------

template <bool Log>
void forward(int axis, const Tensor& x, Tensor& y) {
  if (x.size() == 0) return;
  const AxisView v = axis_view(x.shape(), axis, "softmax");
  const float* from = x.device_data<float>();
  float* to = y.device_data<float>();
  if (v.inner == 1 && v.length <= max_row_width) {
    const RowShape s(v.outer, v.length);
    const bool quads = rows_in_quads(v.length, from, to);
    launch({s.blocks(), unsigned(s.threads())}, quads ? softmax_rows_kernel<Log, true> : softmax_rows_kernel<Log, false>, s, from,
           to);
    return;
  }
  const Tensor found({v.outer * v.inner, 2}, DType::float32, x.device());
  float2* const at = reinterpret_cast<float2*>(found.raw());
  reduce_axes(Lines<Log>{from, to, nullptr, {}}, lines_of(v), StoreFound{at}, x.device());
  map_axes(Lines<Log>{from, to, at, {}}, lines_of(v));
}

template <bool Log>
void backward(int axis, const Tensor& y, const Tensor& dy, Tensor* dx) {
  if (!dx || dx->size() == 0) return;
  const AxisView v = axis_view(dy.shape(), axis, "softmax");
  const float *from = y.device_data<float>(), *g = dy.device_data<float>();
  float* to = dx->device_data<float>();
  if (v.inner == 1 && v.length <= max_row_width) {
    const RowShape s(v.outer, v.length);
    const bool quads = rows_in_quads(v.length, from, g, to);
    launch({s.blocks(), unsigned(s.threads())},
           quads ? softmax_rows_backward_kernel<Log, true> : softmax_rows_backward_kernel<Log, false>, s, from, g, to);
    return;
  }
  const Tensor sums({v.outer * v.inner}, DType::float32, dy.device());
  float* const at = sums.device_data<float>();
  reduce_axes(GradientLines<Log>{from, g, to, nullptr, 0}, lines_of(v), StoreSum{at}, dy.device());
  map_axes(GradientLines<Log>{from, g, to, at, 0}, lines_of(v));
}

}  // namespace

void softmax(const Softmax& op, const Tensor& x, Tensor& y) { forward<false>(op.axis, x, y); }
void log_softmax(const LogSoftmax& op, const Tensor& x, Tensor& y) { forward<true>(op.axis, x, y); }
void softmax_backward(const Softmax& op, const Tensor&, const Tensor& y, const Tensor& dy, Tensor* dx) {
  backward<false>(op.axis, y, dy, dx);
}
void log_softmax_backward(const LogSoftmax& op, const Tensor&, const Tensor& y, const Tensor& dy, Tensor* dx) {
  backward<true>(op.axis, y, dy, dx);
}

}  // namespace glia::GPU_NS
