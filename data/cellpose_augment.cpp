#include "data/cellpose_augment.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "tensor/error.h"
#include "tensor/random.h"

namespace glia {
namespace {

// The way back: from pixels of the window to points of the flipped source.
class Inverse {
 public:
  Inverse(const CellposeAugmentation& a, int64_t height, int64_t width)
      : cosine_(std::cos(a.theta) / a.scale),
        sine_(std::sin(a.theta) / a.scale),
        centre_x_(double(a.width) / 2 + a.shift[0]),
        centre_y_(double(a.height) / 2 + a.shift[1]),
        source_x_(double(width) / 2),
        source_y_(double(height) / 2) {}

  std::array<double, 2> operator()(int64_t row, int64_t column) const {  // x, y
    const double dx = double(column) - centre_x_, dy = double(row) - centre_y_;
    return {cosine_ * dx + sine_ * dy + source_x_, cosine_ * dy - sine_ * dx + source_y_};
  }

 private:
  double cosine_, sine_, centre_x_, centre_y_, source_x_, source_y_;
};

}  // namespace

CellposeAugmentation draw_cellpose_augmentation(const CellposeAugmentOptions& o, int64_t height, int64_t width, double scale,
                                                uint64_t seed, int64_t epoch, int64_t index) {
  constexpr uint64_t key = 0x63656C6C706F7365ull;  // keeps these draws apart from the loader's order under the same seed
  const Philox philox(seed ^ key, (static_cast<uint64_t>(epoch) << 32) ^ static_cast<uint64_t>(index));
  uint64_t counter = 0;
  const auto uniform = [&] { return philox.uniform(counter++, 0, 1); };
  CellposeAugmentation a{.height = o.crop[0], .width = o.crop[1]};
  a.flip = uniform() > 0.5;
  a.theta = 2 * std::numbers::pi * uniform();
  a.scale = scale * (1 - o.scale_range / 2 + o.scale_range * uniform());
  a.shift[0] = std::max(0.0, double(width) * a.scale - double(a.width)) * (uniform() - 0.5);
  a.shift[1] = std::max(0.0, double(height) * a.scale - double(a.height)) * (uniform() - 0.5);
  return a;
}

Tensor augment_cellpose_image(const Tensor& image, const CellposeAugmentation& a) {
  GLIA_CHECK(image.rank() == 3 && image.dim(2) > 2, "augment: image is {}, want (H, W, C) with two channels of flows",
             image.shape());
  const int64_t height = image.dim(0), width = image.dim(1), channels = image.dim(2);
  const Inverse inverse(a, height, width);
  const float cosine = static_cast<float>(std::cos(a.theta)), sine = static_cast<float>(std::sin(a.theta));
  Tensor result({a.height, a.width, channels});
  float* to = result.data<float>();
  for (int64_t row = 0; row < a.height; ++row) {
    for (int64_t column = 0; column < a.width; ++column, to += channels) {
      const auto [x, y] = inverse(row, column);
      std::fill_n(to, channels, 0.0f);
      const auto x0 = static_cast<int64_t>(std::floor(x)), y0 = static_cast<int64_t>(std::floor(y));
      const double wx = x - double(x0), wy = y - double(y0);
      for (int corner = 0; corner < 4; ++corner) {
        const int64_t sy = y0 + corner / 2, sx = x0 + corner % 2;
        if (sy < 0 || sy >= height || sx < 0 || sx >= width) continue;
        const auto weight = static_cast<float>((corner / 2 ? wy : 1 - wy) * (corner % 2 ? wx : 1 - wx));
        const float* from = image.data<float>() + (sy * width + (a.flip ? width - 1 - sx : sx)) * channels;
        for (int64_t c = 0; c < channels; ++c) to[c] += weight * from[c];
      }
      const float flow_y = to[channels - 2], flow_x = a.flip ? -to[channels - 1] : to[channels - 1];
      to[channels - 2] = flow_x * sine + flow_y * cosine;
      to[channels - 1] = flow_x * cosine - flow_y * sine;
    }
  }
  return result;
}

Tensor augment_cellpose_labels(const Tensor& labels, const CellposeAugmentation& a) {
  GLIA_CHECK(labels.rank() == 2, "augment: labels are {}, want (H, W)", labels.shape());
  const int64_t height = labels.dim(0), width = labels.dim(1);
  const Inverse inverse(a, height, width);
  Tensor result({a.height, a.width}, DType::int32);
  int32_t* to = result.data<int32_t>();
  for (int64_t row = 0; row < a.height; ++row) {
    for (int64_t column = 0; column < a.width; ++column) {
      const auto [px, py] = inverse(row, column);
      const auto x = static_cast<int64_t>(std::floor(px + 0.5)), y = static_cast<int64_t>(std::floor(py + 0.5));
      const bool inside = y >= 0 && y < height && x >= 0 && x < width;
      *to++ = inside ? labels.data<int32_t>()[y * width + (a.flip ? width - 1 - x : x)] : 0;
    }
  }
  return result;
}

}  // namespace glia
