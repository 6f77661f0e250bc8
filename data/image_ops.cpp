#include "data/image_ops.h"

#include <algorithm>
#include <cstring>

namespace glia {
namespace {

void check_image(const Tensor& x, const char* what) {
  GLIA_CHECK(x.rank() == 2 || x.rank() == 3, "{}: x {}, want (H, W) or (H, W, C)", what, x.shape());
}

size_t pixel_bytes(const Tensor& x) { return size_of(x.dtype()) * size_t(x.rank() == 3 ? x.dim(2) : 1); }

// w x + offset.
Tensor blend(const Tensor& x, float weight, float offset, const char* what) {
  Tensor y(x.shape(), x.dtype());
  if (x.dtype() == DType::float32) {
    for (int64_t i = 0; i < x.size(); ++i) y.data<float>()[i] = x.data<float>()[i] * weight + offset;
    return y;
  }
  GLIA_CHECK(x.dtype() == DType::uint8, "{}: x of {}, want uint8 or float32", what, name_of(x.dtype()));
  uint8_t table[256];
  for (int i = 0; i < 256; ++i) table[i] = static_cast<uint8_t>(std::clamp(float(i) * weight + offset, 0.f, 255.f));
  for (int64_t i = 0; i < x.size(); ++i) y.data<uint8_t>()[i] = table[x.data<uint8_t>()[i]];
  return y;
}

// y(r, c) = x(source(r, c)), for an (h, w) result.
template <class Source>
Tensor rearranged(const Tensor& x, int64_t h, int64_t w, Source source) {
  Shape shape = x.shape();
  shape.set(0, h);
  shape.set(1, w);
  Tensor y(shape, x.dtype());
  const size_t n = pixel_bytes(x);
  if (y.size() == 0) return y;
  std::byte* to = y.raw();
  const auto run = [&]<size_t bytes>() {
    for (int64_t r = 0; r < h; ++r)
      for (int64_t c = 0; c < w; ++c, to += n) std::memcpy(to, x.raw() + size_t(source(r, c)) * n, bytes ? bytes : n);
  };
  switch (n) {  // constant sizes make single moves of the copies
    case 1: run.template operator()<1>(); break;
    case 3: run.template operator()<3>(); break;
    case 4: run.template operator()<4>(); break;
    default: run.template operator()<0>(); break;
  }
  return y;
}

}  // namespace

Tensor adjust_brightness(const Tensor& x, double weight) { return blend(x, float(weight), 0, "adjust_brightness"); }

Tensor adjust_contrast(const Tensor& x, double weight) {
  double sum = 0;
  if (x.dtype() == DType::uint8) {
    int64_t total = 0;
    for (int64_t i = 0; i < x.size(); ++i) total += x.data<uint8_t>()[i];
    sum = double(total);
  } else {
    for (int64_t i = 0; i < x.size(); ++i) sum += double(x.data<float>()[i]);
  }
  const double mean = x.size() ? sum / double(x.size()) : 0;
  return blend(x, float(weight), float((1 - weight) * mean), "adjust_contrast");
}

Tensor flip_x(const Tensor& x) {
  check_image(x, "flip_x");
  const int64_t h = x.dim(0), w = x.dim(1);
  return rearranged(x, h, w, [w](int64_t r, int64_t c) { return r * w + w - 1 - c; });
}

Tensor flip_y(const Tensor& x) {
  check_image(x, "flip_y");
  const int64_t h = x.dim(0), w = x.dim(1);
  return rearranged(x, h, w, [h, w](int64_t r, int64_t c) { return (h - 1 - r) * w + c; });
}

Tensor rotate_90(const Tensor& x, int turns) {
  check_image(x, "rotate_90");
  const int64_t h = x.dim(0), w = x.dim(1);
  switch (((turns % 4) + 4) % 4) {
    case 1: return rearranged(x, w, h, [w](int64_t r, int64_t c) { return c * w + w - 1 - r; });
    case 2: return rearranged(x, h, w, [h, w](int64_t r, int64_t c) { return (h - 1 - r) * w + w - 1 - c; });
    case 3: return rearranged(x, w, h, [h, w](int64_t r, int64_t c) { return (h - 1 - c) * w + r; });
    default: return x.clone();
  }
}

Tensor crop(const Tensor& x, int64_t y, int64_t x0, int64_t height, int64_t width) {
  check_image(x, "crop");
  GLIA_CHECK(y >= 0 && x0 >= 0 && height >= 0 && width >= 0 && y + height <= x.dim(0) && x0 + width <= x.dim(1),
             "crop: rows {} + {} and columns {} + {} of an image {}", y, height, x0, width, x.shape());
  Shape shape = x.shape();
  shape.set(0, height);
  shape.set(1, width);
  Tensor result(shape, x.dtype());
  const size_t n = pixel_bytes(x);
  for (int64_t r = 0; r < height; ++r)
    copy_bytes(result.raw() + size_t(r * width) * n, x.raw() + size_t((y + r) * x.dim(1) + x0) * n, size_t(width) * n);
  return result;
}

Tensor gray_to_rgb(const Tensor& x) {
  check_image(x, "gray_to_rgb");
  GLIA_CHECK(x.dtype() == DType::uint8, "gray_to_rgb: x of {}, want uint8", name_of(x.dtype()));
  const int64_t channels = x.rank() == 3 ? x.dim(2) : 1, pixels = x.dim(0) * x.dim(1);
  GLIA_CHECK(channels == 1 || channels >= 3, "gray_to_rgb: {} channels, want 1, 3 or 4", channels);
  Tensor y({x.dim(0), x.dim(1), 3}, DType::uint8);
  const uint8_t* from = x.data<uint8_t>();
  uint8_t* to = y.data<uint8_t>();
  for (int64_t p = 0; p < pixels; ++p)
    for (int64_t c = 0; c < 3; ++c) to[3 * p + c] = from[p * channels + (channels == 1 ? 0 : c)];
  return y;
}

}  // namespace glia
