// Every method but the nearest ones is separable: for each output position a range of source positions and their weights
// ("taps"), first along x, then along y.
#include "data/image_resize.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

namespace glia {
namespace {

constexpr std::array<std::string_view, 7> names{"opencv_bilinear", "opencv_area",    "opencv_nearest", "nearest_centre",
                                                "pillow_bilinear", "pillow_bicubic", "keras_bilinear"};

struct Taps {
  std::vector<int64_t> begin;  // first source position of each output position
  std::vector<int64_t> count;  // how many follow
  std::vector<double> weight;  // `width` per output position
  int64_t width = 0;
  const double* of(int64_t i) const { return weight.data() + i * width; }
};

Taps make_taps(int64_t out, int64_t width) {
  const auto n = size_t(out);
  return {std::vector<int64_t>(n), std::vector<int64_t>(n), std::vector<double>(n * size_t(width)), width};
}

Taps half_pixel_taps(int64_t in, int64_t out) {
  Taps taps = make_taps(out, 2);
  const double scale = double(in) / double(out);
  for (int64_t i = 0; i < out; ++i) {
    const double centre = (double(i) + .5) * scale - .5;
    double f = centre - std::floor(centre);
    auto s = static_cast<int64_t>(std::floor(centre));
    if (s < 0) s = 0, f = 0;
    if (s >= in - 1) s = in - 1, f = 0;
    taps.begin[size_t(i)] = s;
    taps.count[size_t(i)] = s + 1 < in ? 2 : 1;
    taps.weight[size_t(2 * i)] = 1 - f;
    taps.weight[size_t(2 * i + 1)] = f;
  }
  return taps;
}

// OpenCV's INTER_AREA where an axis is enlarged: source floor(i * scale), blended only where the output pixel reaches into the
// next.
Taps area_enlarging_taps(int64_t in, int64_t out) {
  Taps taps = make_taps(out, 2);
  const double scale = double(in) / double(out), inverse = double(out) / double(in);
  for (int64_t i = 0; i < out; ++i) {
    auto s = static_cast<int64_t>(std::floor(double(i) * scale));
    double f = double(i + 1) - double(s + 1) * inverse;
    f = f <= 0 ? 0 : f - std::floor(f);
    if (s >= in - 1) s = in - 1, f = 0;
    taps.begin[size_t(i)] = s;
    taps.count[size_t(i)] = s + 1 < in ? 2 : 1;
    taps.weight[size_t(2 * i)] = 1 - f;
    taps.weight[size_t(2 * i + 1)] = f;
  }
  return taps;
}

// The share of each source pixel in [i * scale, (i + 1) * scale); shares below 1/1000 pixel are dropped, as OpenCV does.
Taps area_shrinking_taps(int64_t in, int64_t out) {
  const double scale = double(in) / double(out);
  Taps taps = make_taps(out, int64_t(std::ceil(scale)) + 2);
  for (int64_t i = 0; i < out; ++i) {
    const double from = double(i) * scale, to = from + scale, cell = std::min(scale, double(in) - from);
    auto last = std::min(int64_t(std::floor(to)), in - 1);
    auto first = std::min(int64_t(std::ceil(from)), last);
    double* w = taps.weight.data() + i * taps.width;
    int64_t n = 0, begin = first;
    if (double(first) - from > 1e-3) {
      begin = first - 1;
      w[n++] = (double(first) - from) / cell;
    }
    for (int64_t s = first; s < last; ++s) w[n++] = 1 / cell;
    if (to - double(last) > 1e-3) w[n++] = std::min(std::min(to - double(last), 1.0), cell) / cell;
    taps.begin[size_t(i)] = begin;
    taps.count[size_t(i)] = n;
  }
  return taps;
}

double triangle(double x) { return std::max(0.0, 1 - std::abs(x)); }
double cubic(double x) {
  constexpr double a = -.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

Taps pillow_taps(int64_t in, int64_t out, double (*filter)(double), double radius) {
  const double scale = double(in) / double(out), widening = std::max(scale, 1.0), support = radius * widening;
  Taps taps = make_taps(out, int64_t(std::ceil(support)) * 2 + 1);
  for (int64_t i = 0; i < out; ++i) {
    const double centre = (double(i) + .5) * scale;
    const auto first = std::max<int64_t>(0, static_cast<int64_t>(centre - support + .5));
    const auto last = std::min(in, static_cast<int64_t>(centre + support + .5));
    double* w = taps.weight.data() + i * taps.width;
    double sum = 0;
    for (int64_t s = first; s < last; ++s) {
      w[s - first] = filter((double(s) - centre + .5) * (1 / widening));
      sum += w[s - first];
    }
    if (sum != 0)
      for (int64_t s = first; s < last; ++s) w[s - first] /= sum;
    taps.begin[size_t(i)] = first;
    taps.count[size_t(i)] = last - first;
  }
  return taps;
}

Taps taps_of(ResizeMethod method, int64_t in, int64_t out, bool shrinks_both) {
  switch (method) {
    case ResizeMethod::pillow_bilinear: return pillow_taps(in, out, triangle, 1);
    case ResizeMethod::pillow_bicubic: return pillow_taps(in, out, cubic, 2);
    case ResizeMethod::opencv_area: return shrinks_both ? area_shrinking_taps(in, out) : area_enlarging_taps(in, out);
    default: return half_pixel_taps(in, out);
  }
}

// One arithmetic per kind of image. Sum is what the weighted pixels are added up in, Weight what weights are stored as.
struct PillowFixed {  // uint8 after each pass, weights of 22 fractional bits
  using Pixel = uint8_t;
  using Between = uint8_t;
  using Weight = int32_t;
  using Sum = int32_t;
  static constexpr Sum zero = 1 << 21;
  static Weight weight(double w) { return static_cast<Weight>(w * (1 << 22) + (w < 0 ? -.5 : .5)); }
  static uint8_t round(Sum s) { return static_cast<uint8_t>(std::clamp(s >> 22, 0, 255)); }
};
struct PillowFloat {
  using Pixel = float;
  using Between = float;
  using Weight = double;
  using Sum = double;
  static constexpr Sum zero = 0;
  static Weight weight(double w) { return w; }
  static float round(Sum s) { return float(s); }
};
template <class T>
struct Plain {
  using Pixel = T;
  using Between = float;
  using Weight = float;
  using Sum = float;
  static constexpr Sum zero = 0;
  static Weight weight(double w) { return float(w); }
};

template <class Arithmetic, class To>
To rounded(typename Arithmetic::Sum s) {
  if constexpr (requires { Arithmetic::round(s); }) {
    return Arithmetic::round(s);
  } else if constexpr (std::is_same_v<To, uint8_t>) {
    return static_cast<uint8_t>(std::clamp(std::lrint(s), 0L, 255L));
  } else {
    return s;
  }
}

template <class Arithmetic>
std::vector<typename Arithmetic::Weight> stored_weights(const Taps& taps) {
  std::vector<typename Arithmetic::Weight> w(taps.weight.size());
  std::transform(taps.weight.begin(), taps.weight.end(), w.begin(), Arithmetic::weight);
  return w;
}

template <class Arithmetic, class From, class To>
void resize_rows(const From* from, int64_t rows, int64_t in, int64_t channels, const Taps& taps, int64_t out, To* to) {
  const auto weights = stored_weights<Arithmetic>(taps);
  for (int64_t y = 0; y < rows; ++y, from += in * channels) {
    for (int64_t x = 0; x < out; ++x) {
      const auto* w = weights.data() + x * taps.width;
      const From* p = from + taps.begin[size_t(x)] * channels;
      const int64_t n = taps.count[size_t(x)];
      for (int64_t c = 0; c < channels; ++c) {
        auto sum = Arithmetic::zero;
        for (int64_t i = 0; i < n; ++i) sum += static_cast<typename Arithmetic::Sum>(p[i * channels + c]) * w[i];
        *to++ = rounded<Arithmetic, To>(sum);
      }
    }
  }
}

// Rows [first, ...) of the source are in `from`.
template <class Arithmetic, class From, class To>
void resize_columns(const From* from, int64_t first, int64_t row, const Taps& taps, int64_t out, To* to) {
  const auto weights = stored_weights<Arithmetic>(taps);
  std::vector<typename Arithmetic::Sum> sums(static_cast<size_t>(row));
  for (int64_t y = 0; y < out; ++y) {
    std::fill(sums.begin(), sums.end(), Arithmetic::zero);
    for (int64_t i = 0; i < taps.count[size_t(y)]; ++i) {
      const auto w = weights[size_t(y * taps.width + i)];
      const From* p = from + (taps.begin[size_t(y)] + i - first) * row;
      for (int64_t x = 0; x < row; ++x) sums[size_t(x)] += static_cast<typename Arithmetic::Sum>(p[x]) * w;
    }
    for (int64_t x = 0; x < row; ++x) *to++ = rounded<Arithmetic, To>(sums[size_t(x)]);
  }
}

// An axis whose size stays is skipped, as Pillow does (the taps would be the identity).
template <class Arithmetic>
void resize_separable(const Tensor& x, int64_t channels, const Tensor& y, ResizeMethod method) {
  using Pixel = typename Arithmetic::Pixel;
  using Between = typename Arithmetic::Between;
  const int64_t h = x.dim(0), w = x.dim(1), oh = y.dim(0), ow = y.dim(1);
  const bool shrinks = oh <= h && ow <= w;
  const Taps across = taps_of(method, w, ow, shrinks), down = taps_of(method, h, oh, shrinks);
  const auto* from = x.data<Pixel>();
  if (oh == h) {
    if (ow == w) return y.copy_from(x);
    return resize_rows<Arithmetic>(from, h, w, channels, across, ow, y.data<Pixel>());
  }
  if (ow == w) return resize_columns<Arithmetic>(from, 0, w * channels, down, oh, y.data<Pixel>());
  const int64_t first = down.begin.front(), last = down.begin.back() + down.count.back();
  std::vector<Between> between(size_t((last - first) * ow * channels));
  resize_rows<Arithmetic>(from + first * w * channels, last - first, w, channels, across, ow, between.data());
  resize_columns<Arithmetic>(between.data(), first, ow * channels, down, oh, y.data<Pixel>());
}

void resize_nearest(const Tensor& x, const Tensor& y, bool centre) {
  const int64_t h = x.dim(0), w = x.dim(1), oh = y.dim(0), ow = y.dim(1);
  const size_t pixel = size_of(x.dtype()) * size_t(x.rank() == 3 ? x.dim(2) : 1);
  const auto source = [centre](int64_t i, int64_t in, int64_t out) {
    return centre ? (2 * i + 1) * in / (2 * out) : i * in / out;
  };
  std::vector<size_t> column(static_cast<size_t>(ow));
  for (int64_t i = 0; i < ow; ++i) column[size_t(i)] = size_t(source(i, w, ow)) * pixel;
  std::byte* to = y.raw();
  const auto copy = [&]<size_t bytes>() {
    for (int64_t r = 0; r < oh; ++r) {
      const std::byte* row = x.raw() + size_t(source(r, h, oh) * w) * pixel;
      for (int64_t c = 0; c < ow; ++c, to += pixel) std::memcpy(to, row + column[size_t(c)], bytes ? bytes : pixel);
    }
  };
  switch (pixel) {  // constant sizes make single moves of the copies
    case 1: return copy.template operator()<1>();
    case 3: return copy.template operator()<3>();
    case 4: return copy.template operator()<4>();
    default: return copy.template operator()<0>();
  }
}

}  // namespace

std::string_view name_of(ResizeMethod method) { return names[size_t(method)]; }

ResizeMethod parse_resize_method(std::string_view name) {
  const auto at = std::find(names.begin(), names.end(), name);
  if (at == names.end()) throw UsageError("resize method '{}', want one of {}", name, fmt::join(names, ", "));
  return ResizeMethod(at - names.begin());
}

Tensor resize_image(const Tensor& x, int64_t height, int64_t width, ResizeMethod method) {
  GLIA_CHECK(x.rank() == 2 || x.rank() == 3, "resize_image: x {}, want (H, W) or (H, W, C)", x.shape());
  GLIA_CHECK(height >= 0 && width >= 0, "resize_image: to {} x {}", height, width);
  Shape shape = x.shape();
  shape.set(0, height);
  shape.set(1, width);
  const bool nearest = method == ResizeMethod::opencv_nearest || method == ResizeMethod::nearest_centre;
  const bool smooth_type = x.dtype() == DType::uint8 || x.dtype() == DType::float32;
  GLIA_CHECK(nearest || smooth_type, "resize_image: {} of {}; want uint8 or float32, or a nearest method for labels",
             name_of(method), glia::name_of(x.dtype()));
  Tensor y(shape, x.dtype());
  if (y.size() == 0) return y;
  GLIA_CHECK(x.size() > 0, "resize_image: x {} has no pixels to make {} from", x.shape(), shape);
  const int64_t channels = x.rank() == 3 ? x.dim(2) : 1;
  const bool pillow = method == ResizeMethod::pillow_bilinear || method == ResizeMethod::pillow_bicubic;
  if (nearest) {
    resize_nearest(x, y, method == ResizeMethod::nearest_centre);
  } else if (x.dtype() == DType::uint8) {
    pillow ? resize_separable<PillowFixed>(x, channels, y, method) : resize_separable<Plain<uint8_t>>(x, channels, y, method);
  } else {
    pillow ? resize_separable<PillowFloat>(x, channels, y, method) : resize_separable<Plain<float>>(x, channels, y, method);
  }
  return y;
}

Tensor resize_labels(const Tensor& labels, int64_t height, int64_t width) {
  return resize_image(labels, height, width, ResizeMethod::nearest_centre);
}

}  // namespace glia
