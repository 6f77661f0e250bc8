#pragma once
// Augmentation: one draw of numbers per (seed, epoch, index), applied alike to an image and to its label map.
// Geometry first (flips, transposition, rotation, scale, crop: one affine map, one resampling), then contrast, brightness and
// noise.
#include <array>
#include <cstdint>
#include <vector>

#include "tensor/tensor.h"

namespace glia {

// The keys of [augment]. The defaults change nothing. hflip, vflip and transpose together are the 8 symmetries of the square.
struct AugmentOptions {
  bool hflip = false;  // left and right swapped in half of the draws
  bool vflip = false;  // top and bottom swapped in half of the draws
  bool transpose =
      false;              // rows and columns swapped in half of the draws; left out where it would change the shape of the output
  double rotate = 0;      // degrees: uniform in [-rotate, rotate]
  double scale = 0;       // zoom: log-uniform in [1 / (1 + scale), 1 + scale]
  double brightness = 0;  // added, in units of the value range: uniform in [-brightness, brightness]
  double contrast = 0;    // factor about the image's mean: uniform in [1 - contrast, 1 + contrast]
  double noise = 0;       // standard deviation of normal noise in units of the value range: uniform in [0, noise]
  std::array<int64_t, 2> crop{0, 0};  // height, width of a random window; 0, 0: the whole image

  bool operator==(const AugmentOptions&) const = default;
  bool identity() const { return *this == AugmentOptions{}; }
};

// Throws UsageError naming the key when a value is out of range.
void check(const AugmentOptions& options);

// One draw. Output pixel (x, y) takes the value at source point
//   (sx, sy) = matrix * (x + 0.5 - width / 2, y + 0.5 - height / 2) + center,   pixel centres at integer + 0.5.
struct Augmentation {
  int64_t height = 0, width = 0;             // of the output
  std::array<double, 4> matrix{1, 0, 0, 1};  // sx = m0 dx + m1 dy + cx, sy = m2 dx + m3 dy + cy
  std::array<double, 2> center{0, 0};        // x, y in the source
  double brightness = 0, contrast = 1, noise = 0;
  uint64_t noise_seed = 0;
};

// A pure function of its arguments, whatever the order of calls or the thread.
Augmentation draw_augmentation(const AugmentOptions& options, int64_t height, int64_t width, uint64_t seed, int64_t epoch,
                               int64_t index);

// image: (H, W, C) or (H, W); uint8, int32 or float32; the result has the same type. Bilinear, mirrored at the edges. Flips,
// transposition and crops alone copy pixels exactly. The value range is 255 for uint8, else the image's maximum - minimum.
Tensor augment_image(const Tensor& image, const Augmentation& augmentation);

// labels: (H, W) int32. Nearest pixel, mirrored at the edges like the image; a mirror image that does not touch its original is
// an instance of its own. The result's labels are 1..n in the order of (source label, copy); source[i] is the original of label i
// + 1.
Tensor augment_labels(const Tensor& labels, const Augmentation& augmentation, std::vector<int32_t>* source = nullptr);

}  // namespace glia
