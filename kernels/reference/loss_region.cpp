#include "kernels/loss_region.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/unary.h"

namespace glia::reference {
namespace {

using unary::sigmoid;

void refuse(const Tensor* gradient, const char* op) {
  GLIA_CHECK(!gradient, "{}: no gradient with respect to the target is defined", op);
}

// sums[r] = three sums over region r of add(x_i, t_i) -> array of three; returns the mean over the regions of loss(sums[r]).
template <class T, class Add, class Loss>
double region_loss(const Tensor& x, const Tensor& t, Per per, Tensor& sums, Add add, Loss loss) {
  const int64_t regions = detail::regions_of(x, per), size = regions ? x.size() / regions : 0;
  double total = 0;
  for (int64_t r = 0; r < regions; ++r) {
    double* s = sums.data<double>() + r * 3;
    s[0] = s[1] = s[2] = 0;
    for (int64_t i = r * size; i < (r + 1) * size; ++i) {
      const auto term = add(static_cast<double>(x.data<T>()[i]), static_cast<double>(t.data<T>()[i]));
      for (size_t k = 0; k < 3; ++k) s[k] += term[k];
    }
    total += loss(s);
  }
  return regions ? total / static_cast<double>(regions) : 0.0;
}

// Calls slope(x_i, t_i, sums of its region) for every element: dx_i = dy slope / regions.
template <class T, class Slope>
void region_gradient(const Tensor& x, const Tensor& t, Per per, const Tensor& sums, const Tensor& dy, Tensor& dx, Slope slope) {
  const int64_t regions = detail::regions_of(x, per), size = regions ? x.size() / regions : 0;
  for (int64_t i = 0; i < x.size(); ++i) {
    const double s =
        slope(static_cast<double>(x.data<T>()[i]), static_cast<double>(t.data<T>()[i]), sums.data<double>() + i / size * 3);
    dx.data<T>()[i] = static_cast<T>(dy.item() / static_cast<double>(regions) * s);
  }
}

// (2I + s) / (U + s), 1 where both are 0: nothing there and nothing predicted.
double dice(double intersection, double total, double smooth) {
  return total + smooth != 0 ? (2 * intersection + smooth) / (total + smooth) : 1.0;
}

// d dice / dp; the squared form has dU/dp = 2p instead of 1.
double dice_slope(double intersection, double total, double smooth, double t, double total_slope) {
  const double u = total + smooth;
  return u != 0 ? (2 * t * u - (2 * intersection + smooth) * total_slope) / (u * u) : 0.0;
}

}  // namespace

void dice_loss(const DiceLoss& op, const Tensor& x, const Tensor& t, Tensor& y, Tensor& sums) {
  dispatch_floating(x.dtype(), "dice_loss", [&]<class T>(T) {
    const auto add = [&](double p, double u) { return std::array<double, 3>{p * u, op.squared ? p * p + u * u : p + u, 0.0}; };
    const auto loss = [&](const double* s) { return 1 - dice(s[0], s[1], op.smooth); };
    *y.data<T>() = static_cast<T>(region_loss<T>(x, t, op.per, sums, add, loss));
  });
}

void dice_loss_backward(const DiceLoss& op, const Tensor& x, const Tensor& t, const Tensor&, const Tensor& sums, const Tensor& dy,
                        Tensor* dx, Tensor* dt) {
  refuse(dt, "dice_loss");
  if (!dx) return;
  dispatch_floating(x.dtype(), "dice_loss", [&]<class T>(T) {
    region_gradient<T>(x, t, op.per, sums, dy, *dx, [&](double p, double u, const double* s) {
      return -dice_slope(s[0], s[1], op.smooth, u, op.squared ? 2 * p : 1.0);
    });
  });
}

// The third sum is that of the cross entropies.
void bce_dice_loss(const BceDiceLoss& op, const Tensor& x, const Tensor& t, Tensor& y, Tensor& sums) {
  dispatch_floating(x.dtype(), "bce_dice_loss", [&]<class T>(T) {
    const double size = static_cast<double>(x.size()) / static_cast<double>(std::max<int64_t>(1, detail::regions_of(x, op.per)));
    const auto add = [](double z, double u) {
      const double p = sigmoid(z);
      return std::array<double, 3>{p * u, p + u, std::max(z, 0.0) - z * u + std::log1p(std::exp(-std::abs(z)))};
    };
    const auto loss = [&](const double* s) {
      return op.bce_weight * s[2] / size + op.dice_weight * (1 - dice(s[0], s[1], op.smooth));
    };
    *y.data<T>() = static_cast<T>(region_loss<T>(x, t, op.per, sums, add, loss));
  });
}

void bce_dice_loss_backward(const BceDiceLoss& op, const Tensor& x, const Tensor& t, const Tensor&, const Tensor& sums,
                            const Tensor& dy, Tensor* dx, Tensor* dt) {
  refuse(dt, "bce_dice_loss");
  if (!dx) return;
  dispatch_floating(x.dtype(), "bce_dice_loss", [&]<class T>(T) {
    const double size = static_cast<double>(x.size()) / static_cast<double>(std::max<int64_t>(1, detail::regions_of(x, op.per)));
    region_gradient<T>(x, t, op.per, sums, dy, *dx, [&](double z, double u, const double* s) {
      const double p = sigmoid(z), q = sigmoid(-z);
      return op.bce_weight * (p - u) / size - op.dice_weight * dice_slope(s[0], s[1], op.smooth, u, 1.0) * p * q;
    });
  });
}

// Sums: TP = sum p t, FP = sum p (1 - t), FN = sum (1 - p) t.
void tversky_loss(const TverskyLoss& op, const Tensor& x, const Tensor& t, Tensor& y, Tensor& sums) {
  dispatch_floating(x.dtype(), "tversky_loss", [&]<class T>(T) {
    const auto add = [](double z, double u) {
      const double p = sigmoid(z);
      return std::array<double, 3>{p * u, p * (1 - u), sigmoid(-z) * u};
    };
    const auto loss = [&](const double* s) {
      const double whole = s[0] + op.alpha * s[1] + op.beta * s[2] + op.smooth;
      return whole != 0 ? 1 - (s[0] + op.smooth) / whole : 0.0;
    };
    *y.data<T>() = static_cast<T>(region_loss<T>(x, t, op.per, sums, add, loss));
  });
}

// With N = TP + s and W = TP + alpha FP + beta FN + s: dN/dp = t, dW/dp = t + alpha (1 - t) - beta t.
void tversky_loss_backward(const TverskyLoss& op, const Tensor& x, const Tensor& t, const Tensor&, const Tensor& sums,
                           const Tensor& dy, Tensor* dx, Tensor* dt) {
  refuse(dt, "tversky_loss");
  if (!dx) return;
  dispatch_floating(x.dtype(), "tversky_loss", [&]<class T>(T) {
    region_gradient<T>(x, t, op.per, sums, dy, *dx, [&](double z, double u, const double* s) {
      const double part = s[0] + op.smooth, whole = s[0] + op.alpha * s[1] + op.beta * s[2] + op.smooth;
      if (whole == 0) return 0.0;
      const double whole_slope = u + op.alpha * (1 - u) - op.beta * u;
      return (part * whole_slope - u * whole) / (whole * whole) * sigmoid(z) * sigmoid(-z);
    });
  });
}

void lovasz_hinge_loss(const LovaszHinge& op, const Tensor& x, const Tensor& t, Tensor& y, Tensor& slope) {
  dispatch_floating(x.dtype(), "lovasz_hinge_loss", [&]<class T>(T) {
    const int64_t regions = detail::regions_of(x, op.per), size = regions ? x.size() / regions : 0;
    double total = 0;
    std::vector<int64_t> order(static_cast<size_t>(size));
    for (int64_t r = 0; r < regions; ++r) {
      const T *z = x.data<T>() + r * size, *u = t.data<T>() + r * size;
      T* to = slope.data<T>() + r * size;
      const auto error = [&](int64_t i) { return T(1) - z[i] * (T(2) * u[i] - T(1)); };
      std::iota(order.begin(), order.end(), int64_t{0});
      std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return error(a) > error(b); });
      double positives = 0;
      for (int64_t i = 0; i < size; ++i) positives += static_cast<double>(u[i]);
      double inside = positives, united = positives, before = 0;  // |true minus wrong|, |true or wrong|, Jaccard loss so far
      for (const int64_t i : order) {
        inside -= static_cast<double>(u[i]);
        united += 1 - static_cast<double>(u[i]);
        const double jaccard = 1 - inside / united, step = jaccard - before;
        before = jaccard;
        total += std::max(0.0, static_cast<double>(error(i))) * step;
        to[i] = error(i) > 0 ? static_cast<T>(-(2 * static_cast<double>(u[i]) - 1) * step / static_cast<double>(regions)) : T(0);
      }
    }
    *y.data<T>() = static_cast<T>(regions ? total / static_cast<double>(regions) : 0.0);
  });
}

void lovasz_hinge_loss_backward(const LovaszHinge&, const Tensor&, const Tensor&, const Tensor&, const Tensor& slope,
                                const Tensor& dy, Tensor* dx, Tensor* dt) {
  refuse(dt, "lovasz_hinge_loss");
  if (!dx) return;
  dispatch_floating(dy.dtype(), "lovasz_hinge_loss", [&]<class T>(T) {
    for (int64_t i = 0; i < dx->size(); ++i) dx->data<T>()[i] = *dy.data<T>() * slope.data<T>()[i];
  });
}

}  // namespace glia::reference
