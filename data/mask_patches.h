#pragma once
// Instance masks as patches (MaskPatches, kernels/masks.h) from and to run lengths, and what lies between the maps of a mask head and
// masks: pasting, targets from polygons. Everything is on the host. What happens to masks before (augmentation) happens to run lengths:
// data/rle_resample.h.
#include <span>
#include <vector>

#include "data/polygon.h"
#include "kernels/masks.h"

namespace glia {

// Masks of images of any sizes. Windows are tight; work and memory are those of the windows.
MaskPatches to_patches(std::span<const Rle> masks);
// Throws InternalError on windows outside of their image or of the pixels.
std::vector<Rle> to_rles(const MaskPatches& patches);

// The masks soft >= threshold of PasteMasks (kernels/masks.h), one per map, without making images: the work is that of the boxes'
// areas. masks (N, M, M) float32, boxes (N, 4) float32; height, width: of the image; threshold above 0 (InternalError).
std::vector<Rle> paste_masks(const Tensor& masks, const Tensor& boxes, int64_t height, int64_t width, double threshold = 0.5);

// Mask targets from polygons (detectron2's PolygonMasks.crop_and_resize): the polygons of instance[r], moved and stretched so that
// boxes[r] = x1, y1, x2, y2 becomes size x size, drawn as COCO draws them (data/polygon.h). Boxes are at least 0.1 wide and high.
// boxes (R, 4) float32, instance (R) int64 -> (R, size, size) uint8, 0 or 1. Throws what rle_from_polygon throws.
Tensor crop_polygons(std::span<const std::vector<Polygon>> instances, const Tensor& boxes, const Tensor& instance, int64_t size);

}  // namespace glia
