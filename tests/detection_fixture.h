#pragma once
// Instances, pictures and examples for the tests of data of detectors.
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "data/detection_augment.h"
#include "data/loader.h"
#include "data/rle.h"
#include "tensor/random.h"
#include "tests/same_bits.h"

namespace glia::tests {

// A disc, as far as it lies in the image.
inline Instance disc(double cy, double cx, double radius, int64_t height, int64_t width, int category = 0) {
  const Tensor mask = Tensor::zeros({height, width}, DType::uint8);
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      const double dy = static_cast<double>(y) + .5 - cy, dx = static_cast<double>(x) + .5 - cx;
      mask.data<uint8_t>()[y * width + x] = dy * dy + dx * dx <= radius * radius;
    }
  }
  Instance instance;
  instance.mask = encode_mask(mask);
  instance.category = category;
  instance.box = bounding_box(instance.mask);
  return instance;
}

inline Tensor noise_image(int64_t height, int64_t width, int64_t channels = 1, uint64_t seed = 1) {
  Tensor image({height, width, channels}, DType::uint8);
  const Philox philox(seed, 0);
  for (int64_t i = 0; i < image.size(); ++i) image.data<uint8_t>()[i] = static_cast<uint8_t>(philox.below(uint64_t(i), 256));
  return image;
}

// Three discs, the second over the first, the third at the border.
inline std::vector<Instance> three_discs(int64_t height, int64_t width) {
  return {disc(15, 20, 8, height, width, 2), disc(18, 24, 7, height, width, 0), disc(30, 50, 6, height, width, 1)};
}

inline Example overlapping_example(int64_t index, int64_t height = 40, int64_t width = 54) {
  Example e;
  e.image = noise_image(height, width, 3, uint64_t(index));
  e.instances = three_discs(height, width);
  e.index = index;
  e.id = fmt::format("i{}", index);
  return e;
}

inline DetectionAugment everything() {
  DetectionAugment o;
  o.short_edge = {24, 32, 60}, o.max_size = 70;
  o.crop = {32, 36}, o.redraw_empty_crops = true;
  o.hflip = o.vflip = o.transpose = true;
  o.brightness = .2, o.contrast = .3, o.min_area = 4;
  return o;
}

inline bool same(const std::vector<Instance>& a, const std::vector<Instance>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Instance& p, const Instance& q) {
    return p.mask == q.mask && p.box == q.box && p.category == q.category;
  });
}

}  // namespace glia::tests
