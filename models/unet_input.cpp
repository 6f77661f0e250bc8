#include "models/unet_input.h"

#include <algorithm>

namespace glia {
namespace {

// Reflection without repeating the edge, for any index: ... 2 1 0 1 2 ... n-1 n-2 ...
int64_t mirror(int64_t i, int64_t n) {
  if (n == 1) return 0;
  const int64_t period = 2 * (n - 1);
  i = ((i % period) + period) % period;
  return i < n ? i : period - i;
}

}  // namespace

Tensor mirrored_window(const Tensor& x, int64_t top, int64_t left, int64_t height, int64_t width) {
  const int64_t channels = x.dim(2);
  Tensor window({1, height, width, channels});
  float* to = window.data<float>();
  for (int64_t i = 0; i < height; ++i) {
    const float* row = x.data<float>() + mirror(top + i, x.dim(0)) * x.dim(1) * channels;
    for (int64_t j = 0; j < width; ++j, to += channels) std::copy_n(row + mirror(left + j, x.dim(1)) * channels, channels, to);
  }
  return window;
}

int64_t input_side(const Unet& net, int64_t depth, int64_t output) {
  const int64_t divisor = net.divisor();
  if (net.margin() == 0) return (output + divisor - 1) / divisor * divisor;
  for (int64_t side = output + 2 * net.margin();; ++side) {  // every pooling must see an even size
    int64_t s = side;
    bool fits = true;
    for (int64_t level = 0; level < depth && fits; ++level) {
      fits = (s - 4) % 2 == 0;
      s = (s - 4) / 2;
    }
    if (fits) return side;
  }
}

std::vector<int64_t> tile_starts(int64_t size, int64_t tile, int64_t overlap) {
  if (tile >= size) return {0};
  const int64_t step = std::max<int64_t>(1, tile - overlap);
  const int64_t count = (size - tile + step - 1) / step + 1;
  std::vector<int64_t> starts;
  for (int64_t i = 0; i < count; ++i) starts.push_back((size - tile) * i / (count - 1));
  return starts;
}

}  // namespace glia
