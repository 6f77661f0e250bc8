// Losses that are a sum over elements, value and slope as functions of an element (kernels/loss.h has the formulas). A value is
// one pass over the inputs (kernels/cuda/elementwise.cuh): sums in double by thread, then by block, then one block over the
// blocks' sums (kernels/cuda/reduce.cuh). A gradient is one pass as well. Bound by memory.
#include <tuple>

#include "kernels/cuda/divide.cuh"
#include "kernels/cuda/loss.cuh"
#include "kernels/loss.h"

namespace glia::GPU_NS {
namespace {

// A loss of an element: `i` is its place, e[0] the prediction, e[1] the target, e[2] a weight where the loss has one like x.
struct BceOf {
  float low, high;
  explicit BceOf(const Bce& op) : low(float(op.clip)), high(float(1 - op.clip)) {}
  __device__ float value(int64_t, const float* e) const {
    const float p = e[0] < low ? low : e[0] > high ? high : e[0];
    return -(e[1] * logf(p) + (1 - e[1]) * logf(1 - p));
  }
  __device__ float slope(int64_t, const float* e) const {
    return e[0] < low || e[0] > high ? 0.0f : (e[0] - e[1]) / (e[0] * (1 - e[0]));
  }
};

// A weight like x is the third array. Weights per pixel and per channel are looked up by the element's place.
enum class Weights { none, like_x, by_place };

template <Weights kind>
struct BceWithLogitsOf {
  const float* positive = nullptr;  // w+: one, or by place one per channel; null: 1
  const float* weight = nullptr;    // w by place; null: 1
  Divider per_weight, positives;    // elements that share a weight; number of w+

  __device__ float weight_of(int64_t i, const float* e) const {
    if constexpr (kind == Weights::like_x) return e[2];
    if constexpr (kind == Weights::none) return 1.0f;
    return weight ? weight[per_weight.divide(uint32_t(i))] : 1.0f;
  }
  __device__ float positive_of(int64_t i) const {
    uint32_t place = uint32_t(i);
    return !positive ? 1.0f : kind == Weights::by_place ? positive[positives.split(place)] : *positive;
  }
  __device__ float value(int64_t i, const float* e) const {
    const float x = e[0], t = e[1], of_target = 1 + (positive_of(i) - 1) * t;
    return weight_of(i, e) * ((1 - t) * x + of_target * (Logistic(x).softplus + (x < 0 ? -x : 0.0f)));
  }
  __device__ float slope(int64_t i, const float* e) const {
    const Logistic l(e[0]);
    return weight_of(i, e) * ((1 - e[1]) * l.p - positive_of(i) * e[1] * l.q);
  }
};

struct FocalLossOf {
  float alpha, gamma;
  explicit FocalLossOf(const FocalLoss& op) : alpha(float(op.alpha)), gamma(float(op.gamma)) {}
  __device__ float balance(float t) const { return alpha < 0 ? 1.0f : alpha * t + (1 - alpha) * (1 - t); }
  __device__ float power(float miss) const { return gamma == 2 ? miss * miss : powf(miss, gamma); }
  __device__ float value(int64_t, const float* e) const {
    const float x = e[0], t = e[1];
    const Logistic l(x);
    return balance(t) * power(t * l.q + (1 - t) * l.p) * cross_entropy_of(x, t, l);
  }
  __device__ float slope(int64_t, const float* e) const {
    const float x = e[0], t = e[1];
    const Logistic l(x);
    const float miss = t * l.q + (1 - t) * l.p, direct = (1 - t) * l.p - t * l.q;
    if (miss == 0) return gamma == 0 ? balance(t) * direct : 0.0f;
    return balance(t) * power(miss) * (direct + gamma / miss * (1 - 2 * t) * l.p * l.q * cross_entropy_of(x, t, l));
  }
};

struct MseLossOf {
  explicit MseLossOf(const MseLoss&) {}
  __device__ float value(int64_t, const float* e) const { return (e[0] - e[1]) * (e[0] - e[1]); }
  __device__ float slope(int64_t, const float* e) const { return 2 * (e[0] - e[1]); }
};

// curve d^2 / 2 for |d| < corner, else steep (|d| - corner / 2), where steep = curve corner: L1, smooth L1 and Huber.
struct RoundedL1Of {
  float corner = 0, curve = 0, steep = 1;
  explicit RoundedL1Of(const L1Loss&) {}
  explicit RoundedL1Of(const SmoothL1Loss& op) : corner(float(op.beta)), curve(op.beta > 0 ? float(1 / op.beta) : 0.0f) {}
  explicit RoundedL1Of(const HuberLoss& op) : corner(float(op.delta)), curve(1), steep(float(op.delta)) {}
  __device__ float value(int64_t, const float* e) const {
    const float d = e[0] - e[1], a = fabsf(d);
    return a < corner ? 0.5f * curve * d * d : steep * (a - 0.5f * corner);
  }
  __device__ float slope(int64_t, const float* e) const {
    const float d = e[0] - e[1];
    return fabsf(d) < corner ? curve * d : d > 0 ? steep : d < 0 ? -steep : d;
  }
};

// What is written per element: the value, the slope, or the slope times dy, which is the last array.
template <class Loss>
struct ValueOf {
  Loss loss;
  template <int N>
  __device__ float operator()(int64_t i, const float (&e)[N]) const {
    return loss.value(i, e);
  }
};
template <class Loss>
struct SlopeOf {
  Loss loss;
  template <int N>
  __device__ float operator()(int64_t i, const float (&e)[N]) const {
    return loss.slope(i, e);
  }
};
template <class Loss>
struct PullOf {
  Loss loss;
  template <int N>
  __device__ float operator()(int64_t i, const float (&e)[N]) const {
    return e[N - 1] * loss.slope(i, e);
  }
};

// Array 0 = factor f(the other arrays), times the one value at `scale` where there is one.
template <class F, int inputs>
struct LossMap {
  static constexpr int arrays = inputs + 1;
  static constexpr unsigned reads = (1u << arrays) - 2, writes = 1;
  F f;
  float factor;
  const float* scale;
  template <int width>
  __device__ void operator()(Pack<width> (&v)[arrays], int64_t first) const {
    const float k = scale ? factor * *scale : factor;
    GPU_UNROLL
    for (int j = 0; j < width; ++j) {
      float e[inputs];
      GPU_UNROLL
      for (int n = 0; n < inputs; ++n) e[n] = v[n + 1].at[j];
      v[0].at[j] = k * f(first + j, e);
    }
  }
};

// Adds the values to a thread's sum.
template <class Loss, int inputs>
struct AddValues {
  static constexpr int arrays = inputs;
  static constexpr unsigned reads = (1u << arrays) - 1, writes = 0;
  Loss loss;
  DoubleSum* mine;
  template <int width>
  __device__ void operator()(Pack<width> (&v)[arrays], int64_t first) const {
    GPU_UNROLL
    for (int j = 0; j < width; ++j) {
      float e[inputs];
      GPU_UNROLL
      for (int n = 0; n < inputs; ++n) e[n] = v[n].at[j];
      mine->sum += double(loss.value(first + j, e));
    }
  }
};

template <int width, class Loss, int inputs>
__global__ void __launch_bounds__(elementwise_threads, 4)
    loss_sum_kernel(Loss loss, int64_t size, Arrays<inputs> in, WriteSum write, DoubleSum* partials) {
  GPU_SHARED(DoubleSum, parts, [32]);
  DoubleSum mine = DoubleSum::none();
  for_all_elements<width>(AddValues<Loss, inputs>{loss, &mine}, size, in);
  leave_partial(mine, parts, partials, write);
}

// `scale` may be absent.
template <class F, class... In>
void map_loss(const F& f, float factor, const Tensor& scale, const Tensor& out, const In&... in) {
  using Map = LossMap<F, int(sizeof...(In))>;
  const float* const by = scale ? scale.device_data<float>() : nullptr;
  run_elementwise(Map{f, factor, by}, out.size(), {{out.device_data<float>(), in.template device_data<float>()...}});
}

// in: x, t and perhaps a weight like x.
template <class Loss, class... In>
void loss_forward(const Loss& loss, Reduction reduction, const Tensor& y, const In&... in) {
  constexpr int inputs = sizeof...(In);
  const int64_t size = std::get<0>(std::tie(in...)).size();
  if (reduction == Reduction::none) return map_loss(ValueOf<Loss>{loss}, 1, {}, y, in...);
  if (size == 0) return y.fill(0);
  const WriteSum write{detail::reduction_factor(reduction, size), y.device_data<float>()};
  const Arrays<inputs> arrays{{in.template device_data<float>()...}};
  with_elementwise_shape<AddValues<Loss, inputs>>(
      size, arrays, [&]<int width>(std::integral_constant<int, width>, const gpu::LaunchShape& shape) {
        const LossPartials<DoubleSum> partials(int(shape.grid.x), y.device());
        launch(shape, loss_sum_kernel<width, Loss, inputs>, loss, size, arrays, write, partials.at());
        merge_partials(partials, write);
      });
}

// dx = sign dy slope / count
template <class Loss, class... In>
void loss_backward(const Loss& loss, Reduction reduction, const Tensor& dy, float sign, const Tensor& dx, const In&... in) {
  if (reduction == Reduction::none) return map_loss(PullOf<Loss>{loss}, sign, {}, dx, in..., dy);
  map_loss(SlopeOf<Loss>{loss}, sign * float(detail::reduction_factor(reduction, dx.size())), dy, dx, in...);
}

}  // namespace

// The losses of x and t alone; the regression ones, which are functions of x - t, have a gradient for t too.
#define GLIA_PLAIN_LOSSES(X)                         \
  X(bce, Bce, BceOf, false)                          \
  X(focal_loss, FocalLoss, FocalLossOf, false)       \
  X(mse_loss, MseLoss, MseLossOf, true)              \
  X(l1_loss, L1Loss, RoundedL1Of, true)              \
  X(smooth_l1_loss, SmoothL1Loss, RoundedL1Of, true) \
  X(huber_loss, HuberLoss, RoundedL1Of, true)

#define GLIA_DEFINE_LOSS(function, Op, Loss, for_target)                                                                      \
  void function(const Op& op, const Tensor& x, const Tensor& t, Tensor& y) { loss_forward(Loss(op), op.reduction, y, x, t); } \
  void function##_backward(const Op& op, const Tensor& x, const Tensor& t, const Tensor&, const Tensor& dy, Tensor* dx,       \
                           Tensor* dt) {                                                                                      \
    GLIA_CHECK(for_target || !dt, "{}: no gradient with respect to the target is defined", Op::forward.name);                 \
    if (dx) loss_backward(Loss(op), op.reduction, dy, 1, *dx, x, t);                                                          \
    if (for_target && dt) loss_backward(Loss(op), op.reduction, dy, -1, *dt, x, t);                                           \
  }
GLIA_PLAIN_LOSSES(GLIA_DEFINE_LOSS)
#undef GLIA_DEFINE_LOSS

namespace {

// Calls f(loss, inputs...).
template <class F>
void with_weights(const Tensor& x, const Tensor& t, const Tensor& weight, const Tensor& pos_weight, F f) {
  const float* const positive = pos_weight ? pos_weight.device_data<float>() : nullptr;
  const bool one_positive = !pos_weight || pos_weight.size() == 1, like_x = weight && weight.size() == x.size();
  if ((one_positive && !weight) || x.size() == 0) {
    f(BceWithLogitsOf<Weights::none>{positive, nullptr, {}, {}}, x, t);
  } else if (one_positive && like_x) {
    f(BceWithLogitsOf<Weights::like_x>{positive, nullptr, {}, {}}, x, t, weight);
  } else {
    count31(x.size());
    const float* const weights = weight ? weight.device_data<float>() : nullptr;
    const Divider per_weight(weight ? x.size() / weight.size() : 1), positives(pos_weight ? pos_weight.size() : 1);
    f(BceWithLogitsOf<Weights::by_place>{positive, weights, per_weight, positives}, x, t);
  }
}

}  // namespace

void bce_with_logits(const BceWithLogits& op, const Tensor& x, const Tensor& t, const Tensor& weight, const Tensor& pos_weight,
                     Tensor& y) {
  with_weights(x, t, weight, pos_weight,
               [&](const auto& loss, const auto&... in) { loss_forward(loss, op.reduction, y, in...); });
}

void bce_with_logits_backward(const BceWithLogits& op, const Tensor& x, const Tensor& t, const Tensor& weight,
                              const Tensor& pos_weight, const Tensor&, const Tensor& dy, Tensor* dx, Tensor* dt, Tensor* dweight,
                              Tensor* dpos_weight) {
  GLIA_CHECK(!dt && !dweight && !dpos_weight, "bce_with_logits: no gradient with respect to the target or a weight is defined");
  if (!dx) return;
  with_weights(x, t, weight, pos_weight,
               [&](const auto& loss, const auto&... in) { loss_backward(loss, op.reduction, dy, 1, *dx, in...); });
}

}  // namespace glia::GPU_NS
