#include "models/image_input.h"

#include <algorithm>
#include <cmath>

#include "tensor/error.h"

namespace glia {

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

}  // namespace glia
