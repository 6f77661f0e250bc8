#pragma once
// Cellpose's network (Stringer, Wang, Michaelos and Pachitariu 2021) as in Cellpose 1 to 3: a residual UNet whose skips are
// added, and whose way up is told the image's style, a unit vector that says what kind of image it is. Parameter names and
// layouts are those of Cellpose 3's model files.
#include <array>
#include <deque>

#include "nn/layers.h"

namespace glia {

struct CellposeOptions {
  int64_t in_channels = 2;     // what is to be segmented, and nuclei (zeros where there are none)
  int64_t base_channels = 32;  // of the first of four levels; each deeper one has twice as many
};

struct CellposeOutput {
  Tensor maps;   // (N, H, W, 3): 5 flow along y, 5 flow along x, logit of "cell"
  Tensor style;  // (N, 8 base_channels)
};

namespace detail {

// Batch norm, ReLU unless it is left out, convolution.
class CellposeConv : public Module {
 public:
  CellposeConv(int64_t in, int64_t out, int64_t kernel, bool relu = true);
  Tensor operator()(const Tensor& x, const Tensor& residual = {});
  // next((*this)(x), residual). In evaluation without gradients next's norm is part of this convolution.
  Tensor then(CellposeConv& next, const Tensor& x, const Tensor& residual);

 private:
  nn::BatchNorm2d norm_;
  nn::Conv2d conv_;
  Activation activation_;
};

// The same of x + (full(style) at every pixel).
class CellposeStyledConv : public Module {
 public:
  CellposeStyledConv(int64_t channels, int64_t style);
  Tensor operator()(const Tensor& x, const Tensor& style, const Tensor& residual = {});

 private:
  CellposeConv conv_;
  nn::Linear full_;
};

class CellposeDown : public Module {
 public:
  CellposeDown(int64_t in, int64_t out);
  Tensor operator()(const Tensor& x);

 private:
  CellposeConv proj_;
  std::deque<CellposeConv> convs_;
};

class CellposeUp : public Module {
 public:
  CellposeUp(int64_t in, int64_t out, int64_t style);
  Tensor operator()(const Tensor& x, const Tensor& skip, const Tensor& style);

 private:
  CellposeConv proj_, first_;
  std::deque<CellposeStyledConv> convs_;
};

}  // namespace detail

class CellposeNet : public Module {
 public:
  explicit CellposeNet(const CellposeOptions& options = {});  // UsageError naming the key

  // x (N, H, W, in_channels), sides multiples of 8 (UsageError).
  CellposeOutput operator()(const Tensor& x);

  static constexpr int64_t divisor = 8;

  int64_t style_size() const { return style_size_; }

  // Diameters in pixels: what the network sees cells at, and the mean of the images it was trained on (0: not known). Files of
  // Cellpose carry them.
  double diam_mean() const { return diam_mean_.item(); }
  double diam_labels() const { return diam_labels_.item(); }
  void set_diameters(double mean, double labels);

 private:
  int64_t style_size_;
  Tensor diam_mean_, diam_labels_;
  std::deque<detail::CellposeDown> down_;
  std::deque<detail::CellposeUp> up_;
  detail::CellposeConv last_;
};

// Cellpose's loss, in its two terms: half the mean squared error of the flows (times 5), and binary cross-entropy of "cell". maps
// (N, H, W, 3); flow (N, H, W, 2), already times 5; cell (N, H, W, 1) 0 or 1. Means over all elements, background included.
std::array<Tensor, 2> cellpose_losses(const Tensor& maps, const Tensor& flow, const Tensor& cell);

}  // namespace glia
