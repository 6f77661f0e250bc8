#pragma once
// Ops of instance masks. Ground-truth masks travel as patches, the pixels of their tight windows: thousands of cells cost about
// their area, and what is computed equals the same of the whole masks. No gradients.
//
//   MaskCrop    mask targets of a mask head: ROIAlign of each box's instance
//   PasteMasks  a mask head's maps to the size of the image
#include "kernels/op.h"

namespace glia {

// Masks of G instances. An empty mask has a window of 0 x 0. data/mask_patches.h makes them.
struct MaskPatches {
  Tensor bits;     // (B) uint8, 0 or 1: the windows' pixels, row by row, one window after the other
  Tensor windows;  // (G, 7) int64: first pixel in bits, y0, x0, height, width of the window; height, width of the image
  int64_t count() const { return windows ? windows.dim(0) : 0; }
};

namespace detail {
// One row of MaskPatches::windows.
struct MaskWindow {
  int64_t first, y0, x0, height, width, image_height, image_width;
  // Inside the image, and its pixels inside `pixels` of them.
  GLIA_HOST_DEVICE bool valid(int64_t pixels) const {
    return height >= 0 && width >= 0 && y0 >= 0 && x0 >= 0 && image_height >= height && image_width >= width &&
           y0 <= image_height - height && x0 <= image_width - width &&
           (height == 0 || width == 0 || (first >= 0 && width <= pixels / height && first <= pixels - height * width));
  }
};
static_assert(sizeof(MaskWindow) == 7 * sizeof(int64_t));
// Throws naming the op and the first window that is not valid.
void check_windows(const Tensor& bits, const Tensor& windows, const char* op);
}  // namespace detail

// ROIAlign (He et al. 2017; detectron2's V2: half-pixel offset, ceil(box / size) samples per bin and axis, scale 1) of the mask of
// instance[r], seen as an image of 0 and 1, in boxes[r] = x1, y1, x2, y2 in pixels. A mask target is soft >= 0.5
// (detectron2's BitMasks.crop_and_resize). Boxes without area, with a corner that is NaN or 2^24 pixels or more away, give 0.
// bits (B) uint8, windows (G, 7) int64, boxes (R, 4) float32, instance (R) int64 in [0, G) -> soft (R, size, size) float32
struct MaskCrop {
  int64_t size = 28;
  TensorSpec infer(const Tensor& bits, const Tensor& windows, const Tensor& boxes, const Tensor& instance) const;
  using Forward = void(const MaskCrop&, const Tensor& bits, const Tensor& windows, const Tensor& boxes, const Tensor& instance,
                       Tensor& soft);
  static const Variants<Forward> forward;
};

// Each map stretched over its box: the pixel at (x, y) has the bilinear value of the map at ((x + .5 - x1) / (x2 - x1) * M - .5,
// the same of y), outside the map 0 (detectron2's paste_masks_in_image; a mask is soft >= threshold). Boxes without area or with a
// corner that is not finite give 0. For tests and devices: it is N images large. data/mask_patches.h goes straight to run lengths.
// masks (N, M, M) float32, boxes (N, 4) float32 -> soft (N, height, width) float32
struct PasteMasks {
  int64_t height = 0, width = 0;
  TensorSpec infer(const Tensor& masks, const Tensor& boxes) const;
  using Forward = void(const PasteMasks&, const Tensor& masks, const Tensor& boxes, Tensor& soft);
  static const Variants<Forward> forward;
};

namespace reference {
MaskCrop::Forward mask_crop;
PasteMasks::Forward paste_masks;
}  // namespace reference
namespace cpu {
MaskCrop::Forward mask_crop;
PasteMasks::Forward paste_masks;
}  // namespace cpu
namespace emulated {
MaskCrop::Forward mask_crop;
PasteMasks::Forward paste_masks;
}  // namespace emulated
namespace cuda {
MaskCrop::Forward mask_crop;
PasteMasks::Forward paste_masks;
}  // namespace cuda

inline constexpr Variants<MaskCrop::Forward> MaskCrop::forward{.name = "mask_crop",
                                                               .reference = reference::mask_crop,
                                                               .cpu = cpu::mask_crop,
                                                               .emulated = emulated::mask_crop,
                                                               .cuda = GLIA_CUDA(cuda::mask_crop)};
inline constexpr Variants<PasteMasks::Forward> PasteMasks::forward{.name = "paste_masks",
                                                                   .reference = reference::paste_masks,
                                                                   .cpu = cpu::paste_masks,
                                                                   .emulated = emulated::paste_masks,
                                                                   .cuda = GLIA_CUDA(cuda::paste_masks)};

}  // namespace glia
