// Augmentation of images and label maps.
#include "data/augment.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "tensor/random.h"

namespace glia {
namespace {

constexpr uint64_t augment_key = 0x61756D656E74ull;  // keeps these draws apart from the loader's order under the same seed

// Index mirrored into [0, n): ... 1 0 | 0 1 2 .. n-1 | n-1 n-2 ...  `tile` becomes -1, 0 or 1: before, inside, behind.
struct Mirrored {
  int64_t index;
  int tile;
};

Mirrored mirror(int64_t i, int64_t n) {
  if (i >= 0 && i < n) return {i, 0};
  const int tile = i < 0 ? -1 : 1;
  const int64_t period = 2 * n;
  i = ((i % period) + period) % period;
  return {i < n ? i : period - 1 - i, tile};
}

// Whether output pixels fall on source pixels: a symmetry of the square with an integer shift.
bool is_exact(const Augmentation& a) {
  const auto& m = a.matrix;
  const bool straight = std::abs(m[0]) == 1 && m[1] == 0 && m[2] == 0 && std::abs(m[3]) == 1;
  const bool crossed = m[0] == 0 && std::abs(m[1]) == 1 && std::abs(m[2]) == 1 && m[3] == 0;
  return straight || crossed;
}

struct Point {
  double x, y;
};

// Source point of the first pixel of output row y; steps by (m0, m2) along the row.
Point row_start(const Augmentation& a, int64_t y) {
  const double dx = 0.5 - 0.5 * static_cast<double>(a.width),
               dy = static_cast<double>(y) + 0.5 - 0.5 * static_cast<double>(a.height);
  return {a.matrix[0] * dx + a.matrix[1] * dy + a.center[0], a.matrix[2] * dx + a.matrix[3] * dy + a.center[1]};
}

int64_t floor_int(double v) { return static_cast<int64_t>(std::floor(v)); }

template <class T>
void copy_exact(const T* in, T* out, int64_t height, int64_t width, int64_t channels, const Augmentation& a) {
  for (int64_t y = 0; y < a.height; ++y) {
    const Point start = row_start(a, y);
    for (int64_t x = 0; x < a.width; ++x) {
      const double t = static_cast<double>(x);
      const int64_t sx = mirror(floor_int(start.x + t * a.matrix[0]), width).index;
      const int64_t sy = mirror(floor_int(start.y + t * a.matrix[2]), height).index;
      const T* pixel = in + (sy * width + sx) * channels;
      for (int64_t c = 0; c < channels; ++c) *out++ = pixel[c];
    }
  }
}

template <class T>
T from_float(float v) {
  if constexpr (std::is_same_v<T, float>)
    return v;
  else
    return static_cast<T>(std::clamp(std::nearbyint(v), static_cast<float>(std::numeric_limits<T>::min()),
                                     sizeof(T) == 1 ? static_cast<float>(std::numeric_limits<T>::max()) : 2147483520.0f));
}

template <class T>
void resample_bilinear(const T* in, T* out, int64_t height, int64_t width, int64_t channels, const Augmentation& a) {
  const int64_t stride = width * channels;
  for (int64_t y = 0; y < a.height; ++y) {
    const Point start = row_start(a, y);
    for (int64_t x = 0; x < a.width; ++x) {
      const double fx = start.x + static_cast<double>(x) * a.matrix[0] - 0.5,
                   fy = start.y + static_cast<double>(x) * a.matrix[2] - 0.5;
      const int64_t x0 = floor_int(fx), y0 = floor_int(fy);
      const float wx = static_cast<float>(fx - static_cast<double>(x0)), wy = static_cast<float>(fy - static_cast<double>(y0));
      int64_t xa = x0, xb = x0 + 1, ya = y0, yb = y0 + 1;
      if (x0 < 0 || y0 < 0 || xb >= width || yb >= height) {
        xa = mirror(xa, width).index, xb = mirror(xb, width).index;
        ya = mirror(ya, height).index, yb = mirror(yb, height).index;
      }
      const T *p00 = in + ya * stride + xa * channels, *p01 = in + ya * stride + xb * channels;
      const T *p10 = in + yb * stride + xa * channels, *p11 = in + yb * stride + xb * channels;
      for (int64_t c = 0; c < channels; ++c) {
        const float v00 = static_cast<float>(p00[c]), v10 = static_cast<float>(p10[c]);
        const float top = v00 + wx * (static_cast<float>(p01[c]) - v00), bottom = v10 + wx * (static_cast<float>(p11[c]) - v10);
        *out++ = from_float<T>(top + wy * (bottom - top));
      }
    }
  }
}

// Roughly normal with variance 1: the sum of four uniform 16-bit numbers. One Philox block serves two values.
void add_noise(float* values, int64_t n, float sigma, uint64_t seed) {
  const Philox philox(seed, augment_key);
  const float unit = sigma * std::sqrt(3.0f) / 65536.0f;  // the sum of four uniforms on [0, 65536) has variance 65536^2 / 3
  for (int64_t i = 0; i < n; i += 2) {
    const auto w = philox.words(static_cast<uint64_t>(i));
    const auto sum = [](uint32_t p, uint32_t q) {
      return static_cast<float>(static_cast<int64_t>((p & 0xFFFF) + (p >> 16) + (q & 0xFFFF) + (q >> 16)) - 131070);
    };
    values[i] += unit * sum(w[0], w[1]);
    if (i + 1 < n) values[i + 1] += unit * sum(w[2], w[3]);
  }
}

template <class T>
void change_values(T* values, int64_t n, const Augmentation& a) {
  if (n == 0 || (a.brightness == 0 && a.contrast == 1 && a.noise == 0)) return;
  double sum = 0, low = static_cast<double>(values[0]), high = low;
  for (int64_t i = 0; i < n; ++i) {
    const double v = static_cast<double>(values[i]);
    sum += v, low = std::min(low, v), high = std::max(high, v);
  }
  const double range = sizeof(T) == 1 ? 255 : high - low, mean = sum / static_cast<double>(n);
  const float gain = static_cast<float>(a.contrast), offset = static_cast<float>(mean - a.contrast * mean + a.brightness * range);
  constexpr int64_t block = 4096;
  float buffer[block];
  for (int64_t first = 0; first < n; first += block) {
    const int64_t count = std::min(block, n - first);
    for (int64_t i = 0; i < count; ++i) buffer[i] = static_cast<float>(values[first + i]) * gain + offset;
    if (a.noise > 0) add_noise(buffer, count, static_cast<float>(a.noise * range), a.noise_seed + static_cast<uint64_t>(first));
    for (int64_t i = 0; i < count; ++i) values[first + i] = from_float<T>(buffer[i]);
  }
}

template <class T>
Tensor augment_typed(const Tensor& image, const Augmentation& a) {
  const int64_t channels = image.rank() == 3 ? image.dim(2) : 1;
  const Shape shape = image.rank() == 3 ? Shape{a.height, a.width, channels} : Shape{a.height, a.width};
  Tensor result(shape, image.dtype());
  if (is_exact(a)) {
    copy_exact(image.data<T>(), result.data<T>(), image.dim(0), image.dim(1), channels, a);
  } else {
    resample_bilinear(image.data<T>(), result.data<T>(), image.dim(0), image.dim(1), channels, a);
  }
  change_values(result.data<T>(), result.size(), a);
  return result;
}

// Which edges of the image an instance touches, as bits: left, right, top, bottom.
std::vector<uint8_t> touched_edges(const int32_t* labels, int64_t height, int64_t width, int32_t max_label) {
  std::vector<uint8_t> edges(static_cast<size_t>(max_label) + 1);
  const auto mark = [&](int64_t y, int64_t x, uint8_t bit) { edges[static_cast<size_t>(labels[y * width + x])] |= bit; };
  for (int64_t y = 0; y < height; ++y) mark(y, 0, 1), mark(y, width - 1, 2);
  for (int64_t x = 0; x < width; ++x) mark(0, x, 4), mark(height - 1, x, 8);
  return edges;
}

}  // namespace

void check(const AugmentOptions& o) {
  const auto need = [](bool fine, const char* key, double value, const char* wanted) {
    if (!fine) throw UsageError("augment.{}: {} is out of range, want {}", key, value, wanted);
  };
  need(o.rotate >= 0 && o.rotate <= 180, "rotate", o.rotate, "degrees from 0 to 180");
  need(o.scale >= 0 && o.scale <= 4, "scale", o.scale, "0 to 4 (0.25 zooms by 1/1.25 to 1.25)");
  need(o.brightness >= 0 && o.brightness <= 1, "brightness", o.brightness, "0 to 1 (a fraction of the value range)");
  need(o.contrast >= 0 && o.contrast <= 1, "contrast", o.contrast, "0 to 1 (0.2 multiplies by 0.8 to 1.2)");
  need(o.noise >= 0 && o.noise <= 1, "noise", o.noise, "0 to 1 (a fraction of the value range)");
  const auto [h, w] = o.crop;
  need(h >= 0 && w >= 0 && (h == 0) == (w == 0), "crop", static_cast<double>(std::min(h, w)), "[height, width], both positive");
}

Augmentation draw_augmentation(const AugmentOptions& o, int64_t height, int64_t width, uint64_t seed, int64_t epoch,
                               int64_t index) {
  const Philox philox(seed ^ augment_key, (static_cast<uint64_t>(epoch) << 32) ^ static_cast<uint64_t>(index));
  uint64_t counter = 0;  // one number per key whether used or not: switching one key off leaves the others' draws alone
  const auto uniform = [&](double low, double high) { return philox.uniform(counter++, low, high); };
  const bool hflip = uniform(0, 1) < 0.5 && o.hflip, vflip = uniform(0, 1) < 0.5 && o.vflip;
  bool transpose = uniform(0, 1) < 0.5 && o.transpose;
  const double angle = uniform(-1, 1) * o.rotate * std::numbers::pi / 180;
  const double zoom = std::exp(uniform(-1, 1) * std::log1p(o.scale));

  Augmentation a;
  a.brightness = uniform(-1, 1) * o.brightness;
  a.contrast = 1 + uniform(-1, 1) * o.contrast;
  a.noise = uniform(0, 1) * o.noise;
  const double shift_y = uniform(0, 1), shift_x = uniform(0, 1);
  a.noise_seed = philox.bits(1000);

  const bool cropped = o.crop[0] > 0;
  a.height = cropped ? o.crop[0] : height;
  a.width = cropped ? o.crop[1] : width;
  if (!cropped && height != width) transpose = false;

  // Centre of the window in the source; the window lies inside where it fits, on whole pixels.
  const auto window_center = [](int64_t size, int64_t window, double shift) {
    const int64_t room = size - window;
    const int64_t first = room > 0 ? floor_int(shift * static_cast<double>(room + 1)) : floor_int(static_cast<double>(room) / 2);
    return static_cast<double>(first) + static_cast<double>(window) / 2;
  };
  a.center = {window_center(width, transpose ? a.height : a.width, shift_x),
              window_center(height, transpose ? a.width : a.height, shift_y)};

  // source = flips * transposition * rotation / zoom
  const bool turned = angle != 0;
  const double c = (turned ? std::cos(angle) : 1) / zoom, s = (turned ? std::sin(angle) : 0) / zoom;
  std::array<double, 4> m{c, turned ? -s : 0, turned ? s : 0, c};
  if (transpose) m = {m[2], m[3], m[0], m[1]};
  if (hflip) m[0] = -m[0], m[1] = -m[1];
  if (vflip) m[2] = -m[2], m[3] = -m[3];
  for (double& v : m) v += 0.0;  // no negative zeros
  a.matrix = m;
  return a;
}

Tensor augment_image(const Tensor& image, const Augmentation& a) {
  GLIA_CHECK(image.rank() == 3 || image.rank() == 2, "augment_image: image is {}, want (H, W, C) or (H, W)", image.shape());
  GLIA_CHECK(image.size() > 0, "augment_image: empty image {}", image.shape());
  switch (image.dtype()) {
    case DType::uint8: return augment_typed<uint8_t>(image, a);
    case DType::int32: return augment_typed<int32_t>(image, a);
    case DType::float32: return augment_typed<float>(image, a);
    default: throw InternalError("augment_image: element type {}, want uint8, int32 or float32", name_of(image.dtype()));
  }
}

Tensor augment_labels(const Tensor& labels, const Augmentation& a, std::vector<int32_t>* source) {
  GLIA_CHECK(labels.rank() == 2 && labels.size() > 0, "augment_labels: labels are {}, want (H, W)", labels.shape());
  const int64_t height = labels.dim(0), width = labels.dim(1);
  const int32_t* in = labels.data<int32_t>();
  const auto [low, high] = std::minmax_element(in, in + labels.size());
  GLIA_CHECK(*low >= 0, "augment_labels: negative label {}", *low);
  const std::vector<uint8_t> edges = touched_edges(in, height, width, *high);

  // First the key 9 * label + copy of every pixel, then keys become consecutive labels. A mirrored pixel keeps its original's
  // copy number across an edge that the instance touches: there both halves are one object.
  Tensor result({a.height, a.width}, DType::int32);
  int32_t* out = result.data<int32_t>();
  std::vector<int32_t> label_of_key((static_cast<size_t>(*high) + 1) * 9);
  for (int64_t y = 0; y < a.height; ++y) {
    const Point start = row_start(a, y);
    for (int64_t x = 0; x < a.width; ++x, ++out) {
      const double t = static_cast<double>(x);
      const Mirrored sx = mirror(floor_int(start.x + t * a.matrix[0]), width);
      const Mirrored sy = mirror(floor_int(start.y + t * a.matrix[2]), height);
      const int32_t label = in[sy.index * width + sx.index];
      int copy = 0;
      if (label && (sx.tile || sy.tile)) {
        const int touched = edges[static_cast<size_t>(label)];
        const int tx = sx.tile < 0 ? !(touched & 1) : sx.tile > 0 ? 2 * !(touched & 2) : 0;
        const int ty = sy.tile < 0 ? !(touched & 4) : sy.tile > 0 ? 2 * !(touched & 8) : 0;
        copy = 3 * ty + tx;
      }
      *out = label * 9 + copy;
      label_of_key[static_cast<size_t>(*out)] = 1;
    }
  }
  if (source) source->clear();
  int32_t n = 0;
  for (size_t key = 9; key < label_of_key.size(); ++key) {
    if (!label_of_key[key]) continue;
    label_of_key[key] = ++n;
    if (source) source->push_back(static_cast<int32_t>(key / 9));
  }
  label_of_key[0] = 0;
  for (int32_t& v : result.values<int32_t>()) v = label_of_key[static_cast<size_t>(v)];
  return result;
}

}  // namespace glia
