#include "kernels/anchors.h"

#include <cmath>

namespace glia {
namespace {

void check(const Anchors& of) {
  for (const double size : of.sizes) GLIA_CHECK(size > 0, "anchors: a size of {}, want it positive", size);
  for (const double ratio : of.aspect_ratios) GLIA_CHECK(ratio > 0, "anchors: an aspect ratio of {}, want it positive", ratio);
  GLIA_CHECK(of.stride[0] > 0 && of.stride[1] > 0, "anchors: strides {} and {}, want them positive", of.stride[0], of.stride[1]);
  GLIA_CHECK(of.offset >= 0 && of.offset < 1, "anchors: an offset of {} strides, want [0, 1)", of.offset);
  GLIA_CHECK(of.height >= 0 && of.width >= 0, "anchors: a feature map of {} x {}", of.height, of.width);
}

// The boxes around the origin.
std::vector<std::array<float, 4>> cell_anchors(const Anchors& of) {
  std::vector<std::array<float, 4>> cell;
  for (const double size : of.sizes) {
    for (const double ratio : of.aspect_ratios) {
      const double w = std::sqrt(size * size / ratio), h = ratio * w;
      std::array<float, 4> box{float(-w / 2), float(-h / 2), float(w / 2), float(h / 2)};
      if (of.rounded)
        for (float& corner : box) corner = std::nearbyint(corner);
      cell.push_back(box);
    }
  }
  return cell;
}

}  // namespace

Tensor anchors(const Anchors& of, Device device) {
  check(of);
  const auto cell = cell_anchors(of);
  const Tensor boxes({of.height * of.width * of.per_place(), 4});
  float* to = boxes.data<float>();
  for (int64_t y = 0; y < of.height; ++y) {
    for (int64_t x = 0; x < of.width; ++x) {
      const float shift[2] = {float((double(x) + of.offset) * of.stride[1]), float((double(y) + of.offset) * of.stride[0])};
      for (const auto& box : cell)
        for (size_t corner = 0; corner < 4; ++corner) *to++ = shift[corner % 2] + box[corner];
    }
  }
  return boxes.to(device);
}

}  // namespace glia
