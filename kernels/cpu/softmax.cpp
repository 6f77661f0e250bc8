// Softmax and log-softmax: one line of the axis per vector lane where the axis is short or not the last, one line after the other
// where it is long and contiguous.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/softmax.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/math-inl.h"
#include "kernels/softmax.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t longest_in_lanes = 24;  // of a contiguous axis: longer ones go line by line
constexpr float lowest = -std::numeric_limits<float>::infinity();

// `lanes` lines at a time: element j of all lines is a vector at x + j * step.
template <bool logarithm>
struct Forward {
  static constexpr int inputs = 1;
  template <class Load, class Store>
  static HWY_INLINE void columns(int64_t length, int64_t step, const float* const* in, float* y, const Load& load,
                                 const Store& store) {
    const float* x = in[0];
    Vector largest = hn::Set(VectorTag(), lowest), sum = splat(0);
    for (int64_t j = 0; j < length; ++j) largest = hn::Max(load(x + j * step), largest);
    for (int64_t j = 0; j < length; ++j) {
      const Vector e = vector_exp(hn::Sub(load(x + j * step), largest));
      sum = hn::Add(sum, e);
      if (!logarithm) store(e, y + j * step);
    }
    const Vector last = logarithm ? largest : hn::Div(splat(1), sum);
    const Vector log_sum = logarithm ? vector_log(sum) : sum;
    for (int64_t j = 0; j < length; ++j)
      store(logarithm ? hn::Sub(hn::Sub(load(x + j * step), last), log_sum) : hn::Mul(load(y + j * step), last), y + j * step);
  }
  static void line(int64_t n, const float* const* in, float* y) {
    Vector top = hn::Set(VectorTag(), lowest);
    for_each_vector(n, [&](int64_t i, auto load, auto) HWY_ATTR {
      const Vector x = load(in[0] + i);
      const auto valid = hn::FirstN(VectorTag(), size_t(std::min(n - i, vector_lanes())));
      top = hn::Max(hn::IfThenElse(valid, x, hn::Set(VectorTag(), lowest)), top);
    });
    const Vector largest = hn::MaxOfLanes(VectorTag(), top);
    const auto shifted = [&](Vector x) HWY_ATTR { return vector_exp(hn::Sub(x, largest)); };
    const double sum = double(sum_span(n, shifted, in[0]));
    if (logarithm) {
      const Vector log_sum = splat(std::log(sum));
      map_span<false>(
          n, y, [&](Vector x) HWY_ATTR { return hn::Sub(hn::Sub(x, largest), log_sum); }, in[0]);
    } else {
      const Vector inverse = splat(1 / sum);
      map_span<false>(
          n, y, [&](Vector x) HWY_ATTR { return hn::Mul(shifted(x), inverse); }, in[0]);
    }
  }
};

// in: y, dy.  dx = y (dy - sum y dy), or dy - exp(y) sum dy.
template <bool logarithm>
struct Backward {
  static constexpr int inputs = 2;
  static HWY_INLINE Vector pull(Vector y, Vector g, Vector sum) {
    return logarithm ? hn::NegMulAdd(vector_exp(y), sum, g) : hn::Mul(y, hn::Sub(g, sum));
  }
  template <class Load, class Store>
  static HWY_INLINE void columns(int64_t length, int64_t step, const float* const* in, float* dx, const Load& load,
                                 const Store& store) {
    Vector sum = splat(0);
    for (int64_t j = 0; j < length; ++j) {
      const Vector g = load(in[1] + j * step);
      sum = logarithm ? hn::Add(sum, g) : hn::MulAdd(load(in[0] + j * step), g, sum);
    }
    for (int64_t j = 0; j < length; ++j) store(pull(load(in[0] + j * step), load(in[1] + j * step), sum), dx + j * step);
  }
  static void line(int64_t n, const float* const* in, float* dx) {
    const auto term = [](Vector y, Vector g) HWY_ATTR { return logarithm ? g : hn::Mul(y, g); };
    const Vector sum = splat(double(sum_span(n, term, in[0], in[1])));
    map_span<false>(
        n, dx, [&](Vector y, Vector g) HWY_ATTR { return pull(y, g, sum); }, in[0], in[1]);
  }
};

// Short contiguous lines: `lanes` of them are transposed into a buffer, computed as columns, and transposed back.
template <class Body>
void short_lines(int64_t lines, int64_t length, const float* const* in, float* out) {
  constexpr int64_t most = HWY_MAX_BYTES / sizeof(float);
  HWY_ALIGN float buffer[3][longest_in_lanes * most];
  const int64_t lanes = vector_lanes();
  const float* columns[2] = {buffer[0], buffer[1]};
  for (int64_t first = 0; first < lines; first += lanes) {
    const int64_t count = std::min(lanes, lines - first);
    for (int k = 0; k < Body::inputs; ++k)
      for (int64_t j = 0; j < length; ++j)
        for (int64_t i = 0; i < lanes; ++i) buffer[k][j * lanes + i] = i < count ? in[k][(first + i) * length + j] : 0.0f;
    Body::columns(
        length, lanes, columns, buffer[2], [](const float* p) HWY_ATTR { return load(p); },
        [](Vector v, float* p) HWY_ATTR { store<false>(v, p); });
    for (int64_t j = 0; j < length; ++j)
      for (int64_t i = 0; i < count; ++i) out[(first + i) * length + j] = buffer[2][j * lanes + i];
  }
}

template <class Body>
void along_axis(const AxisView& v, std::array<const float*, 2> in, float* out) {
  if (v.outer * v.length * v.inner == 0) return;
  if (v.inner == 1) {
    const int64_t grain = std::max<int64_t>(16384 / v.length / 16 * 16, 16);
    parallel_for(v.outer, grain, [&](int64_t begin, int64_t end) {
      const float* from[2] = {in[0] + begin * v.length, in[1] ? in[1] + begin * v.length : nullptr};
      if (v.length <= longest_in_lanes) return short_lines<Body>(end - begin, v.length, from, out + begin * v.length);
      for (int64_t row = begin; row < end; ++row) {
        const float* line[2] = {in[0] + row * v.length, in[1] ? in[1] + row * v.length : nullptr};
        Body::line(v.length, line, out + row * v.length);
      }
    });
    return;
  }
  constexpr int64_t width = 1024;  // of a task: elements of the inner axes
  const int64_t pieces = num_chunks(v.inner, width);
  parallel_for(
      v.outer * pieces, std::max<int64_t>(16384 / (v.length * std::min(v.inner, width)), 1), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t first = i / pieces * v.length * v.inner + i % pieces * width;
          for_each_vector(std::min(width, v.inner - i % pieces * width), [&](int64_t at, auto load, auto store) HWY_ATTR {
            const float* from[2] = {in[0] + first + at, in[1] ? in[1] + first + at : nullptr};
            Body::columns(v.length, v.inner, from, out + first + at, load, store);
          });
        }
      });
}

void softmax(const Softmax& op, const Tensor& x, Tensor& y) {
  along_axis<Forward<false>>(axis_view(x.shape(), op.axis, "softmax"), {x.data<float>(), nullptr}, y.data<float>());
}
void softmax_backward(const Softmax& op, const Tensor&, const Tensor& y, const Tensor& dy, Tensor* dx) {
  if (dx)
    along_axis<Backward<false>>(axis_view(dy.shape(), op.axis, "softmax"), {y.data<float>(), dy.data<float>()},
                                dx->data<float>());
}
void log_softmax(const LogSoftmax& op, const Tensor& x, Tensor& y) {
  along_axis<Forward<true>>(axis_view(x.shape(), op.axis, "log_softmax"), {x.data<float>(), nullptr}, y.data<float>());
}
void log_softmax_backward(const LogSoftmax& op, const Tensor&, const Tensor& y, const Tensor& dy, Tensor* dx) {
  if (dx)
    along_axis<Backward<true>>(axis_view(dy.shape(), op.axis, "log_softmax"), {y.data<float>(), dy.data<float>()},
                               dx->data<float>());
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(softmax);
HWY_EXPORT(softmax_backward);
HWY_EXPORT(log_softmax);
HWY_EXPORT(log_softmax_backward);

void softmax(const Softmax& op, const Tensor& x, Tensor& y) { HWY_DYNAMIC_DISPATCH(softmax)(op, x, y); }
void softmax_backward(const Softmax& op, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {
  HWY_DYNAMIC_DISPATCH(softmax_backward)(op, x, y, dy, dx);
}
void log_softmax(const LogSoftmax& op, const Tensor& x, Tensor& y) { HWY_DYNAMIC_DISPATCH(log_softmax)(op, x, y); }
void log_softmax_backward(const LogSoftmax& op, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {
  HWY_DYNAMIC_DISPATCH(log_softmax_backward)(op, x, y, dy, dx);
}

}  // namespace glia::cpu
#endif
