#pragma once
// Augmentation for detection: one draw of numbers per (seed, epoch, index), applied alike to an image, the masks of its instances
// and their boxes. Masks stay whole where they overlap. The order is detectron2's: a random window, transposition (not
// detectron2's), the shortest edge resized, flips, brightness, contrast.
#include <array>
#include <cstdint>
#include <vector>

#include "data/instance.h"
#include "tensor/tensor.h"

namespace glia {

// The defaults change nothing. hflip, vflip and transpose together are the 8 symmetries of the square.
struct DetectionAugment {
  std::vector<int64_t> short_edge{};  // pixels: one of these by chance (detectron2's "choice"); empty or 0: the image's own size
  bool short_edge_range = false;      // two values: any whole number from the first to the second ("range")
  int64_t max_size = 0;               // pixels of the longer edge at most; 0: no limit
  std::array<int64_t, 2> crop{0, 0};  // height, width of a random window before the resize; 0, 0: the whole image. Smaller images
                                      // are taken whole
  bool redraw_empty_crops = false;    // draw the window again, up to 10 times in all, where no instance reaches into it
  bool hflip = false;                 // left and right swapped in half of the draws
  bool vflip = false;                 // top and bottom swapped in half of the draws
  bool transpose = false;             // rows and columns swapped in half of the draws
  double brightness = 0;              // factor: uniform in [1 - brightness, 1 + brightness]
  double contrast = 0;                // factor about the image's mean: uniform in [1 - contrast, 1 + contrast]
  int64_t min_area = 0;               // pixels of the augmented mask; smaller instances are left out

  bool operator==(const DetectionAugment&) const = default;
};

// Throws UsageError naming the key ([augment]) when a value is out of range.
void check(const DetectionAugment& options);

// The size that detectron2's ResizeShortestEdge makes of an image: the shorter edge becomes short_edge, unless the longer one would
// exceed max_size (0: no limit). short_edge 0: height, width as they are. Never 0.
std::array<int64_t, 2> resize_shortest_edge(int64_t height, int64_t width, int64_t short_edge, int64_t max_size);

// (H, W, C) or (H, W) to a new size as detectron2 does it: uint8 by Pillow's bilinear (antialiased, exact to the bit), every other
// type as float32 by plain bilinear with half-pixel centres.
Tensor resize_detection_image(const Tensor& image, int64_t height, int64_t width);

// One draw. Output pixel (x, y) is found by undoing, from the last to the first: window, transposition, resize, flips.
struct DetectionDraw {
  int64_t source_height = 0, source_width = 0;  // of the image it was drawn for
  int64_t top = 0, left = 0;                    // of the window in the source
  int64_t window_height = 0, window_width = 0;  // of the window, before transposition
  bool transpose = false, hflip = false, vflip = false;
  int64_t height = 0, width = 0;  // of the result
  double brightness = 1, contrast = 1;
};

// A pure function of its arguments, whatever the order of calls or the thread. `instances` are looked at by redraw_empty_crops alone.
DetectionDraw draw_detection(const DetectionAugment& options, const std::vector<Instance>& instances, int64_t height,
                             int64_t width, uint64_t seed, int64_t epoch, int64_t index);

// Brightness blends with 0, contrast with the mean over all pixels and channels; uint8 is clipped to 0..255 and cut to whole numbers.
Tensor augment_detection_image(const Tensor& image, const DetectionDraw& draw);

// Masks by Pillow's nearest pixel, exact to the bit. Boxes: without a window the source's box, scaled, flipped, clipped to the image and
// rounded to float32; with one (`tight_boxes`) the tight box of the mask. Left out as in detectron2: boxes not above 1e-5 wide and high,
// masks without pixels; and masks below min_area. (detectron2 cuts coordinates to whole numbers where JSON gave only whole numbers:
// not so here.)
std::vector<Instance> augment_instances(const std::vector<Instance>& instances, const DetectionDraw& draw,
                                        bool tight_boxes = false, int64_t min_area = 0);

// All of it: replaces both by what the draw for (seed, epoch, index) makes of them.
void augment_detection(Tensor& image, std::vector<Instance>& instances, const DetectionAugment& options, uint64_t seed,
                       int64_t epoch, int64_t index);

// Corners x1, y1, x2, y2 of the instances' boxes. -> (N, 4) float32
Tensor corner_boxes(const std::vector<Instance>& instances);

}  // namespace glia
