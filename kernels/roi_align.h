#pragma once
// Features of regions of interest ("rois") at one size: the pooling of Mask R-CNN (He et al. 2017) from one map or from the levels of a
// pyramid. Equal to torchvision's roi_align and detectron2's ROIPooler (with aligned: ROIAlignV2) with float32 features.
//
//   RoiAlign   y[r, p, q, c] = mean over the samples of bin (p, q) of roi r of the map's bilinear value there
//   FpnLevel   the level of a pyramid that pools a box (Lin et al. 2017, equation 1)
#include <cmath>
#include <vector>

#include "kernels/box_math.h"
#include "kernels/op.h"

namespace glia {

// x0, x1, x2, x3 (N, H, W, C), maps of the same N and C; x1 to x3 may be absent. rois (R, 5): index of the image, x1, y1, x2, y2 in pixels
// of the image. levels (R) int64: which of the maps, 0 to 3; absent: all x0 (FpnLevel with levels from 0 gives them). y (R, size, size, C).
// A bin has a grid of samples: `sampling` along an axis, or, when that is 0, as many as it covers pixels, rounded up: none where the
// roi's width or height is not positive, or one of its sides 2^19 pixels or more from the map's first, NaN included. Samples more than a pixel outside the map count as 0. Gradients go to the maps only;
// each pixel's is summed in the order of the rois. An image or level that does not exist is an error that names the roi (on a device, the
// kernel says so and ends).
struct RoiAlign {
  int64_t size = 7;      // bins along an axis
  int64_t sampling = 0;  // samples of a bin along an axis; 0: adaptive
  bool aligned = true;   // half a pixel is taken off, so that pixel centres are at integers + 0.5
  std::array<double, 4> scales{1. / 4, 1. / 8, 1. / 16, 1. / 32};  // pixels of each map for a pixel of the image
  TensorSpec infer(const Tensor& x0, const Tensor& x1, const Tensor& x2, const Tensor& x3, const Tensor& rois,
                   const Tensor& levels) const;
  using Forward = void(const RoiAlign&, const Tensor& x0, const Tensor& x1, const Tensor& x2, const Tensor& x3,
                       const Tensor& rois, const Tensor& levels, Tensor& y);
  using Backward = void(const RoiAlign&, const Tensor& x0, const Tensor& x1, const Tensor& x2, const Tensor& x3,
                        const Tensor& rois, const Tensor& levels, const Tensor& y, const Tensor& dy, Tensor* dx0, Tensor* dx1,
                        Tensor* dx2, Tensor* dx3, Tensor* drois, Tensor* dlevels);
  static constexpr SaveSet saves = save::input(4) | save::input(5);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// boxes (N, 4): x1, y1, x2, y2 -> level (N) int64: floor(canonical_level + log2(sqrt(area) / canonical_size + 1e-8)), clamped to
// [min_level, max_level]. A box without an area (NaN, negative) gets min_level.
struct FpnLevel {
  int64_t min_level = 2, max_level = 5;
  double canonical_size = 224;
  int64_t canonical_level = 4;
  TensorSpec infer(const Tensor& boxes) const;
  using Forward = void(const FpnLevel&, const Tensor& boxes, Tensor& level);
  static const Variants<Forward> forward;

  template <class T>
  GLIA_HOST_DEVICE int64_t level(T x1, T y1, T x2, T y2) const {
    const T side = std::sqrt((x2 - x1) * (y2 - y1));
    const T level = std::floor(T(canonical_level) + std::log2(side / T(canonical_size) + T(1e-8)));
    if (!(level > T(min_level))) return min_level;
    return level < T(max_level) ? int64_t(level) : max_level;
  }
};

// One axis of a roi on its map, in pixels of the map whose centres are integers. For host and devices. As samples form a grid and
// bilinear weights are products, a bin's value is a sum over rows and columns of (row's weight) (column's weight) (pixel); a tap is a
// row or column with the sum of its weights over the bin's samples.
template <class T>
struct RoiAxis {
  T start = 0, bin = 0;  // where the first bin begins, how large one is
  int64_t samples = 0;   // of a bin
  int64_t extent = 0;    // pixels of the map

  RoiAxis() = default;
  // low, high: the roi's sides in the image; scale: of the map.
  GLIA_HOST_DEVICE RoiAxis(const RoiAlign& op, T scale, T low, T high, int64_t pixels) : extent(pixels) {
    const T offset = T(op.aligned ? 0.5 : 0);
    start = box::rounded_product(low, scale) - offset;
    T length = box::rounded_product(high, scale) - offset - start;
    if (!op.aligned && length < 1) length = 1;
    bin = length / T(op.size);
    samples = op.sampling > 0 ? op.sampling : near(start) && near(start + length) ? int64_t(std::ceil(bin)) : 0;
    if (samples < 0) samples = 0;
  }

  GLIA_HOST_DEVICE T position(int64_t p, int64_t sample) const {
    return start + box::rounded_product(T(p), bin) + box::rounded_product(T(sample) + T(0.5), bin) / T(samples);
  }

  // The pixel before a position inside the map and how far it is on the way to the next (0 at the last one), both clamped to the map.
  GLIA_HOST_DEVICE int64_t split(T at, T& fraction) const {
    if (at <= 0) at = 0;
    const auto low = int64_t(at);
    fraction = low >= extent - 1 ? T(0) : at - T(low);
    return low >= extent - 1 ? extent - 1 : low;
  }
  GLIA_HOST_DEVICE bool inside(T at) const { return at >= -1 && at <= T(extent); }  // no NaN

  // Calls f(pixel, weight) for the taps of bin p, pixels ascending.
  template <class F>
  GLIA_HOST_DEVICE void for_each_tap(int64_t p, F&& f) const {
    const bool ascending = bin > 0;
    int64_t pixel = -2;
    T weight = 0, next = 0;  // of `pixel` and the one after it
    for (int64_t i = ascending ? first_inside(p) : 0; i < samples; ++i) {
      const T at = position(p, ascending ? i : samples - 1 - i);
      if (at > T(extent)) break;
      if (!inside(at)) continue;
      T fraction;
      const int64_t low = split(at, fraction);
      if (low != pixel) {
        if (pixel >= 0) f(pixel, weight);
        if (low != pixel + 1) {
          if (next > 0) f(pixel + 1, next);
          next = 0;
        }
        weight = next;
        next = 0;
        pixel = low;
      }
      weight += 1 - fraction;
      next += fraction;
    }
    if (pixel >= 0) f(pixel, weight);
    if (next > 0) f(pixel + 1, next);
  }

 private:
  // Of a side of a roi: beyond, a float's spacing is no longer far below a pixel, and a grid would be large without end. No NaN.
  static GLIA_HOST_DEVICE bool near(T at) { return at > -(1 << 19) && at < (1 << 19); }

  // Of ascending positions: a roi may begin far outside the map.
  GLIA_HOST_DEVICE int64_t first_inside(int64_t p) const {
    int64_t low = 0, high = samples;
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (position(p, middle) < -1) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }
};

namespace detail {
// Where a roi is pooled from.
struct RoiPlace {
  int64_t image, level;
};
// Those of all rois, on the host. Throws naming the first roi whose image is not in [0, images), or whose level is not in [0, 4) or, with
// `maps`, an absent one.
std::vector<RoiPlace> roi_places(const Tensor& rois, const Tensor& levels, int64_t images,
                                 const std::array<const Tensor*, 4>& maps = {});
}  // namespace detail

#define GLIA_DECLARE_ROI_ALIGN(space)    \
  namespace space {                      \
  RoiAlign::Forward roi_align;           \
  RoiAlign::Backward roi_align_backward; \
  FpnLevel::Forward fpn_level;           \
  }
GLIA_DECLARE_ROI_ALIGN(reference)
GLIA_DECLARE_ROI_ALIGN(cpu)
GLIA_DECLARE_ROI_ALIGN(emulated)
GLIA_DECLARE_ROI_ALIGN(cuda)
#undef GLIA_DECLARE_ROI_ALIGN

inline constexpr Variants<RoiAlign::Forward> RoiAlign::forward{.name = "roi_align",
                                                               .reference = reference::roi_align,
                                                               .cpu = cpu::roi_align,
                                                               .emulated = emulated::roi_align,
                                                               .cuda = GLIA_CUDA(cuda::roi_align)};
inline constexpr Variants<RoiAlign::Backward> RoiAlign::backward{.name = "roi_align_backward",
                                                                 .reference = reference::roi_align_backward,
                                                                 .cpu = cpu::roi_align_backward,
                                                                 .emulated = emulated::roi_align_backward,
                                                                 .cuda = GLIA_CUDA(cuda::roi_align_backward)};
inline constexpr Variants<FpnLevel::Forward> FpnLevel::forward{.name = "fpn_level",
                                                               .reference = reference::fpn_level,
                                                               .cpu = cpu::fpn_level,
                                                               .emulated = emulated::fpn_level,
                                                               .cuda = GLIA_CUDA(cuda::fpn_level)};

}  // namespace glia
