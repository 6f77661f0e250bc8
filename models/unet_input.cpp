#include "models/unet_input.h"

#include <algorithm>
#include <cmath>

#include "tensor/error.h"

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

double value_range(DType dtype) {
  switch (dtype) {
    case DType::uint8: return 255;
    case DType::int32: return 65535;
    case DType::int64: return 4294967295.0;
    default: return 1;
  }
}

double percentile(const Tensor& x, double q) {
  const Tensor values = x.cast(DType::float32).clone();
  float* v = values.data<float>();
  const int64_t n = values.size();
  GLIA_CHECK(n > 0, "percentile: no values");
  const double position = q * double(n - 1);
  const auto below = static_cast<int64_t>(position);
  std::nth_element(v, v + below, v + n);
  const double low = v[below];
  const double high = below + 1 < n ? *std::min_element(v + below + 1, v + n) : low;
  return low + (high - low) * (position - double(below));
}

Tensor to_channels(const Tensor& image, int64_t channels) {
  if (image.rank() != 3) throw DataError("image of shape {}: want (H, W, C); take one page of a stack", image.shape());
  const int64_t have = image.dim(2) == 2 || image.dim(2) == 4 ? image.dim(2) - 1 : image.dim(2);  // alpha dropped
  const bool bytes = image.dtype() == DType::uint8;
  if (have == channels && have == image.dim(2)) return bytes ? image : image.cast(DType::float32);
  if (have != channels && have != 1 && !(have == 3 && channels == 1))
    throw DataError("image with {} channels, the network takes {} (data.channels)", have, channels);
  const Tensor source = image.cast(DType::float32);
  Tensor result({image.dim(0), image.dim(1), channels});
  const float* from = source.data<float>();
  float* to = result.data<float>();
  const int64_t stride = image.dim(2);
  for (int64_t i = 0; i < image.dim(0) * image.dim(1); ++i, from += stride) {
    for (int64_t c = 0; c < channels; ++c) {
      const bool to_gray = have == 3 && channels == 1;
      const double gray = to_gray ? (from[0] * 19595.0 + from[1] * 38470.0 + from[2] * 7471.0) / 65536.0 : 0;
      *to++ = to_gray ? static_cast<float>(bytes ? std::floor(gray + 0.5) : gray) : from[have == 1 ? 0 : c];
    }
  }
  return bytes ? result.cast(DType::uint8) : result;
}

Tensor normalized(const Tensor& image, Normalization how, double range) {
  double offset = 0, scale = 1;
  if (how == Normalization::unit) {
    scale = 1 / range;
  } else if (how == Normalization::percentile) {
    offset = percentile(image, 0.01);
    scale = 1 / std::max(percentile(image, 0.998) - offset, 1e-6);
  } else if (how == Normalization::standard) {
    const Tensor values = image.cast(DType::float64);
    double squares = 0;
    for (const double v : values.values<double>()) offset += v / double(values.size());
    for (const double v : values.values<double>()) squares += (v - offset) * (v - offset) / double(values.size());
    scale = 1 / std::max(std::sqrt(squares), 1e-6);
  }
  const Tensor result = image.cast(DType::float32).clone();
  for (float& v : result.values<float>()) v = static_cast<float>((double(v) - offset) * scale);
  return result;
}

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

}  // namespace glia
