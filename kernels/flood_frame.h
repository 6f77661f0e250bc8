#pragma once
// An image that is flooded on the host (labels.h): levels and labels side by side, since a flood jumps about and waits for memory, in a
// frame of closed pixels that spares all checks of edges.
#include <vector>

#include "kernels/flood.h"
#include "kernels/sort_keys.h"

namespace glia::flood {

struct Pixel {
  uint32_t level = closed;
  int32_t label = 0;
};

struct Frame {
  int64_t h, w, stride;
  std::vector<Pixel> pixels;        // (h + 2, w + 2)
  std::vector<int64_t> neighbours;  // where they stand from a pixel

  // x (h, w) float32, markers (h, w) int32, mask (h, w) of bytes or absent; the caller has checked them.
  Frame(const Tensor& x, const Tensor& markers, const Tensor& mask, int connectivity)
      : h(x.dim(0)), w(x.dim(1)), stride(w + 2), pixels(size_t((h + 2) * stride)), neighbours{-stride, -1, 1, stride} {
    if (connectivity == 8) neighbours.insert(neighbours.end(), {-stride - 1, -stride + 1, stride - 1, stride + 1});
    const float* values = x.data<float>();
    const int32_t* seeds = markers.data<int32_t>();
    const auto* inside = mask ? reinterpret_cast<const uint8_t*>(mask.raw()) : nullptr;
    for (int64_t y = 0; y < h; ++y)
      for (int64_t c = 0; c < w; ++c) {
        const int64_t q = y * w + c;
        if (inside && !inside[q]) continue;
        pixels[size_t((y + 1) * stride + c + 1)] = {level_of(ordered_bits(values[q])), seeds[q]};
      }
  }

  // Of the pixel that most likely comes next.
  void prefetch_neighbours(size_t place) const {
    __builtin_prefetch(&pixels[place] - stride);
    __builtin_prefetch(&pixels[place] + stride);
  }

  void copy_labels(const Tensor& labels) const {
    int32_t* to = labels.data<int32_t>();
    for (int64_t y = 0; y < h; ++y)
      for (int64_t c = 0; c < w; ++c) *to++ = pixels[size_t((y + 1) * stride + c + 1)].label;
  }
};

}  // namespace glia::flood
