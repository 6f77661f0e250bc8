#pragma once
// Resampling of images x (N, H, W, C) to y (N, size[0], size[1], C): y = R x K, with one sparse matrix of taps for the rows and
// one for the columns (PyTorch's interpolate, and torchvision's antialias).
#include <cmath>
#include <vector>

#include "kernels/op.h"

namespace glia {

enum class ResizeMode { nearest, nearest_exact, bilinear };

struct Resize {
  ResizeMode mode = ResizeMode::bilinear;
  std::array<int64_t, 2> size{};         // of y: rows, columns
  bool align_corners = false;            // bilinear: pixel centres of the corners coincide, source = o (in - 1) / (out - 1)
  bool antialias = false;                // bilinear: a triangle as wide as one output pixel, when shrinking
  std::array<double, 2> scale_factor{};  // if given, source coordinates use 1 / scale_factor instead of in / out
  TensorSpec infer(const Tensor& x) const;
  using Forward = void(const Resize&, const Tensor& x, Tensor& y);
  using Backward = void(const Resize&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx);
  static constexpr SaveSet saves = save::nothing;
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// One axis, for host and devices: out[o] = sum over k < count of weight(span, k) in[first + k], with span(o) = {first, count,
// ...}. As o grows, first and first + count never fall.
struct ResizeAxis {
  struct Span {
    int64_t first = 0, count = 0;
    double place = 0;  // linear: from `first` towards the next; antialias: the output's centre
    double sum = 1;    // antialias: of the weights before they are normalised
  };

  ResizeMode mode = ResizeMode::bilinear;
  bool align_corners = false, antialias = false;
  int64_t in = 1, out = 1;
  double scale = 1;  // inputs for each output

  ResizeAxis() = default;
  ResizeAxis(const Resize& op, int axis, int64_t in);  // axis 0: rows, 1: columns

  int64_t most_taps() const { return mode != ResizeMode::bilinear ? 1 : antialias ? int64_t(2 * radius()) + 2 : 2; }

  GLIA_HOST_DEVICE Span span(int64_t o) const {
    const double centre = (double(o) + 0.5) * scale;
    if (mode == ResizeMode::nearest)  // in float32, as PyTorch: the floor depends on it
      return {.first = clipped(int64_t(std::floor(float(o) * float(scale)))), .count = 1};
    if (mode == ResizeMode::nearest_exact) return {.first = clipped(int64_t(std::floor(centre))), .count = 1};
    if (antialias) {
      const auto low = int64_t(centre - radius() + 0.5), high = int64_t(centre + radius() + 0.5);
      Span s{.first = low < 0 ? 0 : low, .place = centre, .sum = 0};
      const int64_t end = high < in ? high : in;
      s.count = end > s.first ? end - s.first : 0;
      for (int64_t k = 0; k < s.count; ++k) s.sum += triangle(s, k);
      return s;
    }
    double source = centre > 0.5 ? centre - 0.5 : 0;
    if (align_corners) source = out > 1 ? double(o) * double(in - 1) / double(out - 1) : 0;
    const int64_t low = clipped(int64_t(source));
    const double fraction = source - double(low);
    return {.first = low, .count = low + 1 >= in || fraction == 0 ? 1 : 2, .place = fraction};
  }

  GLIA_HOST_DEVICE double weight(const Span& s, int64_t k) const {
    if (antialias) return triangle(s, k) / s.sum;
    if (s.count == 1) return 1;
    return k == 0 ? 1 - s.place : s.place;
  }

 private:
  GLIA_HOST_DEVICE double radius() const { return scale > 1 ? scale : 1; }
  GLIA_HOST_DEVICE int64_t clipped(int64_t i) const { return i < in ? i : in - 1; }
  GLIA_HOST_DEVICE double triangle(const Span& s, int64_t k) const {
    const double weight = 1 - std::abs((double(s.first + k) - s.place + 0.5) / radius());
    return weight > 0 ? weight : 0;
  }
};

// The whole matrix: out[o] = sum of weight[k] in[index[k]] over k in [begin[o], begin[o + 1]); indices ascend.
struct ResizeTaps {
  std::vector<int64_t> begin, index;
  std::vector<double> weight;
  int64_t outputs() const { return static_cast<int64_t>(begin.size()) - 1; }
};

// The taps of axis 0 (rows) or 1 (columns) for an input of `in` pixels.
ResizeTaps resize_taps(const Resize& op, int axis, int64_t in);

// The transposed matrix: from gradients of the outputs to those of the `in` inputs.
ResizeTaps transposed(const ResizeTaps& taps, int64_t in);

#define GLIA_DECLARE_RESIZE(space) \
  namespace space {                \
  Resize::Forward resize;          \
  Resize::Backward resize_backward; \
  }
GLIA_DECLARE_RESIZE(reference)
GLIA_DECLARE_RESIZE(cpu)
GLIA_DECLARE_RESIZE(emulated)
GLIA_DECLARE_RESIZE(cuda)
#undef GLIA_DECLARE_RESIZE

inline constexpr Variants<Resize::Forward> Resize::forward{
    .name = "resize", .reference = reference::resize, .cpu = cpu::resize,
    .emulated = emulated::resize, .cuda = GLIA_CUDA(cuda::resize)};
inline constexpr Variants<Resize::Backward> Resize::backward{
    .name = "resize_backward", .reference = reference::resize_backward, .cpu = cpu::resize_backward,
    .emulated = emulated::resize_backward, .cuda = GLIA_CUDA(cuda::resize_backward)};

}  // namespace glia
