// Batch and group normalisation of channels-last tensors, x seen as (samples, pixels, channels): batch norm is the case of one
// sample and a group for each channel. Statistics are sums of d and d^2 in double, d = x - k with k the group's first value, in
// two stages: over pixels for each channel and chunk, in four channels a thread where addresses allow; then over the chunks and
// channels of a group. The map that follows keeps a channel's constants in registers. In training x is read twice and y written
// once, which is what bounds it.
//   dx = (gamma g - mean(gamma g) - xhat mean(gamma g xhat)) / s; with relu, g is dy where y, computed again from x, is above 0.
#include "kernels/norm.h"

#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/reduce_axes.cuh"

namespace glia::GPU_NS {
namespace {

template <int W>
struct alignas(4 * W) Pack {  // W neighbouring channels
  float v[W];
};
template <int W>
__device__ Pack<W> load_pack(const float* p) {
  return *reinterpret_cast<const Pack<W>*>(p);
}

// Two sums for each of W channels.
template <int W>
struct Sums {
  double first[W], second[W];
  __device__ static Sums none() {
    Sums s;
    GPU_UNROLL
    for (int i = 0; i < W; ++i) s.first[i] = s.second[i] = 0;
    return s;
  }
  __device__ void merge(const Sums& later) {
    GPU_UNROLL
    for (int i = 0; i < W; ++i) s_add(i, later.first[i], later.second[i]);
  }
  __device__ void s_add(int i, double a, double b) { first[i] += a, second[i] += b; }
};

struct ChannelShape {
  int64_t samples, pixels, channels, groups, width;  // width: channels of a group
  double count() const { return double(pixels * width); }
  __device__ int64_t statistic(int64_t sample, int64_t channel) const { return sample * groups + channel / width; }
};

// For each sample and pack of W channels, over the pixels; addresses count packs.
Extent over_pixels(const ChannelShape& s, int w) {
  Extent e;
  const int64_t packs = s.channels / w;
  if (s.samples != 1) e.kept.push_back(s.samples, s.pixels * packs);
  e.kept.push_back(packs, 1);
  e.reduced.push_back(s.pixels, packs);
  return e;
}

// ---- statistics --------------------------------------------------------------------------------------------------------------

template <int W>
struct Deviations {
  using Accumulator = Sums<W>;
  const float* x;
  ChannelShape s;

  struct Line {
    const float* x;
    float shift[W];
    __device__ Pack<W> load(int64_t at) const { return load_pack<W>(x + at * W); }
    __device__ void add(Sums<W>& sums, const Pack<W>& p, int64_t) const {
      GPU_UNROLL
      for (int i = 0; i < W; ++i) {
        const double d = double(p.v[i]) - double(shift[i]);
        sums.s_add(i, d, d * d);
      }
    }
  };
  __device__ Line line(int64_t base, int64_t o) const {
    Line l{x, {}};
    const int64_t first = o * W % s.channels;
    GPU_UNROLL
    for (int i = 0; i < W; ++i) l.shift[i] = s.pixels ? x[base * W - first + (first + i) / s.width * s.width] : 0.0f;
    return l;
  }
};

// Sums of a group from partial sums [chunk][sample][channel], by the second stage's index r = chunk * width + channel of the
// group.
struct GroupSums {
  using Accumulator = Sums<1>;
  const double* partial;  // of W packed channels: W first sums, then W second ones
  const float* gamma;     // weights of the channels, or null
  ChannelShape s;
  int w;
  int64_t first_channel;

  __device__ GroupSums line(int64_t, int64_t o) const { return {partial, gamma, s, w, o % s.groups * s.width}; }
  __device__ Sums<1> load(int64_t at) const {
    const double* pack = partial + at / w * 2 * w + at % w;
    return {{pack[0]}, {pack[w]}};
  }
  __device__ void add(Sums<1>& to, const Sums<1>& v, int64_t r) const {
    const double weight = gamma ? double(gamma[first_channel + r % s.width]) : 1.0;
    to.s_add(0, weight * v.first[0], weight * v.second[0]);
  }
};

struct StoreStatistics {
  const float* x;
  ChannelShape s;
  double count;
  float *mean, *variance;
  __device__ void operator()(int64_t o, const Sums<1>& sums) const {
    const double n = count > 0 ? count : 1, d = sums.first[0] / n, v = sums.second[0] / n - d * d;
    const double shift = count > 0 ? double(x[o / s.groups * s.pixels * s.channels + o % s.groups * s.width]) : 0.0;
    mean[o] = float(shift + d);
    variance[o] = float(v > 0 || v != v ? v : 0);
  }
};

struct StoreMeans {  // of gamma g and gamma g xhat
  double count;
  float2* means;
  __device__ void operator()(int64_t o, const Sums<1>& sums) const {
    means[o] = make_float2(float(sums.first[0] / count), float(sums.second[0] / count));
  }
};

struct StoreAffine {  // of a channel: sum of g xhat and of g
  float *dgamma, *dbeta;
  __device__ void operator()(int64_t channel, const Sums<1>& sums) const {
    if (dbeta) dbeta[channel] = float(sums.first[0]);
    if (dgamma) dgamma[channel] = float(sums.second[0]);
  }
};

// The second stage: groups of each sample, their channels weighted by gamma, if given.
template <int W, class Finish>
void reduce_groups(const Partials<Sums<W>>& p, const ChannelShape& s, const float* gamma, const Finish& finish) {
  Extent e = over_rows(p.chunks, s.samples * s.channels);
  if (s.width != 1) {
    e.kept = e.reduced = {};
    e.kept.push_back(s.samples, s.channels), e.kept.push_back(s.groups, s.width);
    e.reduced.push_back(p.chunks, s.samples * s.channels), e.reduced.push_back(s.width, 1);
  }
  reduce_lines(GroupSums{reinterpret_cast<const double*>(p.data()), gamma, s, W, 0}, e, finish);
}

// And channels, over samples and chunks.
template <int W, class Finish>
void reduce_channels(const Partials<Sums<W>>& p, const ChannelShape& s, const Finish& finish) {
  const ChannelShape each{1, 0, s.channels, s.channels, 1};
  reduce_lines(GroupSums{reinterpret_cast<const double*>(p.data()), nullptr, each, W, 0},
               over_rows(p.chunks * s.samples, s.channels), finish);
}

// ---- maps --------------------------------------------------------------------------------------------------------------------

struct Affine {
  const float *gamma, *beta, *mean, *variance;
  float eps;
  bool relu;
};

// A channel's constants. Forward and backward compute y by the same operations, so that they agree on its sign.
struct Channel {
  float mean, rstd, gamma, beta;
  Channel() = default;
  __device__ Channel(const Affine& a, int64_t statistic, int64_t channel)
      : mean(a.mean[statistic]),
        rstd(1 / sqrtf(a.variance[statistic] + a.eps)),
        gamma(a.gamma ? a.gamma[channel] : 1.0f),
        beta(a.beta ? a.beta[channel] : 0.0f) {}
  __device__ float xhat(float x) const { return (x - mean) * rstd; }
  __device__ float value(float x) const { return fmaf(gamma, xhat(x), beta); }
};

template <int W>
struct Normalize {
  const float* x;
  float* y;
  Affine a;
  ChannelShape s;

  struct Line {
    const float* x;
    float* y;
    bool relu;
    Channel c[W];
    __device__ Pack<W> load(int64_t at) const { return load_pack<W>(x + at * W); }
    __device__ void store(int64_t at, Pack<W> p, int64_t) const {
      GPU_UNROLL
      for (int i = 0; i < W; ++i) {
        const float v = c[i].value(p.v[i]);
        p.v[i] = relu && v <= 0 ? 0.0f : v;  // NaN stays
      }
      *reinterpret_cast<Pack<W>*>(y + at * W) = p;
    }
  };
  __device__ Line line(int64_t, int64_t o) const {
    Line l{x, y, a.relu, {}};
    const int64_t sample = o * W / s.channels, first = o * W % s.channels;
    GPU_UNROLL
    for (int i = 0; i < W; ++i) l.c[i] = Channel(a, s.statistic(sample, first + i), first + i);
    return l;
  }
};

template <int W>
struct XAndGradient {
  Pack<W> x, g;
};

// Sums of g and g xhat, and dx given the means over a group.
template <int W>
struct PullNorm {
  using Accumulator = Sums<W>;
  const float *x, *dy;
  float* dx;
  const float2* means;  // null: the statistics are constants
  Affine a;
  ChannelShape s;

  struct Line {
    const float *x, *dy;
    float* dx;
    bool relu;
    Channel c[W];
    float2 mean[W];
    __device__ XAndGradient<W> load(int64_t at) const { return {load_pack<W>(x + at * W), load_pack<W>(dy + at * W)}; }
    __device__ float masked(int i, float x_i, float g) const { return relu && !(c[i].value(x_i) > 0) ? 0.0f : g; }
    __device__ void add(Sums<W>& sums, const XAndGradient<W>& v, int64_t) const {
      GPU_UNROLL
      for (int i = 0; i < W; ++i) {
        const float g = masked(i, v.x.v[i], v.g.v[i]);
        sums.s_add(i, double(g), double(g * c[i].xhat(v.x.v[i])));
      }
    }
    __device__ void store(int64_t at, XAndGradient<W> v, int64_t) const {
      GPU_UNROLL
      for (int i = 0; i < W; ++i) {
        const float g = masked(i, v.x.v[i], v.g.v[i]);
        v.g.v[i] = (c[i].gamma * g - mean[i].x - c[i].xhat(v.x.v[i]) * mean[i].y) * c[i].rstd;
      }
      *reinterpret_cast<Pack<W>*>(dx + at * W) = v.g;
    }
  };
  __device__ Line line(int64_t, int64_t o) const {
    Line l{x, dy, dx, a.relu, {}, {}};
    const int64_t sample = o * W / s.channels, first = o * W % s.channels;
    GPU_UNROLL
    for (int i = 0; i < W; ++i) {
      const int64_t statistic = s.statistic(sample, first + i);
      l.c[i] = Channel(a, statistic, first + i);
      l.mean[i] = means ? means[statistic] : make_float2(0, 0);
    }
    return l;
  }
};

// ---- launchers ---------------------------------------------------------------------------------------------------------------

template <int W>
void statistics(const Tensor& x, const ChannelShape& s, Tensor& mean, Tensor& variance) {
  const float* from = x.device_data<float>();
  const auto partial = partial_reductions(Deviations<W>{from, s}, over_pixels(s, W), x.device());
  reduce_groups<W>(partial, s, nullptr,
                   StoreStatistics{from, s, s.count(), mean.device_data<float>(), variance.device_data<float>()});
}

template <int W>
void pull(const Tensor& x, const Tensor& dy, const ChannelShape& s, const Affine& a, bool fixed, Tensor* dx, Tensor* dgamma,
          Tensor* dbeta) {
  PullNorm<W> source{x.device_data<float>(), dy.device_data<float>(), data_or_null(dx), nullptr, a, s};
  const Extent e = over_pixels(s, W);
  const Tensor means({s.samples * s.groups, 2}, DType::float32, x.device());
  if (dgamma || dbeta || !fixed) {
    const auto partial = partial_reductions(source, e, x.device());
    if (dgamma || dbeta) reduce_channels<W>(partial, s, StoreAffine{data_or_null(dgamma), data_or_null(dbeta)});
    if (dx && !fixed) {
      source.means = reinterpret_cast<const float2*>(means.raw());
      reduce_groups<W>(partial, s, a.gamma, StoreMeans{s.count(), reinterpret_cast<float2*>(means.raw())});
    }
  }
  if (dx) map_axes(source, e);
}

// Four channels at a time where that is possible.
template <class... Pointers>
bool in_fours(const ChannelShape& s, const Pointers*... p) {
  return s.channels % 4 == 0 && (aligned16(p) && ...);
}

void normalize(const Tensor& x, const ChannelShape& s, const Affine& a, Tensor& y) {
  const float* from = x.device_data<float>();
  float* to = y.device_data<float>();
  if (in_fours(s, from, to)) {
    map_axes(Normalize<4>{from, to, a, s}, over_pixels(s, 4));
  } else {
    map_axes(Normalize<1>{from, to, a, s}, over_pixels(s, 1));
  }
}

void find_statistics(const Tensor& x, const ChannelShape& s, Tensor& mean, Tensor& variance) {
  return in_fours(s, x.device_data<float>()) ? statistics<4>(x, s, mean, variance) : statistics<1>(x, s, mean, variance);
}

void normalize_backward(const Tensor& x, const Tensor& dy, const ChannelShape& s, const Affine& a, bool fixed, Tensor* dx,
                        Tensor* dgamma, Tensor* dbeta) {
  const bool fours = in_fours(s, x.device_data<float>(), dy.device_data<float>(), data_or_null(dx));
  return fours ? pull<4>(x, dy, s, a, fixed, dx, dgamma, dbeta) : pull<1>(x, dy, s, a, fixed, dx, dgamma, dbeta);
}

Affine affine(const Tensor& gamma, const Tensor& beta, const Tensor& mean, const Tensor& variance, double eps, bool relu) {
  return {data_or_null(gamma), data_or_null(beta), mean.device_data<float>(), variance.device_data<float>(), float(eps), relu};
}

ChannelShape batch_shape(const Tensor& x) {
  const int64_t channels = x.dim(-1);
  return {1, x.shape().product(0, x.rank() - 1), channels, channels, 1};
}
ChannelShape group_shape(const Tensor& x, int64_t groups) {
  const int64_t channels = x.dim(-1);
  return {x.dim(0), x.shape().product(1, x.rank() - 1), channels, groups, channels / groups};
}

__global__ void running_stats_kernel(int64_t channels, double keep, double take_mean, double take_variance, const float* mean,
                                     const float* variance, float* running_mean, float* running_variance) {
  const int64_t c = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c >= channels) return;
  running_mean[c] = float(keep * double(running_mean[c]) + take_mean * double(mean[c]));
  running_variance[c] = float(keep * double(running_variance[c]) + take_variance * double(variance[c]));
}

}  // namespace

void batch_norm(const BatchNorm& op, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                const Tensor& running_variance, Tensor& y, Tensor& mean, Tensor& variance) {
  const ChannelShape s = batch_shape(x);
  if (op.train) {
    find_statistics(x, s, mean, variance);
  } else {
    mean.copy_from(running_mean);
    variance.copy_from(running_variance);
  }
  normalize(x, s, affine(gamma, beta, mean, variance, op.eps, op.relu), y);
}

void batch_norm_backward(const BatchNorm& op, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor&,
                         const Tensor&, const Tensor&, const Tensor& mean, const Tensor& variance, const Tensor& dy, Tensor* dx,
                         Tensor* dgamma, Tensor* dbeta, Tensor* drunning_mean, Tensor* drunning_variance) {
  GLIA_CHECK(!drunning_mean && !drunning_variance, "batch_norm: running statistics have no gradient");
  normalize_backward(x, dy, batch_shape(x), affine(gamma, beta, mean, variance, op.eps, op.relu), !op.train, dx, dgamma, dbeta);
}

void running_stats(const RunningStats& op, const Tensor& mean, const Tensor& variance, const Tensor& running_mean,
                   const Tensor& running_variance) {
  const int64_t channels = mean.size();
  launch({unsigned(divide_up(channels, 256)), 256}, running_stats_kernel, channels, 1 - op.momentum, op.momentum,
         op.momentum * op.correction(), mean.device_data<float>(), variance.device_data<float>(),
         running_mean.device_data<float>(), running_variance.device_data<float>());
}

void group_norm(const GroupNorm& op, const Tensor& x, const Tensor& gamma, const Tensor& beta, Tensor& y, Tensor& mean,
                Tensor& variance) {
  const ChannelShape s = group_shape(x, op.groups);
  find_statistics(x, s, mean, variance);
  normalize(x, s, affine(gamma, beta, mean, variance, op.eps, false), y);
}

void group_norm_backward(const GroupNorm& op, const Tensor& x, const Tensor& gamma, const Tensor&, const Tensor&,
                         const Tensor& mean, const Tensor& variance, const Tensor& dy, Tensor* dx, Tensor* dgamma,
                         Tensor* dbeta) {
  const Affine a = affine(gamma, Tensor(), mean, variance, op.eps, false);
  normalize_backward(x, dy, group_shape(x, op.groups), a, false, dx, dgamma, dbeta);
}

}  // namespace glia::GPU_NS
