// The passes of a convolution as Winograd's, and when that pays.
#include "kernels/cpu/winograd.h"

namespace glia::cpu {

bool winograd_applicable(const ConvGeometry& g, ConvPass) {
  return precision() != Precision::exact && g.r == 3 && g.s == 3 && g.stride == std::array<int64_t, 2>{1, 1} &&
         g.dilation == std::array<int64_t, 2>{1, 1} && g.groups == 1 && g.before[0] <= 2 && g.before[1] <= 2;
}

// Both costs are in multiply-adds of the direct product, whose kernels run near the machine's peak. A tile of 16 results takes 36 products
// per pair of channels, in panels of 32 output channels (input channels in the gradient of the filter), at about 0.85 of the peak; 36
// elements of each channel of pixels and results are transformed and pass through the caches; and so are those of each filter, once. The
// factors are fitted to shapes from 16 channels on 256x256 to 1024 on 16x16 and 256 on 8x8 (docs/performance.md).
std::optional<double> winograd_gain(const ConvGeometry& g, ConvPass pass) {
  if (!winograd_applicable(g, pass) || g.c < 16 || g.k < 16) return std::nullopt;
  struct Factors {
    double products, pixels, filters;
  };
  const Factors f = pass == ConvPass::weight_gradient ? Factors{1.1, 5, 15} : Factors{1.2, 7, 8};
  const bool forward = pass == ConvPass::forward;
  const double tiles = double(g.n) * double((g.p + 3) / 4) * double((g.q + 3) / 4);
  const double inner = double(forward ? g.c : g.k), outer = double(((forward ? g.k : g.c) + 31) / 32 * 32);
  const double direct = 9.0 * double(g.n * g.p * g.q) * double(g.c * g.k);
  const double winograd =
      36 * (f.products * tiles * inner * outer + f.pixels * tiles * (inner + outer) + f.filters * inner * outer);
  return direct / winograd;
}

bool winograd_pays(const ConvGeometry& g, ConvPass pass) {
  const std::optional<double> gain = winograd_gain(g, pass);
  return gain && *gain > least_winograd_gain;
}

namespace {

WinogradConv forward_of(const ConvGeometry& g, const float* w) {
  return {.images = g.n,
          .h = g.h,
          .w = g.w,
          .c = g.c,
          .top = g.before[0],
          .left = g.before[1],
          .filter = w,
          .f_row = 3 * g.c,
          .f_column = g.c,
          .f_inner = 1,
          .f_outer = 9 * g.c,
          .p = g.p,
          .q = g.q,
          .k = g.k};
}

}  // namespace

const char* winograd_packed_form(const ConvGeometry& g) { return packed_form(forward_of(g, nullptr)); }
Tensor winograd_pack(const ConvGeometry& g, const float* w) { return packed_filter(forward_of(g, w)); }

void winograd_forward(const ConvGeometry& g, Pixels<const float> x, const float* w, const Tensor& packed, const ConvEpilogue& e,
                      float* y) {
  WinogradConv conv = forward_of(g, w);
  conv.x = x, conv.y = {y, g.k}, conv.epilogue = e;
  run(conv, packed);
}
void winograd_forward(const ConvGeometry& g, const float* x, const float* w, const Tensor& packed, const ConvEpilogue& e,
                      float* y) {
  winograd_forward(g, Pixels<const float>{x, g.c}, w, packed, e, y);
}

// The same with the filter turned by 180 degrees and its channels exchanged.
void winograd_data_gradient(const ConvGeometry& g, const float* dy, const float* w, const ConvEpilogue& e, Pixels<float> dx) {
  const WinogradConv conv{.x = {dy, g.k},
                          .images = g.n,
                          .h = g.p,
                          .w = g.q,
                          .c = g.k,
                          .top = 2 - g.before[0],
                          .left = 2 - g.before[1],
                          .filter = w + 8 * g.c,
                          .f_row = -3 * g.c,
                          .f_column = -g.c,
                          .f_inner = 9 * g.c,
                          .f_outer = 1,
                          .y = dx,
                          .p = g.h,
                          .q = g.w,
                          .k = g.c,
                          .epilogue = e};
  run(conv, Tensor());
}
void winograd_data_gradient(const ConvGeometry& g, const float* dy, const float* w, const ConvEpilogue& e, float* dx) {
  winograd_data_gradient(g, dy, w, e, Pixels<float>{.first = dx, .split = g.c, .over = {e.over, false}});
}

void winograd_weight_gradient(const ConvGeometry& g, Pixels<const float> x, const float* dy, float* dw) {
  run(WinogradWeights{.x = x,
                      .images = g.n,
                      .h = g.h,
                      .w = g.w,
                      .c = g.c,
                      .top = g.before[0],
                      .left = g.before[1],
                      .g = dy,
                      .p = g.p,
                      .q = g.q,
                      .k = g.k,
                      .dw = dw});
}
void winograd_weight_gradient(const ConvGeometry& g, const float* x, const float* dy, float* dw) {
  winograd_weight_gradient(g, Pixels<const float>{x, g.c}, dy, dw);
}

}  // namespace glia::cpu
