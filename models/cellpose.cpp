#include "models/cellpose.h"

#include "autograd/operators.h"
#include "autograd/view.h"
#include "kernels/loss.h"

namespace glia {
namespace detail {

CellposeConv::CellposeConv(int64_t in, int64_t out, int64_t kernel, bool relu)
    : norm_(in, {.momentum = 0.05}),
      conv_({.in = in, .out = out, .kernel = kernel, .pad = nn::same_pad(kernel)}),
      activation_(relu ? Activation::relu : Activation::none) {
  add("0", norm_);
  add(relu ? "2" : "1", conv_);  // PyTorch counts the ReLU
}

Tensor CellposeConv::operator()(const Tensor& x, const Tensor& residual) { return conv_(norm_(x, activation_), residual); }

Tensor CellposeConv::then(CellposeConv& next, const Tensor& x, const Tensor& residual) {
  return next.conv_(conv_(norm_(x, activation_), next.norm_, next.activation_), residual);
}

CellposeStyledConv::CellposeStyledConv(int64_t channels, int64_t style) : conv_(channels, channels, 3), full_(style, channels) {
  add("conv", conv_);
  add("full", full_);
}

Tensor CellposeStyledConv::operator()(const Tensor& x, const Tensor& style, const Tensor& residual) {
  return conv_(x + reshape(full_(style), {x.dim(0), 1, 1, x.dim(3)}), residual);
}

CellposeDown::CellposeDown(int64_t in, int64_t out) : proj_(in, out, 1, false) {
  for (int t = 0; t < 4; ++t) {
    convs_.emplace_back(t == 0 ? in : out, out, 3);
    add(fmt::format("conv.conv_{}", t), convs_.back());
  }
  add("proj", proj_);
}

Tensor CellposeDown::operator()(const Tensor& image) {
  const Tensor x = convs_[0].then(convs_[1], image, proj_(image));
  return convs_[2].then(convs_[3], x, x);
}

CellposeUp::CellposeUp(int64_t in, int64_t out, int64_t style) : proj_(in, out, 1, false), first_(in, out, 3) {
  add("conv.conv_0", first_);
  for (int t = 1; t < 4; ++t) {
    convs_.emplace_back(out, style);
    add(fmt::format("conv.conv_{}", t), convs_.back());
  }
  add("proj", proj_);
}

Tensor CellposeUp::operator()(const Tensor& below, const Tensor& skip, const Tensor& style) {
  const Tensor x = convs_[0](first_(below, skip), style, proj_(below));
  return convs_[2](convs_[1](x, style), style, x);
}

}  // namespace detail

namespace {

constexpr int levels = 4;

// The mean over the pixels, scaled to length 1. An image that leaves no trace has no direction: the guard keeps it from being
// NaN.
Tensor style_of(const Tensor& x) {
  const Tensor mean = apply(Mean{.axes = {1, 2}}, x);
  const Tensor squared = apply(Sum{.axes = {1}, .keepdim = true}, square(mean));
  return mean / apply(Sqrt{}, squared + Tensor::full({}, 1e-24, x.dtype(), x.device()));
}

int64_t checked(const char* key, int64_t value, int64_t high) {
  if (value < 1 || value > high) throw UsageError("{}: {} is out of range, want 1 to {}", key, value, high);
  return value;
}

}  // namespace

CellposeNet::CellposeNet(const CellposeOptions& o)
    : style_size_(checked("cellpose.base_channels", o.base_channels, 1024) << (levels - 1)), last_(o.base_channels, 3, 1) {
  checked("network channels", o.in_channels, 64);
  add_buffer("diam_mean", diam_mean_, Tensor::full({1}, 30));
  add_buffer("diam_labels", diam_labels_, Tensor::full({1}, 0));
  const auto width = [&](int level) { return o.base_channels << level; };
  for (int n = 0; n < levels; ++n) {
    down_.emplace_back(n == 0 ? o.in_channels : width(n - 1), width(n));
    add(fmt::format("downsample.down.res_down_{}", n), down_.back());
  }
  for (int n = 0; n < levels; ++n) {
    up_.emplace_back(n + 1 < levels ? width(n + 1) : style_size_, width(n), style_size_);
    add(fmt::format("upsample.up.res_up_{}", n), up_.back());
  }
  add("output", last_);
}

void CellposeNet::set_diameters(double mean, double labels) {
  diam_mean_.fill(mean);
  diam_labels_.fill(labels);
}

CellposeOutput CellposeNet::operator()(const Tensor& image) {
  if (image.dim(1) % divisor != 0 || image.dim(2) % divisor != 0 || image.dim(1) == 0 || image.dim(2) == 0)
    throw UsageError("cellpose: the input is {}x{}, want sides that are multiples of {}", image.dim(1), image.dim(2), divisor);
  std::vector<Tensor> skips;
  for (detail::CellposeDown& block : down_) skips.push_back(block(skips.empty() ? image : max_pool2d(skips.back(), 2)));
  const Tensor style = style_of(skips.back());
  Tensor x = skips.back();
  for (int n = levels - 1; n >= 0; --n) {
    if (n < levels - 1) x = upsample_nearest(x, 2);
    x = up_[static_cast<size_t>(n)](x, skips.back(), style);
    skips.pop_back();
  }
  return {last_(x), style};
}

std::array<Tensor, 2> cellpose_losses(const Tensor& maps, const Tensor& flow, const Tensor& cell) {
  const Tensor flows = apply(slice_of(maps.shape(), 3, 0, 2), maps);
  const Tensor logits = apply(slice_of(maps.shape(), 3, 2, 3), maps);
  return {0.5 * apply(MseLoss{}, flows, flow), apply(BceWithLogits{}, logits, cell, Tensor{}, Tensor{})};
}

}  // namespace glia
