#pragma once
// Image resizing as other systems do it, by name. x is (H, W) or (H, W, C); the result keeps rank and type.
#include <string_view>

#include "tensor/tensor.h"

namespace glia {

enum class ResizeMethod {
  opencv_bilinear,  // INTER_LINEAR: half-pixel centres, no antialiasing
  opencv_area,      // INTER_AREA: the mean over the covered source area; enlarging: OpenCV's bilinear with area weights
  opencv_nearest,   // INTER_NEAREST: floor(i * in / out); shifts the image by up to half a pixel
  nearest_centre,   // floor((i + .5) * in / out): for label maps
  pillow_bilinear,  // BILINEAR: triangle filter, widened when shrinking (antialiased)
  pillow_bicubic,   // BICUBIC: a = -.5, widened likewise
  keras_bilinear,   // tf.image.resize without antialias: half-pixel centres
};

std::string_view name_of(ResizeMethod method);
ResizeMethod parse_resize_method(std::string_view name);  // throws UsageError that lists the names

// uint8 and float32 images by any method; int32 label maps by the two nearest ones. uint8: Pillow's methods are exact to the bit
// (its fixed-point arithmetic), OpenCV's within 1 (rounding). float32: Pillow's mode F (sums in double, rounded to float between
// the passes). An image without pixels cannot be enlarged: InternalError.
Tensor resize_image(const Tensor& x, int64_t height, int64_t width, ResizeMethod method);

// Label maps and masks: nearest_centre.
Tensor resize_labels(const Tensor& labels, int64_t height, int64_t width);

}  // namespace glia
