// Nearest x2 and a 2x2 convolution that pads at the bottom and the right, without the image four times as large, and with a quarter of its
// products. Along one axis
//   y[2i] = (w[0] + w[1]) x[i],   y[2i + 1] = w[0] x[i] + w[1] x[i + 1] = y[2i] + w[1] (x[i + 1] - x[i]).
// With R and C for the differences to the next row and column (behind the last are zeros), a pixel's four results are sums of
//   P = (all w) x,   A = (w[1][0] + w[1][1]) R x,   B = (w[0][1] + w[1][1]) C x,   D = w[1][1] R C x:
//   y[2i, 2j] = P,   y[2i + 1, 2j] = P + A,   y[2i, 2j + 1] = P + B,   y[2i + 1, 2j + 1] = P + A + B + D.
// Strips of pixels take all three steps, differences, products and sums, while they are in the cache. Backward is the adjoint of each.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/upsample_conv.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <limits>

#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/gemm.h"
#include "kernels/upsample_conv.h"
#include "tensor/parallel.h"

#ifndef GLIA_KERNELS_CPU_UPSAMPLE_CONV
#define GLIA_KERNELS_CPU_UPSAMPLE_CONV
namespace glia::cpu {
namespace {

struct UpsampleSizes {
  int64_t n, h, w, c, k;  // x, and the results' channels
  int64_t pixels() const { return n * h * w; }
};

struct Place {
  int64_t row, column, count;  // of pixels of one row of all images' rows, and how many of the strip are in it
};
// The parts of rows that pixels [begin, end) of all images are.
template <class F>
void for_each_row(const UpsampleSizes& z, int64_t begin, int64_t end, F&& f) {
  for (int64_t i = begin; i < end;) {
    const Place at{i / z.w, i % z.w, std::min(z.w - i % z.w, end - i)};
    f(at, i - begin);
    i += at.count;
  }
}

}  // namespace
}  // namespace glia::cpu
#endif

// Plain loops that the compiler vectorises once per SIMD target.
HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

// R x, C x and R C x of pixels [begin, end), each at its place among `stride` floats.
void differences(const UpsampleSizes& z, const float* x, int64_t begin, int64_t end, float* to, int64_t stride) {
  const int64_t c = z.c;
  for_each_row(z, begin, end, [&](const Place& at, int64_t first) {
    const bool below = (at.row + 1) % z.h != 0;
    for (int64_t q = 0; q < at.count; ++q) {
      const bool right = at.column + q + 1 < z.w;
      const float* HWY_RESTRICT here = x + (at.row * z.w + at.column + q) * c;
      float* HWY_RESTRICT a = to + (first + q) * c;
      float* HWY_RESTRICT b = a + stride;
      float* HWY_RESTRICT d = b + stride;
      const float* HWY_RESTRICT next = here + c;
      const float* HWY_RESTRICT under = here + z.w * c;
      if (below && right) {
        for (int64_t i = 0; i < c; ++i) {
          const float right_difference = next[i] - here[i];
          a[i] = under[i] - here[i];
          b[i] = right_difference;
          d[i] = (under[c + i] - under[i]) - right_difference;
        }
      } else {
        for (int64_t i = 0; i < c; ++i) {
          const float r = right ? next[i] : 0.0f, u = below ? under[i] : 0.0f;
          a[i] = u - here[i];
          b[i] = r - here[i];
          d[i] = -u - (r - here[i]);
        }
      }
    }
  });
}

// The results of pixels [begin, end) from P, A, B and D, which are `stride` floats apart.
void sum_results(const UpsampleSizes& z, const float* from, int64_t stride, bool relu, int64_t begin, int64_t end, float* y) {
  const int64_t k = z.k;
  const float floor = relu ? 0.0f : -std::numeric_limits<float>::infinity();
  for_each_row(z, begin, end, [&](const Place& at, int64_t first) {
    for (int64_t q = 0; q < at.count; ++q) {
      const float* HWY_RESTRICT p = from + (first + q) * k;
      const float* HWY_RESTRICT a = p + stride;
      const float* HWY_RESTRICT b = a + stride;
      const float* HWY_RESTRICT d = b + stride;
      float* HWY_RESTRICT top = y + (4 * at.row * z.w + 2 * (at.column + q)) * k;
      float* HWY_RESTRICT bottom = top + 2 * z.w * k;
      for (int64_t j = 0; j < k; ++j) {
        const float pa = p[j] + a[j], pb = p[j] + b[j], all = pa + (b[j] + d[j]);
        top[j] = p[j] < floor ? floor : p[j];  // a NaN is not below zero and stays
        top[k + j] = pb < floor ? floor : pb;
        bottom[j] = pa < floor ? floor : pa;
        bottom[k + j] = all < floor ? floor : all;
      }
    }
  });
}

// The adjoints of both: of the gradient dy of the results, for pixels [begin, end), what multiplies the four filters: (pixel, filter, k).
void adjoint(const UpsampleSizes& z, const float* dy, int64_t begin, int64_t end, float* to) {
  const int64_t k = z.k, line = 2 * z.w * k;
  for_each_row(z, begin, end, [&](const Place& at, int64_t first) {
    const bool above = at.row % z.h != 0;
    for (int64_t q = 0; q < at.count; ++q) {
      const bool left = at.column + q > 0;
      const float* HWY_RESTRICT top = dy + (4 * at.row * z.w + 2 * (at.column + q)) * k;
      const float* HWY_RESTRICT bottom = top + line;
      const float* HWY_RESTRICT up = above ? top - line : top;  // the lower row of the pixel above
      const float *before_top = left ? top - k : top, *before_bottom = left ? bottom - k : bottom,
                  *before_up = left ? up - k : up;
      float* HWY_RESTRICT p = to + (first + q) * 4 * k;
      if (above && left) {
        for (int64_t j = 0; j < k; ++j) {
          const float right = top[k + j] + bottom[k + j], under = bottom[j] + bottom[k + j];
          p[j] = top[j] + bottom[j] + right;
          p[k + j] = (up[j] + up[k + j]) - under;
          p[2 * k + j] = (before_top[j] + before_bottom[j]) - right;
          p[3 * k + j] = (before_up[j] - up[k + j]) - (before_bottom[j] - bottom[k + j]);
        }
      } else {
        for (int64_t j = 0; j < k; ++j) {
          const float right = top[k + j] + bottom[k + j], under = bottom[j] + bottom[k + j];
          p[j] = top[j] + bottom[j] + right;
          p[k + j] = (above ? up[j] + up[k + j] : 0.0f) - under;
          p[2 * k + j] = (left ? before_top[j] + before_bottom[j] : 0.0f) - right;
          p[3 * k + j] = (above && left ? before_up[j] : 0.0f) - (above ? up[k + j] : 0.0f) - (left ? before_bottom[j] : 0.0f) +
                         bottom[k + j];
        }
      }
    }
  });
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {
namespace {

HWY_EXPORT(differences);
HWY_EXPORT(sum_results);
HWY_EXPORT(adjoint);

bool fits(const UpsampleConv2d& op, const Tensor& w) {
  return w.dim(1) == 2 && w.dim(2) == 2 && op.conv.pad == std::array<int64_t, 4>{0, 0, 1, 1};
}

UpsampleSizes sizes(const Tensor& x, const Tensor& w) { return {x.dim(0), x.dim(1), x.dim(2), x.dim(3), w.dim(0)}; }

// (K, 2, 2, C) -> the four filters (4, K, C).
Tensor four_filters(const Tensor& w) {
  const int64_t k = w.dim(0), c = w.dim(3);
  const Tensor filters({4, k, c});
  parallel_for(k, 16, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      const float* from = w.data<float>() + o * 4 * c;  // w[0][0], w[0][1], w[1][0], w[1][1]
      float* to = filters.data<float>() + o * c;
      for (int64_t i = 0; i < c; ++i) {
        const float corner = from[3 * c + i], low = from[2 * c + i] + corner;
        to[i] = (from[i] + from[c + i]) + low;
        to[k * c + i] = low;
        to[2 * k * c + i] = from[c + i] + corner;
        to[3 * k * c + i] = corner;
      }
    }
  });
  return filters;
}

// The gradient of the four filters -> that of w.
void fold(const Tensor& gradient, int64_t k, int64_t c, float* dw) {
  parallel_for(k, 16, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      const float* from = gradient.data<float>() + o * c;
      float* to = dw + o * 4 * c;
      for (int64_t i = 0; i < c; ++i) {
        const float all = from[i], low = all + from[k * c + i], right = from[2 * k * c + i];
        to[i] = all;
        to[c + i] = all + right;
        to[2 * c + i] = low;
        to[3 * c + i] = low + right + from[3 * k * c + i];
      }
    }
  });
}

// The four products of `pixels` pixels: x is multiplied where it lies, its differences from `from`.
std::array<ImplicitGemm, 4> products(const UpsampleSizes& z, const float* x, const float* from, int64_t pixels,
                                     const float* filters, const float* bias, float* to) {
  std::array<ImplicitGemm, 4> problems;
  for (int64_t e = 0; e < 4; ++e)
    problems[size_t(e)] = {.a = e == 0 ? x : from + (e - 1) * pixels * z.c,
                           .w = pixels,
                           .a_pixel = z.c,
                           .taps = {{}},
                           .inner = z.c,
                           .b = filters + e * z.k * z.c,
                           .b_inner = 1,
                           .b_column = z.c,
                           .d = to + e * pixels * z.k,
                           .q = pixels,
                           .columns = z.k,
                           .d_pixel = z.k,
                           .epilogue = {.bias = e == 0 ? bias : nullptr}};
  return problems;
}

}  // namespace

void upsample_conv2d(const UpsampleConv2d& op, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y) {
  if (!fits(op, w)) return glia::upsample_conv2d(op, x, w, bias, y);
  const UpsampleSizes z = sizes(x, w);
  const auto pack = [&] {
    const Tensor filters = four_filters(w);
    return packed_panels(products(z, nullptr, nullptr, 0, filters.data<float>(), nullptr, nullptr));
  };
  const Tensor panels = op.conv.packed ? op.conv.packed->get(w, "panels of four filters", pack) : pack();
  // Differences and products of a strip in most of the second-level cache.
  const int64_t floats_of_pixel = 3 * z.c + 4 * z.k;
  const int64_t strip = std::clamp<int64_t>(l2_bytes() * 3 / 5 / (4 * std::max<int64_t>(1, floats_of_pixel)), 32, 1024);
  parallel_for(z.pixels(), strip, [&](int64_t begin, int64_t end) {
    const int64_t pixels = end - begin;
    float* const scratch = thread_scratch(Scratch::strip, pixels * floats_of_pixel);
    float* const sums = scratch + 3 * pixels * z.c;
    HWY_DYNAMIC_DISPATCH(differences)(z, x.data<float>(), begin, end, scratch, pixels * z.c);
    run(products(z, x.data<float>() + begin * z.c, scratch, pixels, nullptr, bias ? bias.data<float>() : nullptr, sums), panels);
    HWY_DYNAMIC_DISPATCH(sum_results)(z, sums, pixels * z.k, op.conv.activation == Activation::relu, begin, end, y.data<float>());
  });
}

void upsample_conv2d_backward(const UpsampleConv2d& op, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y,
                              const Tensor& dy, Tensor* dx, Tensor* dw, Tensor* dbias) {
  if (!fits(op, w)) return glia::upsample_conv2d_backward(op, x, w, bias, y, dy, dx, dw, dbias);
  const UpsampleSizes z = sizes(x, w);
  const Tensor dsum = output_gradient(op.conv.activation, y, Tensor(), dy, dbias, nullptr);
  if (!dx && !dw) return;
  const Tensor filters = dx ? four_filters(w) : Tensor(), gradient = Tensor::zeros({dw ? 4 * z.k : 0, z.c});
  // Strips of 4 MB, which the cores share, so that each product is large.
  const int64_t strip = std::clamp<int64_t>((4 << 20) / (16 * std::max<int64_t>(1, z.k)), 256, 8192);
  const Tensor turned({std::min(strip, z.pixels()), 4 * z.k});
  for (int64_t begin = 0; begin < z.pixels(); begin += strip) {
    const int64_t pixels = std::min(strip, z.pixels() - begin);
    parallel_for(pixels, 64, [&](int64_t from, int64_t to) {
      HWY_DYNAMIC_DISPATCH(adjoint)(z, dsum.data<float>(), begin + from, begin + to, turned.data<float>() + from * 4 * z.k);
    });
    if (dx) {
      const ImplicitGemm m{.a = turned.data<float>(),
                           .w = pixels,
                           .a_pixel = 4 * z.k,
                           .taps = {{}},
                           .inner = 4 * z.k,
                           .b = filters.data<float>(),
                           .b_inner = z.c,
                           .b_column = 1,
                           .d = dx->data<float>() + begin * z.c,
                           .q = pixels,
                           .columns = z.c,
                           .d_pixel = z.c};
      run({&m, 1});
    }
    if (dw) {
      const PixelSum sum{.x = x.data<float>() + begin * z.c,
                         .w = pixels,
                         .x_pixel = z.c,
                         .channels = z.c,
                         .g = turned.data<float>(),
                         .q = pixels,
                         .g_pixel = 4 * z.k,
                         .rows = 4 * z.k,
                         .taps = {{}},
                         .d = gradient.data<float>(),
                         .d_row = z.c,
                         .accumulate = true};
      run({&sum, 1});
    }
  }
  if (dw) fold(gradient, z.k, z.c, dw->data<float>());
}

}  // namespace glia::cpu
#endif
