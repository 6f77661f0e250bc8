#include "kernels/masks.h"

#include <algorithm>
#include <cmath>

#include "kernels/index.h"

namespace glia::reference {
namespace {

using detail::MaskWindow;

// The pixel of the whole mask.
int pixel(const MaskWindow& w, const uint8_t* bits, int64_t y, int64_t x) {
  const bool inside = y >= w.y0 && y < w.y0 + w.height && x >= w.x0 && x < w.x0 + w.width;
  return inside ? bits[w.first + (y - w.y0) * w.width + (x - w.x0)] : 0;
}

// ROIAlign's bilinear value at (y, x), where an integer is a pixel's centre.
template <class T>
T sample(const MaskWindow& w, const uint8_t* bits, T y, T x) {
  if (!(y >= -1 && y <= T(w.image_height) && x >= -1 && x <= T(w.image_width))) return 0;
  const auto corner = [](T& at, int64_t size) {
    at = std::max(at, T(0));
    const int64_t low = std::min(static_cast<int64_t>(at), size - 1);
    if (low == size - 1) at = T(low);
    return low;
  };
  const int64_t y0 = corner(y, w.image_height), x0 = corner(x, w.image_width);
  const T fy = y - T(y0), fx = x - T(x0);
  const auto at = [&](int64_t row, int64_t column) { return T(pixel(w, bits, row, column)); };
  return (1 - fy) * (1 - fx) * at(y0, x0) + (1 - fy) * fx * at(y0, x0 + 1) + fy * (1 - fx) * at(y0 + 1, x0) +
         fy * fx * at(y0 + 1, x0 + 1);
}

template <class T>
bool usable(const T* box) {
  return std::all_of(box, box + 4, [](T v) { return std::abs(v) < T(1 << 24); }) && box[2] > box[0] && box[3] > box[1];
}

template <class T>
void crop(int64_t size, const MaskWindow& window, const uint8_t* bits, const T* box, T* soft) {
  std::fill(soft, soft + size * size, T(0));
  if (!usable(box) || window.image_height == 0 || window.image_width == 0) return;
  const T x0 = box[0] - T(.5), y0 = box[1] - T(.5);
  const T bin_width = (box[2] - T(.5) - x0) / T(size), bin_height = (box[3] - T(.5) - y0) / T(size);
  const auto columns = static_cast<int64_t>(std::ceil(bin_width)), rows = static_cast<int64_t>(std::ceil(bin_height));
  for (int64_t i = 0; i < size; ++i) {
    for (int64_t j = 0; j < size; ++j) {
      T sum = 0;
      for (int64_t a = 0; a < rows; ++a)
        for (int64_t b = 0; b < columns; ++b)
          sum += sample(window, bits, y0 + T(i) * bin_height + (T(a) + T(.5)) * bin_height / T(rows),
                        x0 + T(j) * bin_width + (T(b) + T(.5)) * bin_width / T(columns));
      soft[i * size + j] = sum / T(std::max<int64_t>(rows * columns, 1));
    }
  }
}

// The bilinear value of a map (m, m) at (v, u); outside 0.
template <class T>
T padded_sample(const T* map, int64_t m, T v, T u) {
  const T low_v = std::floor(v), low_u = std::floor(u);
  T sum = 0;
  for (int a = 0; a < 2; ++a) {
    for (int b = 0; b < 2; ++b) {
      const T y = low_v + T(a), x = low_u + T(b);
      const T weight = (a ? v - low_v : 1 - (v - low_v)) * (b ? u - low_u : 1 - (u - low_u));
      if (y >= 0 && y < T(m) && x >= 0 && x < T(m)) sum += weight * map[static_cast<int64_t>(y) * m + static_cast<int64_t>(x)];
    }
  }
  return sum;
}

template <class T>
void paste(const T* map, int64_t m, const T* box, int64_t height, int64_t width, T* soft) {
  const T box_width = box[2] - box[0], box_height = box[3] - box[1];
  const bool empty = !(box_width > 0 && box_height > 0 && std::isfinite(box_width) && std::isfinite(box_height));
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      const T v = (T(y) + T(.5) - box[1]) / box_height * T(m) - T(.5);
      const T u = (T(x) + T(.5) - box[0]) / box_width * T(m) - T(.5);
      soft[y * width + x] = empty ? T(0) : padded_sample(map, m, v, u);
    }
  }
}

}  // namespace

void mask_crop(const MaskCrop& op, const Tensor& bits, const Tensor& windows, const Tensor& boxes, const Tensor& instance,
               Tensor& soft) {
  detail::check_windows(bits, windows, "mask_crop");
  detail::check_indices(instance, windows.dim(0), "mask_crop");
  const auto* rows = reinterpret_cast<const MaskWindow*>(windows.data<int64_t>());
  dispatch_floating(boxes.dtype(), "mask_crop", [&]<class T>(T) {
    for (int64_t r = 0; r < boxes.dim(0); ++r)
      crop(op.size, rows[instance.data<int64_t>()[r]], bits.data<uint8_t>(), boxes.data<T>() + 4 * r,
           soft.data<T>() + r * op.size * op.size);
  });
}

void paste_masks(const PasteMasks& op, const Tensor& masks, const Tensor& boxes, Tensor& soft) {
  const int64_t m = masks.dim(1);
  dispatch_floating(masks.dtype(), "paste_masks", [&]<class T>(T) {
    for (int64_t n = 0; n < masks.dim(0); ++n)
      paste(masks.data<T>() + n * m * m, m, boxes.data<T>() + 4 * n, op.height, op.width,
            soft.data<T>() + n * op.height * op.width);
  });
}

}  // namespace glia::reference
