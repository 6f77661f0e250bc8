// Pooling by vectors of channels. Backward gathers: a task owns rows of dx and looks at every window that touches them, so no two
// tasks write the same element. The 2x2 windows of stride 2, where each input has one window, have loops of their own.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/pool.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <vector>

#include "kernels/cpu/vector-inl.h"
#include "kernels/pool.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

using Mask = hn::Mask<VectorTag>;

// Where x takes the lead from `best`: greater, or NaN.
HWY_INLINE Mask takes(Vector x, Vector best) { return hn::Or(hn::Gt(x, best), hn::IsNaN(x)); }

// Rows in a task of about 32768 elements.
int64_t row_grain(int64_t row_elements) { return std::max<int64_t>(32768 / std::max<int64_t>(row_elements, 1), 1); }

bool is_halving(const PoolGeometry& g) {
  const auto halves = [](const PoolAxis& a) {
    return a.kernel == 2 && a.stride == 2 && a.before == 0 && a.after == 0 && a.out == a.in / 2;
  };
  return halves(g.rows) && halves(g.columns);
}

// Calls body(n, row) for rows of N images, in parallel.
template <class F>
void for_each_row(int64_t n, int64_t rows, int64_t row_elements, F&& body) {
  parallel_for(n * rows, row_grain(row_elements), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i / rows, i % rows);
  });
}

void max_pool_halving(const PoolGeometry& g, const float* x, float* y) {
  const int64_t row = g.columns.in * g.c;
  for_each_row(g.n, g.rows.out, 4 * g.columns.out * g.c, [&](int64_t n, int64_t p) {
    for (int64_t q = 0; q < g.columns.out; ++q) {
      const float* from = x + (n * g.rows.in + 2 * p) * row + 2 * q * g.c;
      float* to = y + ((n * g.rows.out + p) * g.columns.out + q) * g.c;
      for_each_vector(g.c, [&](int64_t c, auto load, auto store) HWY_ATTR {
        Vector best = load(from + c);
        for (const int64_t offset : {g.c, row, row + g.c}) {
          const Vector v = load(from + offset + c);
          best = hn::IfThenElse(takes(v, best), v, best);
        }
        store(best, to + c);
      });
    }
  });
}

// The gradient of a window goes to the one of its four inputs that leads; rows and columns beyond the last window get zeros.
template <bool streaming>
void max_pool_halving_backward(const PoolGeometry& g, const float* x, const float* dy, float* dx) {
  const int64_t row = g.columns.in * g.c;
  for_each_row(g.n, g.rows.out, 4 * g.columns.out * g.c, [&](int64_t n, int64_t p) {
    const int64_t top = (n * g.rows.in + 2 * p) * row;
    for (int64_t q = 0; q < g.columns.out; ++q) {
      const float* from = x + top + 2 * q * g.c;
      const float* gradient = dy + ((n * g.rows.out + p) * g.columns.out + q) * g.c;
      float* to = dx + top + 2 * q * g.c;
      const auto body = [&](int64_t c, auto load, auto store) HWY_ATTR {
        const Vector a = load(from + c), b = load(from + g.c + c), d = load(from + row + c), e = load(from + row + g.c + c);
        const Mask takes_b = takes(b, a);
        const Vector ab = hn::IfThenElse(takes_b, b, a);
        const Mask takes_d = takes(d, ab);
        const Mask takes_e = takes(e, hn::IfThenElse(takes_d, d, ab));
        Vector v = load(gradient + c);
        store(hn::IfThenElseZero(takes_e, v), to + row + g.c + c);
        v = hn::IfThenZeroElse(takes_e, v);
        store(hn::IfThenElseZero(takes_d, v), to + row + c);
        v = hn::IfThenZeroElse(takes_d, v);
        store(hn::IfThenElseZero(takes_b, v), to + g.c + c);
        store(hn::IfThenZeroElse(takes_b, v), to + c);
      };
      if constexpr (streaming) {
        for (int64_t c = 0; c < g.c; c += vector_lanes())
          body(
              c, [](const float* s) HWY_ATTR { return load(s); }, [](Vector v, float* s) HWY_ATTR { store<true>(v, s); });
      } else {
        for_each_vector(g.c, body);
      }
    }
    for (int64_t r = 2 * p; r < 2 * p + 2; ++r)
      std::fill(dx + (n * g.rows.in + r) * row + 2 * g.columns.out * g.c, dx + (n * g.rows.in + r + 1) * row, 0.0f);
    if (p == g.rows.out - 1) std::fill(dx + top + 2 * row, dx + (n + 1) * g.rows.in * row, 0.0f);
    if (streaming) hwy::FlushStream();
  });
}

void max_pool2d(const MaxPool2d& op, const Tensor& tx, Tensor& ty) {
  const PoolGeometry g = pool_geometry(op, tx.shape());
  const float* x = tx.data<float>();
  float* y = ty.data<float>();
  if (is_halving(g)) return max_pool_halving(g, x, y);
  const int64_t row = g.columns.in * g.c;
  for_each_row(g.n, g.rows.out, g.columns.out * g.c, [&](int64_t n, int64_t p) {
    const float* image = x + n * g.rows.in * row;
    for (int64_t q = 0; q < g.columns.out; ++q)
      for_each_vector(g.c, [&](int64_t c, auto load, auto store) HWY_ATTR {
        Vector best = load(image + g.rows.begin(p) * row + g.columns.begin(q) * g.c + c);
        for (int64_t h = g.rows.begin(p); h < g.rows.end(p); ++h)
          for (int64_t w = g.columns.begin(q); w < g.columns.end(q); ++w) {
            const Vector v = load(image + h * row + w * g.c + c);
            best = hn::IfThenElse(takes(v, best), v, best);
          }
        store(best, y + ((n * g.rows.out + p) * g.columns.out + q) * g.c + c);
      });
  });
}

// Adds the gradients of the windows that touch rows [top, bottom) of image n to those rows. A window's leader is kept as the
// number of its tap, in a float vector.
void scatter_to_rows(const PoolGeometry& g, const float* x, const float* dy, float* dx, int64_t n, int64_t top, int64_t bottom) {
  const int64_t row = g.columns.in * g.c;
  const float* image = x + n * g.rows.in * row;
  float* gradient = dx + n * g.rows.in * row;
  std::fill(gradient + top * row, gradient + bottom * row, 0.0f);
  for (int64_t p = g.rows.first(top); p < g.rows.last(bottom - 1); ++p)
    for (int64_t q = 0; q < g.columns.out; ++q) {
      const int64_t h0 = g.rows.begin(p), h1 = g.rows.end(p), w0 = g.columns.begin(q), w1 = g.columns.end(q);
      const float* source = dy + ((n * g.rows.out + p) * g.columns.out + q) * g.c;
      for_each_vector(g.c, [&](int64_t c, auto load, auto store) HWY_ATTR {
        Vector best = load(image + h0 * row + w0 * g.c + c), leader = splat(0);
        for (int64_t h = h0; h < h1; ++h)
          for (int64_t w = w0; w < w1; ++w) {
            const Vector v = load(image + h * row + w * g.c + c);
            const Mask take = takes(v, best);
            best = hn::IfThenElse(take, v, best);
            leader = hn::IfThenElse(take, splat(double((h - h0) * (w1 - w0) + w - w0)), leader);
          }
        const Vector v = load(source + c);
        for (int64_t h = std::max(h0, top); h < std::min(h1, bottom); ++h)
          for (int64_t w = w0; w < w1; ++w) {
            float* to = gradient + h * row + w * g.c + c;
            const Mask leads = hn::Eq(leader, splat(double((h - h0) * (w1 - w0) + w - w0)));
            store(hn::Add(load(to), hn::IfThenElseZero(leads, v)), to);
          }
      });
    }
}

void max_pool2d_backward(const MaxPool2d& op, const Tensor& tx, const Tensor&, const Tensor& tdy, Tensor* tdx) {
  if (!tdx) return;
  const PoolGeometry g = pool_geometry(op, tx.shape());
  const float *x = tx.data<float>(), *dy = tdy.data<float>();
  float* dx = tdx->data<float>();
  if (is_halving(g)) {
    const bool streaming = worth_streaming(dx, tx.size()) && g.c % vector_lanes() == 0;
    return (streaming ? max_pool_halving_backward<true> : max_pool_halving_backward<false>)(g, x, dy, dx);
  }
  // At least as many rows as a window, so that few windows are looked at twice.
  const int64_t rows = std::max(row_grain(g.columns.in * g.c), 4 * g.rows.kernel), blocks = num_chunks(g.rows.in, rows);
  parallel_for(g.n * blocks, 1, [&](int64_t i, int64_t) {
    const int64_t top = i % blocks * rows;
    scatter_to_rows(g, x, dy, dx, i / blocks, top, std::min(top + rows, g.rows.in));
  });
}

void avg_pool2d(const AvgPool2d& op, const Tensor& tx, Tensor& ty) {
  const PoolGeometry g = pool_geometry(op, tx.shape());
  const int64_t row = g.columns.in * g.c;
  for_each_row(g.n, g.rows.out, g.columns.out * g.c, [&](int64_t n, int64_t p) {
    const float* image = tx.data<float>() + n * g.rows.in * row;
    for (int64_t q = 0; q < g.columns.out; ++q) {
      const Vector inverse = splat(1 / double(avg_pool_count(op, g, p, q)));
      for_each_vector(g.c, [&](int64_t c, auto load, auto store) HWY_ATTR {
        Vector sum = splat(0);
        for (int64_t h = g.rows.begin(p); h < g.rows.end(p); ++h)
          for (int64_t w = g.columns.begin(q); w < g.columns.end(q); ++w) sum = hn::Add(sum, load(image + h * row + w * g.c + c));
        store(hn::Mul(sum, inverse), ty.data<float>() + ((n * g.rows.out + p) * g.columns.out + q) * g.c + c);
      });
    }
  });
}

void avg_pool2d_backward(const AvgPool2d& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (!dx) return;
  const PoolGeometry g = pool_geometry(op, dx->shape());
  std::vector<float> inverse;  // (P, Q)
  for (int64_t p = 0; p < g.rows.out; ++p)
    for (int64_t q = 0; q < g.columns.out; ++q) inverse.push_back(float(1 / double(avg_pool_count(op, g, p, q))));
  for_each_row(g.n, g.rows.in, g.columns.in * g.c, [&](int64_t n, int64_t h) {
    for (int64_t w = 0; w < g.columns.in; ++w)
      for_each_vector(g.c, [&](int64_t c, auto load, auto store) HWY_ATTR {
        Vector sum = splat(0);
        for (int64_t p = g.rows.first(h); p < g.rows.last(h); ++p)
          for (int64_t q = g.columns.first(w); q < g.columns.last(w); ++q)
            sum = hn::MulAdd(splat(inverse[size_t(p * g.columns.out + q)]),
                             load(dy.data<float>() + ((n * g.rows.out + p) * g.columns.out + q) * g.c + c), sum);
        store(sum, dx->data<float>() + ((n * g.rows.in + h) * g.columns.in + w) * g.c + c);
      });
  });
}

void global_avg_pool(const GlobalAvgPool&, const Tensor& x, Tensor& y) {
  const int64_t n = x.dim(0), pixels = x.dim(1) * x.dim(2), c = x.dim(3);
  const int64_t grain = row_grain(c), chunks = num_chunks(pixels, grain);
  std::vector<float> partial(size_t(n * chunks * c));
  parallel_for(n * chunks, 1, [&](int64_t i, int64_t) {
    float* sum = partial.data() + i * c;
    const int64_t end = std::min((i % chunks + 1) * grain, pixels);
    for (int64_t p = i % chunks * grain; p < end; ++p)
      map_span<false>(
          c, sum, [](Vector a, Vector b) HWY_ATTR { return hn::Add(a, b); }, sum,
          x.data<float>() + (i / chunks * pixels + p) * c);
  });
  for (int64_t i = 0; i < n * c; ++i) {
    double sum = 0;
    for (int64_t k = 0; k < chunks; ++k) sum += double(partial[size_t((i / c * chunks + k) * c + i % c)]);
    y.data<float>()[i] = float(sum / double(pixels));
  }
}

void global_avg_pool_backward(const GlobalAvgPool&, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (!dx) return;
  const int64_t n = dx->dim(0), pixels = dx->dim(1) * dx->dim(2), c = dx->dim(3);
  const Vector inverse = splat(1 / double(pixels));
  for_each_row(n, pixels, c, [&](int64_t image, int64_t p) {
    map_span<false>(
        c, dx->data<float>() + (image * pixels + p) * c, [&](Vector g) HWY_ATTR { return hn::Mul(g, inverse); },
        dy.data<float>() + image * c);
  });
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(max_pool2d);
HWY_EXPORT(max_pool2d_backward);
HWY_EXPORT(avg_pool2d);
HWY_EXPORT(avg_pool2d_backward);
HWY_EXPORT(global_avg_pool);
HWY_EXPORT(global_avg_pool_backward);

void max_pool2d(const MaxPool2d& op, const Tensor& x, Tensor& y) { HWY_DYNAMIC_DISPATCH(max_pool2d)(op, x, y); }
void max_pool2d_backward(const MaxPool2d& op, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {
  HWY_DYNAMIC_DISPATCH(max_pool2d_backward)(op, x, y, dy, dx);
}
void avg_pool2d(const AvgPool2d& op, const Tensor& x, Tensor& y) { HWY_DYNAMIC_DISPATCH(avg_pool2d)(op, x, y); }
void avg_pool2d_backward(const AvgPool2d& op, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {
  HWY_DYNAMIC_DISPATCH(avg_pool2d_backward)(op, x, y, dy, dx);
}
void global_avg_pool(const GlobalAvgPool& op, const Tensor& x, Tensor& y) { HWY_DYNAMIC_DISPATCH(global_avg_pool)(op, x, y); }
void global_avg_pool_backward(const GlobalAvgPool& op, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {
  HWY_DYNAMIC_DISPATCH(global_avg_pool_backward)(op, x, y, dy, dx);
}

}  // namespace glia::cpu
#endif
