// Sums, means, variances, extremes and their positions over any axes, and their gradients: accumulators and maps for the kernels
// of reduce_axes.cuh, which read x once and are bound by memory.
//   sum, mean   in double
//   var         sums of d and d^2 in double, d = x - k with k the first element of the output's: (sum d^2 - (sum d)^2 / n) / divisor
//   max, argmax the position of the best key: a key orders like the value, with NaN above all (or below, for min); the lower of two
//               equal positions wins. The value is then read from its position.
#include "kernels/cuda/reduce_axes.cuh"
#include "kernels/reduce.h"

namespace glia::GPU_NS {
namespace {

// Neighbouring axes of one kind become one run; those of size 1 belong to any.
Extent extent_of(const Shape& x, unsigned axes) {
  Extent e;
  int64_t stride = x.size();
  bool last_reduced = false, first = true;
  for (int d = 0; d < x.rank(); ++d) {
    const int64_t size = x[d];
    stride = size ? stride / size : 0;
    if (size == 1) continue;
    const bool reduced = axes >> d & 1u;
    Runs& runs = reduced ? e.reduced : e.kept;
    if (!first && reduced == last_reduced) {
      runs.size[runs.count - 1] *= size;
      runs.stride[runs.count - 1] = stride;
    } else {
      runs.push_back(size, stride);
    }
    last_reduced = reduced, first = false;
  }
  return e;
}

struct MeanOf {
  double* mean;
  double n;
  __device__ void operator()(int64_t o, const Total<double>& a) const { mean[o] = a.sum / n; }
};

struct VarianceOf {
  float* y;
  double n, divisor;
  __device__ void operator()(int64_t o, const Deviations::Accumulator& a) const { y[o] = float(squares_of(a, n) / divisor); }
};

// ---- extremes ----------------------------------------------------------------------------------------------------------------

__device__ int32_t key_of(int32_t v) { return v; }
__device__ int32_t key_of(uint8_t v) { return v; }
__device__ int64_t key_of(int64_t v) { return v; }

template <class Key>
struct Best {
  Key key;
  int64_t at;  // -1: nothing yet
  __device__ static Best none() { return {Key(0), -1}; }
  __device__ void merge(const Best& o) {
    if (o.at >= 0 && (at < 0 || o.key > key || (o.key == key && o.at < at))) *this = o;
  }
};

template <class T>
struct Keys {
  using Key = decltype(key_of(T{}));
  using Accumulator = Best<Key>;
  const T* x;
  bool smallest;
  __device__ Keys line(int64_t, int64_t) const { return *this; }
  __device__ T load(int64_t at) const { return x[at]; }
  __device__ Key key(T v) const { return smallest ? Key(~key_of(v)) : key_of(v); }
  __device__ void add(Accumulator& a, T v, int64_t r) const {
    const Key k = key(v);
    if (a.at < 0 || k > a.key) a = {k, r};
  }
};

template <>
struct Keys<float> {  // the bits of a float order like an integer once negative ones are turned round; -0 equals 0
  using Accumulator = Best<int32_t>;
  const float* x;
  bool smallest;
  __device__ Keys line(int64_t, int64_t) const { return *this; }
  __device__ float load(int64_t at) const { return x[at]; }
  __device__ void add(Accumulator& a, float v, int64_t r) const {
    const int32_t bits = __float_as_int(v + 0.0f), ordered = bits < 0 ? bits ^ 0x7fffffff : bits;
    const int32_t k = v != v ? 0x7fffffff : smallest ? ~ordered : ordered;
    if (a.at < 0 || k > a.key) a = {k, r};
  }
};

// The value, the position along the reduced axes, or both.
template <class T, class Key>
struct StoreBest {
  Extent extent;
  const T* x;
  T* value;
  int64_t* position;
  __device__ void operator()(int64_t o, const Best<Key>& a) const {
    if (value) value[o] = x[extent.kept.offset(o) + extent.reduced.offset(a.at)];
    if (position) position[o] = a.at;
  }
};

template <class T>
void find_best(const Tensor& x, const Extent& e, bool smallest, Tensor* value, Tensor* position) {
  using Key = decltype(Keys<T>::Accumulator::key);
  const T* from = reinterpret_cast<const T*>(x.raw());
  const StoreBest<T, Key> store{e, from, value ? reinterpret_cast<T*>(value->raw()) : nullptr,
                                position ? position->device_data<int64_t>() : nullptr};
  if (e.outputs() > 0) reduce_axes(Keys<T>{from, smallest}, e, store, x.device());
}

void extreme(const Tensor& x, unsigned axes, bool smallest, Tensor* value, Tensor* position) {
  const Extent e = extent_of(x.shape(), axes);
  switch (x.dtype()) {
    case DType::float32: return find_best<float>(x, e, smallest, value, position);
    case DType::int32: return find_best<int32_t>(x, e, smallest, value, position);
    case DType::int64: return find_best<int64_t>(x, e, smallest, value, position);
    case DType::uint8:
    case DType::boolean: return find_best<uint8_t>(x, e, smallest, value, position);
    default: throw InternalError("max: element type {} on a device", name_of(x.dtype()));
  }
}

// ---- gradients ---------------------------------------------------------------------------------------------------------------

struct Nothing {};

struct Spread {  // dx = factor dy
  const float* dy;
  float* dx;
  double factor;
  float g;
  __device__ Spread line(int64_t, int64_t o) const { return {dy, dx, factor, float(factor * double(dy[o]))}; }
  __device__ Nothing load(int64_t) const { return {}; }
  __device__ void store(int64_t at, Nothing, int64_t) const { dx[at] = g; }
};

struct PullVariance {  // dx = 2 dy (x - mean) / divisor
  const float *dy, *x;
  const double* mean;
  float* dx;
  double divisor, m, g;
  __device__ PullVariance line(int64_t, int64_t o) const {
    return {dy, x, mean, dx, divisor, mean[o], 2 * double(dy[o]) / divisor};
  }
  __device__ float load(int64_t at) const { return x[at]; }
  __device__ void store(int64_t at, float v, int64_t) const { dx[at] = float(g * (double(v) - m)); }
};

struct PullBest {  // dx = dy at the best position, 0 elsewhere
  const float* dy;
  const int64_t* position;
  float* dx;
  float g;
  int64_t best;
  __device__ PullBest line(int64_t, int64_t o) const { return {dy, position, dx, dy[o], position[o]}; }
  __device__ Nothing load(int64_t) const { return {}; }
  __device__ void store(int64_t at, Nothing, int64_t r) const { dx[at] = r == best ? g : 0.0f; }
};

void scaled_sum(const Tensor& x, unsigned axes, bool mean, Tensor& y) {
  const Extent e = extent_of(x.shape(), axes);
  const double n = double(e.n()), factor = !mean ? 1.0 : n > 0 ? 1 / n : double(NAN);
  reduce_axes(Values{x.device_data<float>()}, e, StoreScaled{y.device_data<float>(), factor}, x.device());
}

void spread(const Tensor& dy, unsigned axes, bool mean, Tensor& dx) {
  const Extent e = extent_of(dx.shape(), axes);
  map_axes(Spread{dy.device_data<float>(), dx.device_data<float>(), mean ? 1 / double(e.n()) : 1.0, 0}, e);
}

void extreme_backward(const Tensor& x, unsigned axes, bool smallest, const Tensor& y, const Tensor& dy, Tensor& dx) {
  Tensor position(y.shape(), DType::int64, x.device());
  extreme(x, axes, smallest, nullptr, &position);
  map_axes(PullBest{dy.device_data<float>(), position.device_data<int64_t>(), dx.device_data<float>(), 0, 0},
           extent_of(x.shape(), axes));
}

unsigned one_axis(int axis, int rank) { return 1u << normalize_axis(axis, rank, "argmax"); }

}  // namespace

void column_sums(const float* x, int64_t rows, int64_t columns, float* y, Device device) {
  reduce_axes(Values{x}, over_rows(rows, columns), StoreScaled{y, 1.0}, device);
}

void sum(const Sum& op, const Tensor& x, Tensor& y) { scaled_sum(x, axis_set(op.axes, x.rank(), "sum"), false, y); }
void sum_backward(const Sum& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (dx) spread(dy, axis_set(op.axes, dx->rank(), "sum"), false, *dx);
}
void mean(const Mean& op, const Tensor& x, Tensor& y) { scaled_sum(x, axis_set(op.axes, x.rank(), "mean"), true, y); }
void mean_backward(const Mean& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (dx) spread(dy, axis_set(op.axes, dx->rank(), "mean"), true, *dx);
}

void var(const Var& op, const Tensor& x, Tensor& y) {
  const Extent e = extent_of(x.shape(), axis_set(op.axes, x.rank(), "var"));
  const double n = double(e.n()), divisor = std::max(0.0, n - (op.unbiased ? 1 : 0));
  reduce_axes(Deviations{x.device_data<float>(), e.n() == 0, 0}, e, VarianceOf{y.device_data<float>(), n, divisor}, x.device());
}
void var_backward(const Var& op, const Tensor& x, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (!dx) return;
  const Extent e = extent_of(x.shape(), axis_set(op.axes, x.rank(), "var"));
  const double n = double(e.n()), divisor = std::max(0.0, n - (op.unbiased ? 1 : 0));
  const Tensor mean(dy.shape(), DType::float64, x.device());
  reduce_axes(Values{x.device_data<float>()}, e, MeanOf{mean.device_data<double>(), n}, x.device());
  map_axes(PullVariance{dy.device_data<float>(), x.device_data<float>(), mean.device_data<double>(), dx->device_data<float>(),
                        divisor, 0, 0},
           e);
}

void max(const Max& op, const Tensor& x, Tensor& y) { extreme(x, axis_set(op.axes, x.rank(), "max"), false, &y, nullptr); }
void min(const Min& op, const Tensor& x, Tensor& y) { extreme(x, axis_set(op.axes, x.rank(), "min"), true, &y, nullptr); }
void max_backward(const Max& op, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {
  if (dx) extreme_backward(x, axis_set(op.axes, x.rank(), "max"), false, y, dy, *dx);
}
void min_backward(const Min& op, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {
  if (dx) extreme_backward(x, axis_set(op.axes, x.rank(), "min"), true, y, dy, *dx);
}
void argmax(const ArgMax& op, const Tensor& x, Tensor& y) { extreme(x, one_axis(op.axis, x.rank()), false, nullptr, &y); }
void argmin(const ArgMin& op, const Tensor& x, Tensor& y) { extreme(x, one_axis(op.axis, x.rank()), true, nullptr, &y); }

}  // namespace glia::GPU_NS
