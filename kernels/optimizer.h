#pragma once
// What an optimizer step does to flat arrays of n elements: slices of the arenas that nn/optimizer.h keeps for parameters,
// gradients and state. These update in place, so they are no ops of the tape, but their tables are the same. Whatever depends on
// the step number alone (bias corrections, rectification) is worked out by the caller.
#include <cmath>

#include "kernels/op.h"

namespace glia {

// g += weight_decay w;  b = momentum b + (1 - dampening) g, at the first step b = g;  u = nesterov ? g + momentum b : b;
// w -= lr u (PyTorch). `velocity`: b = momentum b - lr g;  w += nesterov ? momentum b - lr g : b (Keras).
// `buffer` is absent when momentum is 0.
struct SgdStep {
  double lr = 0.01;
  double momentum = 0;
  double dampening = 0;
  double weight_decay = 0;
  bool nesterov = false;
  bool velocity = false;
  bool first = false;
  using Forward = void(const SgdStep&, const Tensor& g, Tensor& w, Tensor& buffer);
  static const Variants<Forward> forward;
};

// w *= keep;  g += weight_decay w;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;
// w -= step m / (variance_scale sqrt(v) + eps), or step m when not adaptive. With `v_max` present the root is taken of the
// largest v so far (AMSGrad).
struct AdamStep {
  double step = 0.001;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double variance_scale = 1;
  double weight_decay = 0;
  double keep = 1;
  bool adaptive = true;
  using Forward = void(const AdamStep&, const Tensor& g, Tensor& w, Tensor& m, Tensor& v, Tensor& v_max);
  static const Variants<Forward> forward;
};

// g += weight_decay w;  v = alpha v + (1 - alpha) g^2;  `mean` present: a = alpha a + (1 - alpha) g, and v - a^2 takes the place
// of v; u = g / (sqrt(v) + eps);  w -= lr u, with `buffer` present b = momentum b + u; w -= lr b (PyTorch).
struct RmspropStep {
  double lr = 0.01;
  double alpha = 0.99;
  double eps = 1e-8;
  double momentum = 0;
  double weight_decay = 0;
  using Forward = void(const RmspropStep&, const Tensor& g, Tensor& w, Tensor& v, Tensor& buffer, Tensor& mean);
  static const Variants<Forward> forward;
};

// Sum of squares, in double and in a fixed order. `sum` is a float64 scalar.
struct SquaredNorm {
  using Forward = void(const SquaredNorm&, const Tensor& x, Tensor& sum);
  static const Variants<Forward> forward;
};

struct AddInPlace {  // x += y: how a second gradient joins the first
  using Forward = void(const AddInPlace&, const Tensor& y, Tensor& x);
  static const Variants<Forward> forward;
};

struct ScaleInPlace {  // x *= factor
  double factor = 1;
  using Forward = void(const ScaleInPlace&, Tensor& x);
  static const Variants<Forward> forward;
};

// x *= min(1, max_norm / (sqrt(squared_norm) + 1e-6)), with what SquaredNorm left, a float64 scalar on x's device: a step that
// clips waits for nothing. A NaN leaves x as it is.
struct ClipByNorm {
  double max_norm = 1;
  double factor(double squared_norm) const {
    const double wanted = max_norm / (std::sqrt(squared_norm) + 1e-6);
    return wanted < 1 ? wanted : 1;
  }
  using Forward = void(const ClipByNorm&, const Tensor& squared_norm, Tensor& x);
  static const Variants<Forward> forward;
};

struct ClampInPlace {  // x = min(max(x, -limit), limit); NaN stays
  double limit = 1;
  using Forward = void(const ClampInPlace&, Tensor& x);
  static const Variants<Forward> forward;
};

struct EmaStep {  // average = decay average + (1 - decay) x
  double decay = 0.999;
  using Forward = void(const EmaStep&, const Tensor& x, Tensor& average);
  static const Variants<Forward> forward;
};

#define GLIA_OPTIMIZER_STEPS(X)                                                                                    \
  X(sgd_step, SgdStep)                                                                                             \
  X(adam_step, AdamStep) X(rmsprop_step, RmspropStep) X(squared_norm, SquaredNorm) X(add_in_place, AddInPlace)     \
      X(scale_in_place, ScaleInPlace) X(clip_by_norm, ClipByNorm) X(clamp_in_place, ClampInPlace) X(ema_step, EmaStep)
#define GLIA_DECLARE_STEP(function, Op)                                                  \
  namespace reference { Op::Forward function; }                                          \
  namespace cpu { Op::Forward function; }                                                \
  namespace emulated { Op::Forward function; }                                           \
  namespace cuda { Op::Forward function; }                                               \
  inline constexpr Variants<Op::Forward> Op::forward{                                    \
      .name = #function, .reference = reference::function, .cpu = cpu::function,         \
      .emulated = emulated::function, .cuda = GLIA_CUDA(cuda::function)};
GLIA_OPTIMIZER_STEPS(GLIA_DECLARE_STEP)
#undef GLIA_DECLARE_STEP

}  // namespace glia
