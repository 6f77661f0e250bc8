// Nearest x2 and a 2x2 convolution that pads at the bottom and the right, without the image four times as large. Along one axis
//   y[2i] = (w[0] + w[1]) x[i],   y[2i + 1] = w[0] x[i] + w[1] x[i + 1]:
// the transposed convolution with stride 2 of the three-element filter v = {w[1], w[0] + w[1], w[0]}, whose element r leads from x[i] to
// y[2i + r - 1]. It takes 9 products for every 16 of the convolution of the doubled image.
#include "kernels/upsample_conv.h"

#include <algorithm>
#include <array>
#include <vector>

#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/gemm.h"
#include "tensor/parallel.h"

namespace glia::cpu {
namespace {

// The elements of v that element `a` of w is part of.
constexpr std::array<std::array<int64_t, 2>, 2> parts{{{1, 2}, {0, 1}}};

struct Sizes {
  int64_t n, h, w, c, k;
  Sizes(const Tensor& x, const Tensor& filter) : n(x.dim(0)), h(x.dim(1)), w(x.dim(2)), c(x.dim(3)), k(filter.dim(0)) {}
};

bool fits(const UpsampleConv2d& op, const Tensor& w) {
  return w.dim(1) == 2 && w.dim(2) == 2 && op.conv.pad == std::array<int64_t, 4>{0, 0, 1, 1};
}

// (K, 2, 2, C) -> v as (K, 3, 3, C).
Tensor three_by_three(const Tensor& w) {
  const int64_t k = w.dim(0), c = w.dim(3);
  const Tensor v = Tensor::zeros({k, 3, 3, c}, DType::float32);
  parallel_for(k, 1, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o)
      for (int64_t a = 0; a < 2; ++a)
        for (int64_t b = 0; b < 2; ++b) {
          const float* from = w.data<float>() + ((o * 2 + a) * 2 + b) * c;
          for (const int64_t r : parts[size_t(a)])
            for (const int64_t s : parts[size_t(b)]) {
              float* to = v.data<float>() + ((o * 3 + r) * 3 + s) * c;
              for (int64_t i = 0; i < c; ++i) to[i] += from[i];
            }
        }
  });
  return v;
}

// The gradient of v as (C, 3, 3, K) -> that of w (K, 2, 2, C).
void fold(const float* dv, int64_t c, int64_t k, float* dw) {
  constexpr int64_t block = 16;
  parallel_for((c + block - 1) / block, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> sums(static_cast<size_t>(block * 4 * k));
    for (int64_t first = begin * block; first < std::min(c, end * block); first += block) {
      const int64_t count = std::min(block, c - first);
      std::fill(sums.begin(), sums.end(), 0.0f);
      for (int64_t i = 0; i < count; ++i)
        for (int64_t ab = 0; ab < 4; ++ab)
          for (const int64_t r : parts[size_t(ab / 2)])
            for (const int64_t s : parts[size_t(ab % 2)]) {
              const float* from = dv + (((first + i) * 3 + r) * 3 + s) * k;
              float* to = sums.data() + (i * 4 + ab) * k;
              for (int64_t o = 0; o < k; ++o) to[o] += from[o];
            }
      for (int64_t o = 0; o < k; ++o)
        for (int64_t ab = 0; ab < 4; ++ab)
          for (int64_t i = 0; i < count; ++i) dw[(o * 4 + ab) * c + first + i] = sums[size_t((i * 4 + ab) * k + o)];
    }
  });
}

std::vector<Tap> all_taps(int64_t channels) {
  std::vector<Tap> taps;
  for (int64_t r = 0; r < 3; ++r)
    for (int64_t s = 0; s < 3; ++s) taps.push_back({r - 1, s - 1, (r * 3 + s) * channels});
  return taps;
}

}  // namespace

void upsample_conv2d(const UpsampleConv2d& op, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y) {
  if (!fits(op, w)) return glia::upsample_conv2d(op, x, w, bias, y);
  const Sizes z(x, w);
  struct PhaseTap {
    int64_t d, r;
  };
  const std::array<std::vector<PhaseTap>, 2> taps_of_phase{{{{0, 1}}, {{0, 2}, {1, 0}}}};
  std::vector<ImplicitGemm> problems;
  for (int64_t i = 0; i < 2; ++i)
    for (int64_t j = 0; j < 2; ++j) {
      ImplicitGemm m{.a = x.data<float>(),
                     .images = z.n,
                     .h = z.h,
                     .w = z.w,
                     .a_pixel = z.c,
                     .inner = z.c,
                     .b_inner = 1,
                     .b_column = 9 * z.c,
                     .d = y.data<float>() + (i * 2 * z.w + j) * z.k,
                     .p = z.h,
                     .q = z.w,
                     .columns = z.k,
                     .d_image = 4 * z.h * z.w * z.k,
                     .d_row = 4 * z.w * z.k,
                     .d_pixel = 2 * z.k,
                     .epilogue = {.bias = bias ? bias.data<float>() : nullptr, .relu = op.conv.activation == Activation::relu}};
      for (const auto& [dh, r] : taps_of_phase[size_t(i)])
        for (const auto& [dw, s] : taps_of_phase[size_t(j)]) m.taps.push_back({dh, dw, (r * 3 + s) * z.c});
      problems.push_back(std::move(m));
    }
  const auto use_filter = [&](const Tensor& v) {
    for (ImplicitGemm& m : problems) m.b = v.data<float>();
  };
  if (op.conv.packed) {
    const auto pack = [&] {
      const Tensor v = three_by_three(w);
      use_filter(v);
      return packed_panels(problems);
    };
    run(problems, op.conv.packed->get(w, "panels of three by three", pack));
  } else {
    const Tensor v = three_by_three(w);
    use_filter(v);
    run(problems);
  }
}

void upsample_conv2d_backward(const UpsampleConv2d& op, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y,
                              const Tensor& dy, Tensor* dx, Tensor* dw, Tensor* dbias) {
  if (!fits(op, w)) return glia::upsample_conv2d_backward(op, x, w, bias, y, dy, dx, dw, dbias);
  const Sizes z(x, w);
  const Tensor dsum = output_gradient(op.conv.activation, y, Tensor(), dy, dbias, nullptr);
  if (dx) {
    const Tensor v = three_by_three(w);
    const ImplicitGemm m{.a = dsum.data<float>(),
                         .images = z.n,
                         .h = 2 * z.h,
                         .w = 2 * z.w,
                         .a_pixel = z.k,
                         .stride_h = 2,
                         .stride_w = 2,
                         .taps = all_taps(z.c),
                         .inner = z.k,
                         .b = v.data<float>(),
                         .b_inner = 9 * z.c,
                         .b_column = 1,
                         .d = dx->data<float>(),
                         .p = z.h,
                         .q = z.w,
                         .columns = z.c,
                         .d_image = z.h * z.w * z.c,
                         .d_row = z.w * z.c,
                         .d_pixel = z.c};
    run({&m, 1});
  }
  if (dw) {
    const Tensor dv({z.c, 3, 3, z.k});
    const PixelSum sum{.x = dsum.data<float>(),
                       .images = z.n,
                       .h = 2 * z.h,
                       .w = 2 * z.w,
                       .x_pixel = z.k,
                       .channels = z.k,
                       .g = x.data<float>(),
                       .p = z.h,
                       .q = z.w,
                       .g_pixel = z.c,
                       .rows = z.c,
                       .stride_h = 2,
                       .stride_w = 2,
                       .taps = all_taps(z.k),
                       .d = dv.data<float>(),
                       .d_row = 9 * z.k};
    run({&sum, 1});
    fold(dv.data<float>(), z.c, z.k, dw->data<float>());
  }
}

}  // namespace glia::cpu
