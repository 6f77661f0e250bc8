// Layer normalisation: a row stays in the first-level cache for its passes; gradients of gamma and beta are summed per chunk of
// rows, then over chunks in double.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/layer_norm.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/vector-inl.h"
#include "kernels/norm.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

struct Rows {
  int64_t rows, width, grain;
  Rows(const LayerNorm& op, const Shape& x)
      : rows(x.product(0, x.rank() - op.axes)),
        width(x.product(x.rank() - op.axes, x.rank())),
        grain(std::max<int64_t>(32768 / std::max<int64_t>(width, 1), 1)) {}
};

void layer_norm(const LayerNorm& op, const Tensor& x, const Tensor& gamma, const Tensor& beta, Tensor& y, Tensor& mean,
                Tensor& variance) {
  const Rows s(op, x.shape());
  const std::vector<float> ones(gamma ? 0 : size_t(s.width), 1.0f), zeros(beta ? 0 : size_t(s.width), 0.0f);
  const float *scale = gamma ? gamma.data<float>() : ones.data(), *shift = beta ? beta.data<float>() : zeros.data();
  const double inverse = s.width ? 1 / double(s.width) : 0;
  parallel_for(s.rows, s.grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* from = x.data<float>() + row * s.width;
      const float origin = s.width ? from[0] : 0;  // differences from one value: no cancellation, whatever the mean
      const Vector first = splat(origin);
      const double offset = inverse * sum_span(
                                          s.width, [&](Vector v) HWY_ATTR { return hn::Sub(v, first); }, from);
      const Vector m = splat(double(origin) + offset);
      const auto square = [&](Vector v) HWY_ATTR { return hn::Mul(hn::Sub(v, m), hn::Sub(v, m)); };
      const double var = inverse * sum_span(s.width, square, from);
      mean.data<float>()[row] = float(double(origin) + offset);
      variance.data<float>()[row] = float(var);
      const Vector rstd = splat(1 / std::sqrt(var + op.eps));
      map_span<false>(
          s.width, y.data<float>() + row * s.width,
          [&](Vector v, Vector a, Vector b) HWY_ATTR { return hn::MulAdd(hn::Mul(hn::Sub(v, m), rstd), a, b); }, from, scale,
          shift);
    }
  });
}

void layer_norm_backward(const LayerNorm& op, const Tensor& x, const Tensor& gamma, const Tensor&, const Tensor&,
                         const Tensor& mean, const Tensor& variance, const Tensor& dy, Tensor* dx, Tensor* dgamma,
                         Tensor* dbeta) {
  const Rows s(op, x.shape());
  const auto width = size_t(s.width);
  const std::vector<float> ones(gamma ? 0 : width, 1.0f);
  const float* scale = gamma ? gamma.data<float>() : ones.data();
  const double inverse = s.width ? 1 / double(s.width) : 0;
  std::vector<float> partial(dgamma || dbeta ? size_t(num_chunks(s.rows, s.grain)) * 2 * width : 0);  // per chunk: dgamma, dbeta
  parallel_for(s.rows, s.grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float *from = x.data<float>() + row * s.width, *g = dy.data<float>() + row * s.width;
      const Vector m = splat(mean.data<float>()[row]);
      const double rstd = 1 / std::sqrt(double(variance.data<float>()[row]) + op.eps);
      const Vector r = splat(rstd);
      if (dx) {
        const auto scaled = [](Vector gv, Vector a) HWY_ATTR { return hn::Mul(gv, a); };
        const auto product = [&](Vector gv, Vector a, Vector v)
                                 HWY_ATTR { return hn::Mul(hn::Mul(gv, a), hn::Mul(hn::Sub(v, m), r)); };
        const Vector mean_g = splat(inverse * sum_span(s.width, scaled, g, scale));
        const Vector mean_gx = splat(inverse * sum_span(s.width, product, g, scale, from));
        const auto pull = [&](Vector gv, Vector a, Vector v) HWY_ATTR {
          const Vector xhat = hn::Mul(hn::Sub(v, m), r);
          return hn::Mul(r, hn::NegMulAdd(xhat, mean_gx, hn::Sub(hn::Mul(gv, a), mean_g)));
        };
        map_span<false>(s.width, dx->data<float>() + row * s.width, pull, g, scale, from);
      }
      if (partial.empty()) continue;
      float* sum = partial.data() + size_t(begin / s.grain) * 2 * width;
      const auto add_product = [&](Vector old, Vector gv, Vector v)
                                   HWY_ATTR { return hn::MulAdd(gv, hn::Mul(hn::Sub(v, m), r), old); };
      map_span<false>(s.width, sum, add_product, sum, g, from);
      map_span<false>(
          s.width, sum + width, [](Vector old, Vector gv) HWY_ATTR { return hn::Add(old, gv); }, sum + width, g);
    }
  });
  for (size_t i = 0; i < width; ++i) {
    double gamma_gradient = 0, beta_gradient = 0;
    for (size_t at = i; at < partial.size(); at += 2 * width) gamma_gradient += partial[at], beta_gradient += partial[at + width];
    if (dgamma) dgamma->data<float>()[i] = float(gamma_gradient);
    if (dbeta) dbeta->data<float>()[i] = float(beta_gradient);
  }
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(layer_norm);
HWY_EXPORT(layer_norm_backward);

void layer_norm(const LayerNorm& op, const Tensor& x, const Tensor& gamma, const Tensor& beta, Tensor& y, Tensor& mean,
                Tensor& variance) {
  HWY_DYNAMIC_DISPATCH(layer_norm)(op, x, gamma, beta, y, mean, variance);
}
void layer_norm_backward(const LayerNorm& op, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& y,
                         const Tensor& mean, const Tensor& variance, const Tensor& dy, Tensor* dx, Tensor* dgamma,
                         Tensor* dbeta) {
  HWY_DYNAMIC_DISPATCH(layer_norm_backward)(op, x, gamma, beta, y, mean, variance, dy, dx, dgamma, dbeta);
}

}  // namespace glia::cpu
#endif
