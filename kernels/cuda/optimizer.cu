// Steps of optimizers over flat arrays: one pass, 16-byte accesses, bound by memory. Numbers that hold for all elements are
// narrowed to float once, on the host. The sum of squares is gathered in double, and clipping by it reads the sum on the device:
// a training step waits for nothing.
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/optimizer.h"

namespace glia::GPU_NS {

// Arrays: w, g, and with momentum the buffer.
template <bool with_buffer>
struct Sgd {
  static constexpr int arrays = with_buffer ? 3 : 2;
  static constexpr unsigned reads = with_buffer ? 7 : 3, writes = with_buffer ? 5 : 1;
  float lr, momentum, fresh, decay;
  bool nesterov, velocity, first;

  explicit Sgd(const SgdStep& op)
      : lr(float(op.lr)),
        momentum(float(op.momentum)),
        fresh(float(1 - op.dampening)),
        decay(float(op.weight_decay)),
        nesterov(op.nesterov),
        velocity(op.velocity),
        first(op.first) {}

  __device__ void update(float (&v)[arrays]) const {
    float& w = v[0];
    const float g = v[1] + decay * w;
    if constexpr (!with_buffer) {
      w -= lr * g;
    } else if (velocity) {
      float& b = v[2];
      b = momentum * b - lr * g;
      w += nesterov ? momentum * b - lr * g : b;
    } else {
      float& b = v[2];
      b = first ? g : momentum * b + fresh * g;
      w -= lr * (nesterov ? g + momentum * b : b);
    }
  }
};

// Arrays: w, g, m, v, and for AMSGrad the largest v.
template <bool with_largest>
struct Adam {
  static constexpr int arrays = with_largest ? 5 : 4;
  static constexpr unsigned reads = with_largest ? 31 : 15, writes = reads & ~2u;
  float step, beta1, fresh1, beta2, fresh2, eps, scale, decay, keep;
  bool adaptive;

  explicit Adam(const AdamStep& op)
      : step(float(op.step)),
        beta1(float(op.beta1)),
        fresh1(float(1 - op.beta1)),
        beta2(float(op.beta2)),
        fresh2(float(1 - op.beta2)),
        eps(float(op.eps)),
        scale(float(op.variance_scale)),
        decay(float(op.weight_decay)),
        keep(float(op.keep)),
        adaptive(op.adaptive) {}

  __device__ void update(float (&v)[arrays]) const {
    const float w = keep * v[0], g = v[1] + decay * w;
    const float m = v[2] = beta1 * v[2] + fresh1 * g;
    float variance = v[3] = beta2 * v[3] + fresh2 * g * g;
    if constexpr (with_largest) variance = v[4] = fmaxf(v[4], variance);
    v[0] = w - step * (adaptive ? m / (scale * sqrtf(variance) + eps) : m);
  }
};

// Arrays: w, g, v, then the buffer and the mean where they are used.
template <bool with_buffer, bool with_mean>
struct Rmsprop {
  static constexpr int arrays = 3 + with_buffer + with_mean;
  static constexpr unsigned reads = (1u << arrays) - 1, writes = reads & ~2u;
  float lr, alpha, fresh, eps, momentum, decay;

  explicit Rmsprop(const RmspropStep& op)
      : lr(float(op.lr)),
        alpha(float(op.alpha)),
        fresh(float(1 - op.alpha)),
        eps(float(op.eps)),
        momentum(float(op.momentum)),
        decay(float(op.weight_decay)) {}

  __device__ void update(float (&v)[arrays]) const {
    const float g = v[1] + decay * v[0];
    float variance = v[2] = alpha * v[2] + fresh * g * g;
    if constexpr (with_mean) {
      float& a = v[3 + with_buffer];
      a = alpha * a + fresh * g;
      variance = fmaxf(variance - a * a, 0.0f);
    }
    float u = g / (sqrtf(variance) + eps);
    if constexpr (with_buffer) u = v[3] = momentum * v[3] + u;
    v[0] -= lr * u;
  }
};

struct Sum {
  __device__ float operator()(float x, float y) const { return x + y; }
};
struct Scale {
  float factor;
  __device__ float operator()(float x) const { return x * factor; }
};
struct Limit {
  float limit;
  __device__ float operator()(float x) const {  // comparisons that leave a NaN
    const float low = x < -limit ? -limit : x;
    return low > limit ? limit : low;
  }
};
struct Ema {
  float keep, fresh;
  __device__ float operator()(float average, float x) const { return keep * average + fresh * x; }
};

template <int width>
struct AddSquares {
  const float* x;
  __device__ void operator()(Total<double>& total, int64_t pack) const {
    const Pack<width> v = load_pack<width>(x + pack * width);
    GPU_UNROLL
    for (int j = 0; j < width; ++j) total.sum += double(v.at[j]) * double(v.at[j]);
  }
};
// Adds the elements behind the last pack.
struct StoreSquares {
  double* to;
  const float* rest;
  int count;
  __device__ void operator()(Total<double> total) const {
    for (int j = 0; j < count; ++j) AddSquares<1>{rest}(total, j);
    *to = total.sum;
  }
};

// A norm within the limit, and one that is NaN, leave x as it is: nothing is read.
template <int width>
__global__ void __launch_bounds__(elementwise_threads)
    clip_by_norm_kernel(double max_norm, const double* squared_norm, int64_t count, Arrays<2> x) {
  const double factor = max_norm / (sqrt(*squared_norm) + 1e-6);
  if (factor < 1) for_all_elements<width>(PerElement<Mapped<Scale, 1>>{{{float(factor)}}}, count, x);
}

// ---- launchers ---------------------------------------------------------------------------------------------------------------

template <class F, class... Tensors>
void update(const F& f, const Tensor& w, const Tensors&... others) {
  run_elementwise(PerElement<F>{f}, w.size(), {{w.device_data<float>(), others.template device_data<float>()...}});
}

void sgd_step(const SgdStep& op, const Tensor& g, Tensor& w, Tensor& buffer) {
  buffer ? update(Sgd<true>(op), w, g, buffer) : update(Sgd<false>(op), w, g);
}

void adam_step(const AdamStep& op, const Tensor& g, Tensor& w, Tensor& m, Tensor& v, Tensor& v_max) {
  v_max ? update(Adam<true>(op), w, g, m, v, v_max) : update(Adam<false>(op), w, g, m, v);
}

void rmsprop_step(const RmspropStep& op, const Tensor& g, Tensor& w, Tensor& v, Tensor& buffer, Tensor& mean) {
  if (buffer && mean) return update(Rmsprop<true, true>(op), w, g, v, buffer, mean);
  if (buffer) return update(Rmsprop<true, false>(op), w, g, v, buffer);
  if (mean) return update(Rmsprop<false, true>(op), w, g, v, mean);
  update(Rmsprop<false, false>(op), w, g, v);
}

template <int width>
void add_squares(const Tensor& x, const Tensor& sum) {
  const int64_t packs = x.size() / width;
  const float* from = x.device_data<float>();
  const StoreSquares store{sum.device_data<double>(), from + packs * width, int(x.size() - packs * width)};
  reduce_range<Total<double>>(packs, AddSquares<width>{from}, store, x.device());
}

void squared_norm(const SquaredNorm&, const Tensor& x, Tensor& sum) {
  aligned16(x.raw()) ? add_squares<4>(x, sum) : add_squares<1>(x, sum);
}

void add_in_place(const AddInPlace&, const Tensor& y, Tensor& x) { map_elements(Sum{}, x, x, y); }
void scale_in_place(const ScaleInPlace& op, Tensor& x) { map_elements(Scale{float(op.factor)}, x, x); }
void clamp_in_place(const ClampInPlace& op, Tensor& x) { map_elements(Limit{float(op.limit)}, x, x); }
void ema_step(const EmaStep& op, const Tensor& x, Tensor& average) {
  map_elements(Ema{float(op.decay), float(1 - op.decay)}, average, average, x);
}

void clip_by_norm(const ClipByNorm& op, const Tensor& squared_norm, Tensor& x) {
  const Arrays<2> both{{x.device_data<float>(), x.device_data<float>()}};
  using Work = PerElement<Mapped<Scale, 1>>;
  with_elementwise_shape<Work>(x.size(), both, [&]<int width>(std::integral_constant<int, width>, const gpu::LaunchShape& shape) {
    launch(shape, clip_by_norm_kernel<width>, op.max_norm, squared_norm.device_data<double>(), x.size(), both);
  });
}

}  // namespace glia::GPU_NS
