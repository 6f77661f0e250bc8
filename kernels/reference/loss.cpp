#include "kernels/loss.h"

#include <algorithm>
#include <cmath>

#include "kernels/unary.h"

namespace glia::reference {
namespace {

using unary::sigmoid;

template <class T>
T softplus_of_minus_abs(T x) {  // log(1 + e^-|x|)
  return std::log1p(std::exp(-std::abs(x)));
}

// y = value(i) for each element, or their sum times the reduction's factor.
template <class T, class Value>
void reduce_values(Reduction reduction, int64_t count, Tensor& y, Value value) {
  if (reduction == Reduction::none) {
    for (int64_t i = 0; i < count; ++i) y.data<T>()[i] = value(i);
    return;
  }
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += static_cast<double>(value(i));
  *y.data<T>() = static_cast<T>(total * detail::reduction_factor(reduction, count));
}

// dx_i = dy_i slope(i), with one dy for all elements unless the reduction is none.
template <class T, class Slope>
void spread_slopes(Reduction reduction, const Tensor& dy, Tensor& dx, Slope slope) {
  const T factor = static_cast<T>(detail::reduction_factor(reduction, dx.size()));
  const T* g = dy.data<T>();
  for (int64_t i = 0; i < dx.size(); ++i) dx.data<T>()[i] = g[reduction == Reduction::none ? i : 0] * factor * slope(i);
}

void refuse(const Tensor* gradient, const char* op, const char* input) {
  GLIA_CHECK(!gradient, "{}: no gradient with respect to {} is defined", op, input);
}

// The regression losses: value(d) and slope(d) of d = x - t.
template <class Op, class Value>
void regression(const Op& op, const Tensor& x, const Tensor& t, Tensor& y, Value value) {
  dispatch_floating(x.dtype(), "regression loss", [&]<class T>(T) {
    const T *a = x.data<T>(), *b = t.data<T>();
    reduce_values<T>(op.reduction, x.size(), y, [&](int64_t i) { return value(a[i] - b[i]); });
  });
}

template <class Op, class Slope>
void regression_backward(const Op& op, const Tensor& x, const Tensor& t, const Tensor& dy, Tensor* dx, Tensor* dt, Slope slope) {
  dispatch_floating(x.dtype(), "regression loss", [&]<class T>(T) {
    const T *a = x.data<T>(), *b = t.data<T>();
    if (dx) spread_slopes<T>(op.reduction, dy, *dx, [&](int64_t i) { return slope(a[i] - b[i]); });
    if (dt) spread_slopes<T>(op.reduction, dy, *dt, [&](int64_t i) { return -slope(a[i] - b[i]); });
  });
}

template <class T>
T sign(T x) {
  return x > 0 ? T(1) : x < 0 ? T(-1) : T(0);
}

}  // namespace

void bce(const Bce& op, const Tensor& x, const Tensor& t, Tensor& y) {
  dispatch_floating(x.dtype(), "bce", [&]<class T>(T) {
    const T low = static_cast<T>(static_cast<float>(op.clip)), high = static_cast<T>(static_cast<float>(1 - op.clip));
    reduce_values<T>(op.reduction, x.size(), y, [&, p = x.data<T>(), target = t.data<T>()](int64_t i) {
      const T q = std::clamp(p[i], low, high);
      return -(target[i] * std::log(q) + (T(1) - target[i]) * std::log(T(1) - q));
    });
  });
}

void bce_backward(const Bce& op, const Tensor& x, const Tensor& t, const Tensor&, const Tensor& dy, Tensor* dx, Tensor* dt) {
  refuse(dt, "bce", "the target");
  if (!dx) return;
  dispatch_floating(x.dtype(), "bce", [&]<class T>(T) {
    const T low = static_cast<T>(static_cast<float>(op.clip)), high = static_cast<T>(static_cast<float>(1 - op.clip));
    spread_slopes<T>(op.reduction, dy, *dx, [&, p = x.data<T>(), target = t.data<T>()](int64_t i) {
      return p[i] < low || p[i] > high ? T(0) : (p[i] - target[i]) / (p[i] * (T(1) - p[i]));
    });
  });
}

namespace {

// The weights of element i of x: absent ones are 1.
template <class T>
struct BceWeights {
  const T *weight, *pos_weight;
  int64_t channels, weight_step, pos_channels;

  BceWeights(const Tensor& x, const Tensor& w, const Tensor& pos)
      : weight(w ? w.data<T>() : nullptr),
        pos_weight(pos ? pos.data<T>() : nullptr),
        channels(x.rank() ? x.dim(-1) : 1),
        weight_step(w && w.size() != x.size() ? channels : 1),
        pos_channels(pos ? pos.size() : 1) {}
  T at(int64_t i) const { return weight ? weight[i / weight_step] : T(1); }
  T positive(int64_t i) const { return pos_weight ? pos_weight[i % pos_channels] : T(1); }
};

}  // namespace

void bce_with_logits(const BceWithLogits& op, const Tensor& x, const Tensor& t, const Tensor& weight, const Tensor& pos_weight,
                     Tensor& y) {
  dispatch_floating(x.dtype(), "bce_with_logits", [&]<class T>(T) {
    const BceWeights<T> weights(x, weight, pos_weight);
    reduce_values<T>(op.reduction, x.size(), y, [&, z = x.data<T>(), target = t.data<T>()](int64_t i) {
      const T k = T(1) + (weights.positive(i) - T(1)) * target[i];
      return weights.at(i) * ((T(1) - target[i]) * z[i] + k * (softplus_of_minus_abs(z[i]) + std::max(-z[i], T(0))));
    });
  });
}

// d/dx = w [(1 - t) p - w+ t (1 - p)]
void bce_with_logits_backward(const BceWithLogits& op, const Tensor& x, const Tensor& t, const Tensor& weight,
                              const Tensor& pos_weight, const Tensor&, const Tensor& dy, Tensor* dx, Tensor* dt, Tensor* dweight,
                              Tensor* dpos_weight) {
  refuse(dt, "bce_with_logits", "the target");
  refuse(dweight, "bce_with_logits", "weight");
  refuse(dpos_weight, "bce_with_logits", "pos_weight");
  if (!dx) return;
  dispatch_floating(x.dtype(), "bce_with_logits", [&]<class T>(T) {
    const BceWeights<T> weights(x, weight, pos_weight);
    spread_slopes<T>(op.reduction, dy, *dx, [&, z = x.data<T>(), target = t.data<T>()](int64_t i) {
      return weights.at(i) * ((T(1) - target[i]) * sigmoid(z[i]) - weights.positive(i) * target[i] * sigmoid(-z[i]));
    });
  });
}

void focal_loss(const FocalLoss& op, const Tensor& x, const Tensor& t, Tensor& y) {
  dispatch_floating(x.dtype(), "focal_loss", [&]<class T>(T) {
    const T alpha = static_cast<T>(op.alpha), gamma = static_cast<T>(op.gamma);
    reduce_values<T>(op.reduction, x.size(), y, [&, z = x.data<T>(), target = t.data<T>()](int64_t i) {
      const T bce = (T(1) - target[i]) * z[i] + softplus_of_minus_abs(z[i]) + std::max(-z[i], T(0));
      const T miss = target[i] * sigmoid(-z[i]) + (T(1) - target[i]) * sigmoid(z[i]);  // 1 - p_t
      const T balance = alpha < 0 ? T(1) : alpha * target[i] + (T(1) - alpha) * (T(1) - target[i]);
      return balance * std::pow(miss, gamma) * bce;
    });
  });
}

// m = 1 - p_t, dm/dx = (1 - 2t) p (1 - p): d/dx = alpha_t [m^gamma (p - t) + gamma m^(gamma - 1) dm/dx bce]
void focal_loss_backward(const FocalLoss& op, const Tensor& x, const Tensor& t, const Tensor&, const Tensor& dy, Tensor* dx,
                         Tensor* dt) {
  refuse(dt, "focal_loss", "the target");
  if (!dx) return;
  dispatch_floating(x.dtype(), "focal_loss", [&]<class T>(T) {
    const T alpha = static_cast<T>(op.alpha), gamma = static_cast<T>(op.gamma);
    spread_slopes<T>(op.reduction, dy, *dx, [&, z = x.data<T>(), target = t.data<T>()](int64_t i) {
      const T p = sigmoid(z[i]), q = sigmoid(-z[i]), u = target[i];
      const T bce = (T(1) - u) * z[i] + softplus_of_minus_abs(z[i]) + std::max(-z[i], T(0));
      const T miss = u * q + (T(1) - u) * p;
      const T balance = alpha < 0 ? T(1) : alpha * u + (T(1) - alpha) * (T(1) - u);
      if (miss == 0) return gamma == 0 ? balance * (p - u) : T(0);
      const T power = std::pow(miss, gamma);
      return balance * power * (((T(1) - u) * p - u * q) + gamma / miss * (T(1) - T(2) * u) * p * q * bce);
    });
  });
}

void mse_loss(const MseLoss& op, const Tensor& x, const Tensor& t, Tensor& y) {
  regression(op, x, t, y, [](auto d) { return d * d; });
}
void mse_loss_backward(const MseLoss& op, const Tensor& x, const Tensor& t, const Tensor&, const Tensor& dy, Tensor* dx,
                       Tensor* dt) {
  regression_backward(op, x, t, dy, dx, dt, [](auto d) { return 2 * d; });
}

void l1_loss(const L1Loss& op, const Tensor& x, const Tensor& t, Tensor& y) {
  regression(op, x, t, y, [](auto d) { return std::abs(d); });
}
void l1_loss_backward(const L1Loss& op, const Tensor& x, const Tensor& t, const Tensor&, const Tensor& dy, Tensor* dx,
                      Tensor* dt) {
  regression_backward(op, x, t, dy, dx, dt, [](auto d) { return sign(d); });
}

void smooth_l1_loss(const SmoothL1Loss& op, const Tensor& x, const Tensor& t, Tensor& y) {
  regression(op, x, t, y, [&]<class T>(T d) {
    const T a = std::abs(d), beta = static_cast<T>(op.beta);
    return a < beta ? T(0.5) * d * d / beta : a - T(0.5) * beta;
  });
}
void smooth_l1_loss_backward(const SmoothL1Loss& op, const Tensor& x, const Tensor& t, const Tensor&, const Tensor& dy,
                             Tensor* dx, Tensor* dt) {
  regression_backward(op, x, t, dy, dx, dt, [&]<class T>(T d) {
    const T beta = static_cast<T>(op.beta);
    return std::abs(d) < beta ? d / beta : sign(d);
  });
}

void huber_loss(const HuberLoss& op, const Tensor& x, const Tensor& t, Tensor& y) {
  regression(op, x, t, y, [&]<class T>(T d) {
    const T a = std::abs(d), delta = static_cast<T>(op.delta);
    return a <= delta ? T(0.5) * d * d : delta * (a - T(0.5) * delta);
  });
}
void huber_loss_backward(const HuberLoss& op, const Tensor& x, const Tensor& t, const Tensor&, const Tensor& dy, Tensor* dx,
                         Tensor* dt) {
  regression_backward(op, x, t, dy, dx, dt, [&]<class T>(T d) {
    const T delta = static_cast<T>(op.delta);
    return std::clamp(d, -delta, delta);
  });
}

void cross_entropy(const CrossEntropy& op, const Tensor& x, const Tensor& target, const Tensor& class_weight,
                   const Tensor& pixel_weight, Tensor& y, Tensor& logsumexp, Tensor& divisor) {
  const int64_t classes = x.dim(-1), pixels = target.size();
  const int64_t* label = target.data<int64_t>();
  dispatch_floating(x.dtype(), "cross_entropy", [&]<class T>(T) {
    const T* weight = class_weight ? class_weight.data<T>() : nullptr;
    const T smoothing = static_cast<T>(op.label_smoothing);
    double total = 0, counted = 0;
    for (int64_t i = 0; i < pixels; ++i) {
      const T* z = x.data<T>() + i * classes;
      const T largest = *std::max_element(z, z + classes);
      T sum = 0;
      for (int64_t c = 0; c < classes; ++c) sum += std::exp(z[c] - largest);
      const T lse = largest + std::log(sum);
      logsumexp.data<T>()[i] = lse;
      T value = 0;
      if (label[i] != op.ignore_index) {
        GLIA_CHECK(label[i] >= 0 && label[i] < classes, "cross_entropy: target {} at pixel {}, want 0 to {} or {} (ignore_index)",
                   label[i], i, classes - 1, op.ignore_index);
        const T w = weight ? weight[label[i]] : T(1);
        value = (T(1) - smoothing) * w * (lse - z[label[i]]);
        if (smoothing > 0) {
          T spread = 0;
          for (int64_t c = 0; c < classes; ++c) spread += (weight ? weight[c] : T(1)) * (lse - z[c]);
          value += smoothing / static_cast<T>(classes) * spread;
        }
        if (pixel_weight) value *= pixel_weight.data<T>()[i];
        counted += static_cast<double>(w);
      }
      if (op.reduction == Reduction::none) y.data<T>()[i] = value;
      total += static_cast<double>(value);
    }
    if (pixel_weight) counted = static_cast<double>(pixels);
    *divisor.data<double>() = counted;
    if (op.reduction == Reduction::mean) total = counted != 0 ? total / counted : 0.0;
    if (op.reduction != Reduction::none) *y.data<T>() = static_cast<T>(total);
  });
}

// d/dx_c = k [(1 - s) w_t (p_c - 1[c = t]) + s / C (p_c sum_j w_j - w_c)], k = dy pixel_weight / divisor
void cross_entropy_backward(const CrossEntropy& op, const Tensor& x, const Tensor& target, const Tensor& class_weight,
                            const Tensor& pixel_weight, const Tensor&, const Tensor& logsumexp, const Tensor& divisor,
                            const Tensor& dy, Tensor* dx, Tensor*, Tensor* dclass_weight, Tensor* dpixel_weight) {
  refuse(dclass_weight, "cross_entropy", "class_weight");
  refuse(dpixel_weight, "cross_entropy", "pixel_weight");
  if (!dx) return;
  const int64_t classes = x.dim(-1), pixels = target.size();
  const int64_t* label = target.data<int64_t>();
  const double counted = divisor.item();
  dispatch_floating(x.dtype(), "cross_entropy", [&]<class T>(T) {
    const T* weight = class_weight ? class_weight.data<T>() : nullptr;
    const T smoothing = static_cast<T>(op.label_smoothing) / static_cast<T>(classes),
            keep = static_cast<T>(1 - op.label_smoothing);
    const T factor = op.reduction != Reduction::mean ? T(1) : counted != 0 ? static_cast<T>(1 / counted) : T(0);
    T weights = 0;
    for (int64_t c = 0; c < classes; ++c) weights += weight ? weight[c] : T(1);
    for (int64_t i = 0; i < pixels; ++i) {
      const T* z = x.data<T>() + i * classes;
      T* to = dx->data<T>() + i * classes;
      T k = dy.data<T>()[op.reduction == Reduction::none ? i : 0] * factor;
      if (pixel_weight) k *= pixel_weight.data<T>()[i];
      const bool ignored = label[i] == op.ignore_index;
      for (int64_t c = 0; c < classes; ++c) {
        if (ignored) {
          to[c] = 0;
          continue;
        }
        const T p = std::exp(z[c] - logsumexp.data<T>()[i]);
        const T hit = c == label[i] ? T(1) : T(0);
        to[c] =
            k * (keep * (weight ? weight[label[i]] : T(1)) * (p - hit) + smoothing * (p * weights - (weight ? weight[c] : T(1))));
      }
    }
  });
}

}  // namespace glia::reference
