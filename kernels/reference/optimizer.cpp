#include "kernels/optimizer.h"

#include <algorithm>
#include <cmath>

namespace glia::reference {
namespace {

template <class T>
T* data_or_null(const Tensor& t) {
  return t ? t.data<T>() : nullptr;
}

}  // namespace

void sgd_step(const SgdStep& op, const Tensor& gradient, Tensor& weight, Tensor& buffer) {
  dispatch_floating(weight.dtype(), "sgd_step", [&]<class T>(T) {
    T* w = weight.data<T>();
    T* b = data_or_null<T>(buffer);
    for (int64_t i = 0; i < weight.size(); ++i) {
      const T g = gradient.data<T>()[i] + T(op.weight_decay) * w[i];
      if (!b) {
        w[i] -= T(op.lr) * g;
      } else if (op.velocity) {
        b[i] = T(op.momentum) * b[i] - T(op.lr) * g;
        w[i] += op.nesterov ? T(op.momentum) * b[i] - T(op.lr) * g : b[i];
      } else {
        b[i] = op.first ? g : T(op.momentum) * b[i] + T(1 - op.dampening) * g;
        w[i] -= T(op.lr) * (op.nesterov ? g + T(op.momentum) * b[i] : b[i]);
      }
    }
  });
}

void adam_step(const AdamStep& op, const Tensor& gradient, Tensor& weight, Tensor& m_, Tensor& v_, Tensor& v_max) {
  dispatch_floating(weight.dtype(), "adam_step", [&]<class T>(T) {
    T* w = weight.data<T>();
    T* m = m_.data<T>();
    T* v = v_.data<T>();
    T* largest = data_or_null<T>(v_max);
    for (int64_t i = 0; i < weight.size(); ++i) {
      w[i] *= T(op.keep);
      const T g = gradient.data<T>()[i] + T(op.weight_decay) * w[i];
      m[i] = T(op.beta1) * m[i] + T(1 - op.beta1) * g;
      v[i] = T(op.beta2) * v[i] + T(1 - op.beta2) * g * g;
      if (largest) largest[i] = std::max(largest[i], v[i]);
      const T root = std::sqrt(largest ? largest[i] : v[i]);
      w[i] -= T(op.step) * (op.adaptive ? m[i] / (T(op.variance_scale) * root + T(op.eps)) : m[i]);
    }
  });
}

void rmsprop_step(const RmspropStep& op, const Tensor& gradient, Tensor& weight, Tensor& v_, Tensor& buffer, Tensor& mean) {
  dispatch_floating(weight.dtype(), "rmsprop_step", [&]<class T>(T) {
    T* w = weight.data<T>();
    T* v = v_.data<T>();
    T* b = data_or_null<T>(buffer);
    T* a = data_or_null<T>(mean);
    for (int64_t i = 0; i < weight.size(); ++i) {
      const T g = gradient.data<T>()[i] + T(op.weight_decay) * w[i];
      v[i] = T(op.alpha) * v[i] + T(1 - op.alpha) * g * g;
      if (a) a[i] = T(op.alpha) * a[i] + T(1 - op.alpha) * g;
      const T variance = a ? std::max(v[i] - a[i] * a[i], T(0)) : v[i];
      T u = g / (std::sqrt(variance) + T(op.eps));
      if (b) u = b[i] = T(op.momentum) * b[i] + u;
      w[i] -= T(op.lr) * u;
    }
  });
}

void squared_norm(const SquaredNorm&, const Tensor& x, Tensor& sum) {
  double total = 0;
  dispatch_floating(x.dtype(), "squared_norm", [&]<class T>(T) {
    for (const T value : x.values<T>()) total += double(value) * double(value);
  });
  *sum.data<double>() = total;
}

void add_in_place(const AddInPlace&, const Tensor& y, Tensor& x) {
  dispatch_floating(x.dtype(), "add_in_place", [&]<class T>(T) {
    for (int64_t i = 0; i < x.size(); ++i) x.data<T>()[i] += y.data<T>()[i];
  });
}

void scale_in_place(const ScaleInPlace& op, Tensor& x) {
  dispatch_floating(x.dtype(), "scale_in_place", [&]<class T>(T) {
    for (T& value : x.values<T>()) value *= T(op.factor);
  });
}

void clip_by_norm(const ClipByNorm& op, const Tensor& squared_norm, Tensor& x) {
  scale_in_place({op.factor(*squared_norm.data<double>())}, x);
}

void clamp_in_place(const ClampInPlace& op, Tensor& x) {
  dispatch_floating(x.dtype(), "clamp_in_place", [&]<class T>(T) {
    for (T& value : x.values<T>()) value = std::min(std::max(value, T(-op.limit)), T(op.limit));
  });
}

void ema_step(const EmaStep& op, const Tensor& x, Tensor& average) {
  dispatch_floating(x.dtype(), "ema_step", [&]<class T>(T) {
    for (int64_t i = 0; i < x.size(); ++i) {
      T& a = average.data<T>()[i];
      a = T(op.decay) * a + T(1 - op.decay) * x.data<T>()[i];
    }
  });
}

}  // namespace glia::reference
