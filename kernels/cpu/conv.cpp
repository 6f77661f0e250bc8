// The convolutions of the CPU: what each pass is as a matrix product (gemm.h), and which algorithm does it.
#include "kernels/conv.h"

#include <algorithm>
#include <atomic>

#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/winograd.h"

namespace glia::cpu {
namespace {

bool is_pointwise(const ConvGeometry& g) {  // a matrix product of all pixels
  return g.r == 1 && g.s == 1 && g.stride == std::array<int64_t, 2>{1, 1} && g.p == g.h && g.q == g.w && g.before[0] == 0 &&
         g.before[1] == 0;
}

std::vector<Tap> forward_taps(const ConvGeometry& g) {
  std::vector<Tap> taps;
  for (int64_t r = 0; r < g.r; ++r)
    for (int64_t s = 0; s < g.s; ++s)
      taps.push_back({r * g.dilation[0] - g.before[0], s * g.dilation[1] - g.before[1], (r * g.s + s) * g.c_group()});
  return taps;
}

Epilogue group_epilogue(const ConvEpilogue& e, int64_t first, int64_t residual_first) {
  return {.scale = e.scale ? e.scale + first : nullptr,
          .bias = e.bias ? e.bias + first : nullptr,
          .residual = e.residual ? e.residual + residual_first : nullptr,
          .relu = e.relu};
}

std::vector<ImplicitGemm> forward_problems(const ConvGeometry& g, const float* x, const float* w, const ConvEpilogue& e,
                                           float* y) {
  std::vector<ImplicitGemm> problems;
  for (int64_t group = 0; group < g.groups; ++group) {
    const int64_t k = group * g.k_group(), filter = g.r * g.s * g.c_group();
    ImplicitGemm m{.a = x + group * g.c_group(),
                   .images = g.n,
                   .h = g.h,
                   .w = g.w,
                   .a_pixel = g.c,
                   .stride_h = g.stride[0],
                   .stride_w = g.stride[1],
                   .taps = forward_taps(g),
                   .inner = g.c_group(),
                   .b = w + k * filter,
                   .b_inner = 1,
                   .b_column = filter,
                   .d = y + k,
                   .p = g.p,
                   .q = g.q,
                   .columns = g.k_group(),
                   .d_image = g.p * g.q * g.k,
                   .d_row = g.q * g.k,
                   .d_pixel = g.k,
                   .epilogue = group_epilogue(e, k, k)};
    if (is_pointwise(g)) m.images = m.h = m.p = 1, m.w = m.q = g.n * g.h * g.w;
    problems.push_back(std::move(m));
  }
  return problems;
}

// To pack a number takes about as long as 64 multiply-adds, and each of at least two parts of the pixels packs all: 3 % of the work at this
// many pixels, and less where there are more.
const char* gemm_packed_form(const ConvGeometry& g) { return g.n * g.p * g.q <= 4096 ? "panels" : nullptr; }

Tensor gemm_pack(const ConvGeometry& g, const float* w) { return packed_panels(forward_problems(g, nullptr, w, {}, nullptr)); }

void gemm_forward(const ConvGeometry& g, const float* x, const float* w, const Tensor& packed, const ConvEpilogue& e, float* y) {
  run(forward_problems(g, x, w, e, y), packed);
}

// Row h = i stride + phase of the image meets filter row r in result row p = i + dh, if at all: h + before = p stride + r dilation.
struct PhaseTap {
  int64_t d, r;
};
std::vector<PhaseTap> phase_taps(const ConvGeometry& g, size_t axis, int64_t phase) {
  std::vector<PhaseTap> taps;
  const int64_t size = axis == 0 ? g.r : g.s;
  for (int64_t r = size - 1; r >= 0; --r) {  // ascending d
    const int64_t t = phase + g.before[axis] - r * g.dilation[axis];
    if (t % g.stride[axis] == 0) taps.push_back({t / g.stride[axis], r});
  }
  return taps;
}

// Pixels of the image by their phase against the stride: each phase sees a stride of 1 and a part of the filter.
void gemm_data_gradient(const ConvGeometry& g, const float* dy, const float* w, const ConvEpilogue& e, float* dx) {
  std::vector<ImplicitGemm> problems;
  for (int64_t group = 0; group < g.groups; ++group)
    for (int64_t i = 0; i < std::min(g.stride[0], g.h); ++i)
      for (int64_t j = 0; j < std::min(g.stride[1], g.w); ++j) {
        const int64_t c = group * g.c_group(), filter = g.r * g.s * g.c_group(), first = (i * g.w + j) * g.c + c;
        ImplicitGemm m{.a = dy + group * g.k_group(),
                       .images = g.n,
                       .h = g.p,
                       .w = g.q,
                       .a_pixel = g.k,
                       .inner = g.k_group(),
                       .b = w + group * g.k_group() * filter,
                       .b_inner = filter,
                       .b_column = 1,
                       .d = dx + first,
                       .p = (g.h - i + g.stride[0] - 1) / g.stride[0],
                       .q = (g.w - j + g.stride[1] - 1) / g.stride[1],
                       .columns = g.c_group(),
                       .d_image = g.h * g.w * g.c,
                       .d_row = g.stride[0] * g.w * g.c,
                       .d_pixel = g.stride[1] * g.c,
                       .epilogue = group_epilogue(e, c, first)};
        for (const auto& [dh, r] : phase_taps(g, 0, i))
          for (const auto& [dw, s] : phase_taps(g, 1, j)) m.taps.push_back({dh, dw, (r * g.s + s) * g.c_group()});
        if (is_pointwise(g)) m.images = m.h = m.p = 1, m.w = m.q = g.n * g.h * g.w;
        problems.push_back(std::move(m));
      }
  run(problems);
}

// Pixels whose neighbours do not matter, as rows of up to 128, which suit the first-level cache: the greatest divisor of their number,
// or the width if that is a poor one.
int64_t row_of_pixels(int64_t pixels, int64_t width) {
  int64_t row = std::min<int64_t>(128, pixels);
  while (row > 0 && pixels % row != 0) --row;
  return row >= 32 ? row : width;
}

void gemm_weight_gradient(const ConvGeometry& g, const float* x, const float* dy, float* dw) {
  std::vector<PixelSum> problems;
  for (int64_t group = 0; group < g.groups; ++group) {
    const int64_t k = group * g.k_group(), filter = g.r * g.s * g.c_group();
    PixelSum sum{.x = x + group * g.c_group(),
                 .images = g.n,
                 .h = g.h,
                 .w = g.w,
                 .x_pixel = g.c,
                 .channels = g.c_group(),
                 .g = dy + k,
                 .p = g.p,
                 .q = g.q,
                 .g_pixel = g.k,
                 .rows = g.k_group(),
                 .stride_h = g.stride[0],
                 .stride_w = g.stride[1],
                 .taps = forward_taps(g),
                 .d = dw + k * filter,
                 .d_row = filter};
    if (is_pointwise(g)) {
      sum.images = 1, sum.w = sum.q = row_of_pixels(g.n * g.h * g.w, g.w);
      sum.h = sum.p = g.n * g.h * g.w / std::max<int64_t>(1, sum.q);
    }
    problems.push_back(std::move(sum));
  }
  run(problems);
}

bool always(const ConvGeometry&, ConvPass) { return true; }

constexpr ConvAlgorithm algorithms[] = {
    {"depthwise", [](const ConvGeometry& g, ConvPass) { return g.groups == g.c && g.groups == g.k && g.c > 1; }, always, nullptr,
     nullptr, depthwise_forward, depthwise_data_gradient, depthwise_weight_gradient},
    {"few_channels", few_channels_applicable, always, nullptr, nullptr, nullptr, nullptr, few_channels_weight_gradient},
    {"few_results", few_results_applicable, always, nullptr, nullptr, nullptr, few_results_data_gradient, nullptr, true},
    {"winograd", winograd_applicable, winograd_pays, winograd_packed_form, winograd_pack, winograd_forward,
     winograd_data_gradient, winograd_weight_gradient, true},
    {"implicit_gemm", always, always, gemm_packed_form, gemm_pack, gemm_forward, gemm_data_gradient, gemm_weight_gradient},
};

std::atomic<const ConvAlgorithm*> forced{nullptr};
std::atomic<std::vector<ConvChoice>*> record{nullptr};

}  // namespace

const ConvAlgorithm& chosen_algorithm(const ConvGeometry& g, ConvPass pass) {
  if (const ConvAlgorithm* wanted = forced.load(); wanted && wanted->applicable(g, pass)) return *wanted;
  const ConvAlgorithm& chosen = *std::find_if(std::begin(algorithms), std::end(algorithms),
                                              [&](const ConvAlgorithm& a) { return a.applicable(g, pass) && a.pays(g, pass); });
  if (std::vector<ConvChoice>* to = record.load()) {
    const auto same = [&](const ConvChoice& c) { return c.geometry == g && c.pass == pass; };
    if (std::none_of(to->begin(), to->end(), same)) to->push_back({g, pass, &chosen});
  }
  return chosen;
}

Tensor packed_filter(const ConvAlgorithm& algorithm, const ConvGeometry& g, const Tensor& w, PackedFilter* kept) {
  const char* form = kept && algorithm.packed_form ? algorithm.packed_form(g) : nullptr;
  return form ? kept->get(w, form, [&] { return algorithm.pack(g, w.data<float>()); }) : Tensor();
}

namespace {

void run_forward(const ConvGeometry& g, const float* x, const Tensor& w, PackedFilter* kept, const ConvEpilogue& e, float* y) {
  const ConvAlgorithm& algorithm = chosen_algorithm(g, ConvPass::forward);
  const Tensor packed = packed_filter(algorithm, g, w, kept);
  algorithm.forward(g, x, w.data<float>(), packed, e, y);
}

const float* data_or_null(const Tensor& t) { return t ? t.data<float>() : nullptr; }

}  // namespace

Tensor output_gradient(Activation activation, const Tensor& y, const Tensor& scale, const Tensor& dy, Tensor* dbias,
                       Tensor* dresidual) {
  const bool masks = activation == Activation::relu;
  OutputGradient pass{.rows = dy.shape().product(0, 3),
                      .k = dy.dim(3),
                      .dy = dy.data<float>(),
                      .y = masks ? y.data<float>() : nullptr,
                      .scale = data_or_null(scale),
                      .masked = dresidual ? dresidual->data<float>() : nullptr,
                      .sums = dbias ? dbias->data<float>() : nullptr};
  Tensor result = dy;
  if (scale) {
    result = Tensor(dy.shape());
    pass.scaled = result.data<float>();
  } else if (masks) {
    result = dresidual ? *dresidual : Tensor(dy.shape());
    pass.masked = result.data<float>();
  }
  if (pass.masked || pass.scaled || pass.sums) run(pass);
  return result;
}

std::span<const ConvAlgorithm> conv_algorithms() { return algorithms; }
void force_conv_algorithm(const ConvAlgorithm* algorithm) { forced.store(algorithm); }
void record_conv_choices(std::vector<ConvChoice>* to) { record.store(to); }

void conv2d(const Conv2d& op, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& scale, const Tensor& residual,
            Tensor& y) {
  const ConvGeometry g = geometry(op, x, w, y);
  const ConvEpilogue e{.scale = data_or_null(scale),
                       .bias = data_or_null(bias),
                       .residual = data_or_null(residual),
                       .relu = op.activation == Activation::relu};
  run_forward(g, x.data<float>(), w, op.packed, e, y.data<float>());
}

void conv2d_backward(const Conv2d& op, const Tensor& x, const Tensor& w, const Tensor&, const Tensor& scale, const Tensor&,
                     const Tensor& y, const Tensor& dy, Tensor* dx, Tensor* dw, Tensor* dbias, Tensor* dscale,
                     Tensor* dresidual) {
  GLIA_CHECK(!dscale, "conv2d: scale is a constant and has no gradient; train an affine layer of its own instead");
  const ConvGeometry g = geometry(op, x, w, dy);
  const Tensor dsum = output_gradient(op.activation, y, scale, dy, dbias, dresidual);
  if (dw)
    chosen_algorithm(g, ConvPass::weight_gradient).weight_gradient(g, x.data<float>(), dsum.data<float>(), dw->data<float>());
  if (!dx) return;
  const ConvAlgorithm& algorithm = chosen_algorithm(g, ConvPass::data_gradient);
  GLIA_CHECK(!op.over[0] || algorithm.overwrites, "conv2d: {} can't write a gradient over the image", algorithm.name);
  algorithm.data_gradient(g, dsum.data<float>(), w.data<float>(), {.over = op.over[0]}, dx->data<float>());
}

void conv_transpose2d(const ConvTranspose2d& op, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y) {
  const ConvGeometry g = geometry(op, x, w, y);
  const ConvEpilogue e{.bias = data_or_null(bias), .relu = op.activation == Activation::relu};
  chosen_algorithm(g, ConvPass::data_gradient).data_gradient(g, x.data<float>(), w.data<float>(), e, y.data<float>());
}

void conv_transpose2d_backward(const ConvTranspose2d& op, const Tensor& x, const Tensor& w, const Tensor&, const Tensor& y,
                               const Tensor& dy, Tensor* dx, Tensor* dw, Tensor* dbias) {
  const ConvGeometry g = geometry(op, x, w, dy);
  const Tensor dsum = output_gradient(op.activation, y, Tensor(), dy, dbias, nullptr);
  if (dx) run_forward(g, dsum.data<float>(), w, nullptr, {}, dx->data<float>());
  if (dw)
    chosen_algorithm(g, ConvPass::weight_gradient).weight_gradient(g, dsum.data<float>(), x.data<float>(), dw->data<float>());
}

}  // namespace glia::cpu

namespace glia {

bool Conv2d::overwrites(const Tensor& x, const Tensor& w, const Tensor&, const Tensor&, const Tensor&, const Tensor& y) const {
  return backward.pick(y.device(), y.dtype()) == cpu::conv2d_backward &&
         cpu::chosen_algorithm(geometry(*this, x, w, y), ConvPass::data_gradient).overwrites;
}

}  // namespace glia
