// Blur, noise and microscopes of the synthetic pictures.
#include "data/synth_optics.h"

#include <algorithm>
#include <cmath>

namespace glia::synth {
namespace {

// Running mean over 2 r + 1 pixels along each row.
void box_rows(const std::vector<float>& in, std::vector<float>& out, int64_t height, int64_t width, int64_t r) {
  const float scale = 1.0f / static_cast<float>(2 * r + 1);
  for (int64_t y = 0; y < height; ++y) {
    const float* row = in.data() + y * width;
    float* result = out.data() + y * width;
    const auto value = [&](int64_t x) { return row[std::clamp<int64_t>(x, 0, width - 1)]; };
    float sum = 0;
    for (int64_t x = -r; x <= r; ++x) sum += value(x);
    for (int64_t x = 0; x < width; ++x) {
      result[x] = sum * scale;
      sum += value(x + r + 1) - value(x - r);
    }
  }
}

// The same along columns, all columns at a time.
void box_columns(const std::vector<float>& in, std::vector<float>& out, int64_t height, int64_t width, int64_t r) {
  const float scale = 1.0f / static_cast<float>(2 * r + 1);
  const auto row = [&](int64_t y) { return in.data() + std::clamp<int64_t>(y, 0, height - 1) * width; };
  std::vector<float> sum(static_cast<size_t>(width), 0.0f);
  for (int64_t y = -r; y <= r; ++y) {
    const float* values = row(y);
    for (int64_t x = 0; x < width; ++x) sum[static_cast<size_t>(x)] += values[x];
  }
  for (int64_t y = 0; y < height; ++y) {
    float* result = out.data() + y * width;
    const float *enters = row(y + r + 1), *leaves = row(y - r);
    for (int64_t x = 0; x < width; ++x) {
      float& s = sum[static_cast<size_t>(x)];
      result[x] = s * scale;
      s += enters[x] - leaves[x];
    }
  }
}

// Small blurs by the 5-tap binomial-like kernel of the wanted variance: boxes are too coarse there.
void small_blur(Plane& plane, double sigma) {
  const double q = std::exp(-0.5 / (sigma * sigma)), q2 = q * q * q * q, total = 1 + 2 * q + 2 * q2;
  const float w0 = static_cast<float>(1 / total), w1 = static_cast<float>(q / total), w2 = static_cast<float>(q2 / total);
  const int64_t height = plane.height, width = plane.width;
  std::vector<float> rows(plane.values.size());
  for (int64_t y = 0; y < height; ++y) {
    const float* in = plane.values.data() + y * width;
    float* out = rows.data() + y * width;
    const auto at = [&](int64_t x) { return in[std::clamp<int64_t>(x, 0, width - 1)]; };
    for (int64_t x = 0; x < width; ++x) {
      out[x] = x >= 2 && x + 2 < width ? w0 * in[x] + w1 * (in[x - 1] + in[x + 1]) + w2 * (in[x - 2] + in[x + 2])
                                       : w0 * in[x] + w1 * (at(x - 1) + at(x + 1)) + w2 * (at(x - 2) + at(x + 2));
    }
  }
  const auto row = [&](int64_t y) { return rows.data() + std::clamp<int64_t>(y, 0, height - 1) * width; };
  for (int64_t y = 0; y < height; ++y) {
    const float *a = row(y - 2), *b = row(y - 1), *c = row(y), *d = row(y + 1), *e = row(y + 2);
    float* out = plane.values.data() + y * width;
    for (int64_t x = 0; x < width; ++x) out[x] = w0 * c[x] + w1 * (b[x] + d[x]) + w2 * (a[x] + e[x]);
  }
}

}  // namespace

void blur(Plane& plane, double sigma) {
  if (sigma < 0.4) return;
  if (sigma < 1.3) return small_blur(plane, sigma);
  // n boxes of width w have variance n (w^2 - 1) / 12: widths w and w + 2 mixed to come closest (Kovesi 2010).
  constexpr int passes = 3;
  const double ideal = std::sqrt(12 * sigma * sigma / passes + 1);
  const int64_t lower = std::max<int64_t>(1, (static_cast<int64_t>(ideal) - 1) / 2 * 2 + 1);
  const double w = static_cast<double>(lower);
  const int narrow = static_cast<int>(std::lround((12 * sigma * sigma - passes * (w * w + 4 * w + 3)) / (-4 * w - 4)));
  std::vector<float> other(plane.values.size());
  for (int pass = 0; pass < passes; ++pass) {
    const int64_t r = (pass < narrow ? lower : lower + 2) / 2;
    box_rows(plane.values, other, plane.height, plane.width, r);
    box_columns(other, plane.values, plane.height, plane.width, r);
  }
}

Plane white_noise(int64_t height, int64_t width, uint64_t seed, uint64_t stream) {
  Plane plane(height, width);
  const Philox philox(seed, stream);
  const float unit = std::sqrt(3.0f) / 65536.0f;  // four uniform 16-bit numbers have variance 65536^2 / 3
  const auto sum = [](uint32_t p, uint32_t q) {
    return static_cast<float>(static_cast<int32_t>((p & 0xFFFF) + (p >> 16) + (q & 0xFFFF) + (q >> 16)) - 131070);
  };
  const size_t n = plane.values.size();
  for (size_t i = 0; i < n; i += 2) {
    const auto w = philox.words(i / 2);
    plane.values[i] = unit * sum(w[0], w[1]);
    if (i + 1 < n) plane.values[i + 1] = unit * sum(w[2], w[3]);
  }
  return plane;
}

Plane smooth_noise(int64_t height, int64_t width, double sigma, uint64_t seed, uint64_t stream) {
  // Coarse textures are made small and enlarged: a blur of many pixels costs time and keeps only what a small plane holds.
  const int64_t step = sigma >= 8 ? static_cast<int64_t>(sigma / 3) : 1;
  Plane plane = white_noise(height / step + 4, width / step + 4, seed, stream);
  blur(plane, sigma / static_cast<double>(step));
  double sum = 0, squares = 0;
  for (const float v : plane.values) sum += v, squares += static_cast<double>(v) * v;
  const double n = static_cast<double>(plane.values.size()), mean = sum / n;
  const float scale = static_cast<float>(1 / std::sqrt(std::max(1e-12, squares / n - mean * mean)));
  Plane result(height, width);
  for (int64_t y = 0; y < height; ++y) {
    const int64_t y0 = y / step;
    const float wy = static_cast<float>(y % step) / static_cast<float>(step);
    for (int64_t x = 0; x < width; ++x) {
      const int64_t x0 = x / step;
      const float wx = static_cast<float>(x % step) / static_cast<float>(step);
      const float* p = plane.values.data() + y0 * plane.width + x0;
      const float* q = p + plane.width;
      const float top = p[0] + wx * (p[1] - p[0]), bottom = q[0] + wx * (q[1] - q[0]);
      result.at(y, x) = (top + wy * (bottom - top) - static_cast<float>(mean)) * scale;
    }
  }
  return result;
}

void add_dot(Plane& plane, double x, double y, double sigma, double amplitude) {
  const int64_t r = static_cast<int64_t>(std::ceil(3 * sigma)), cx = std::llround(x), cy = std::llround(y);
  const float scale = static_cast<float>(-0.5 / (sigma * sigma)), height = static_cast<float>(amplitude);
  for (int64_t py = std::max<int64_t>(0, cy - r); py <= std::min(plane.height - 1, cy + r); ++py) {
    for (int64_t px = std::max<int64_t>(0, cx - r); px <= std::min(plane.width - 1, cx + r); ++px) {
      const float dx = static_cast<float>(static_cast<double>(px) - x), dy = static_cast<float>(static_cast<double>(py) - y);
      plane.at(py, px) += height * std::exp(scale * (dx * dx + dy * dy));
    }
  }
}

Plane phase_contrast(const Plane& phase, const PhaseContrast& optics) {
  const size_t n = phase.values.size();
  Plane re(phase.height, phase.width), im(phase.height, phase.width);
  for (size_t i = 0; i < n; ++i) {
    re.values[i] = std::cos(phase.values[i]);
    im.values[i] = std::sin(phase.values[i]);
  }
  const auto local_mean = [&](const Plane& u) {
    Plane near = u, far = u;
    blur(near, optics.fringe);
    blur(far, optics.halo);
    for (size_t i = 0; i < n; ++i) near.values[i] = 0.75f * near.values[i] + 0.25f * far.values[i];
    return near;
  };
  const Plane re0 = local_mean(re), im0 = local_mean(im);
  const float t = static_cast<float>(optics.transmission), scale = 1 / (t * t);
  for (size_t i = 0; i < n; ++i) {
    const float a = re.values[i] - re0.values[i] + t * im0.values[i], b = im.values[i] - im0.values[i] - t * re0.values[i];
    re.values[i] = (a * a + b * b) * scale;
  }
  return re;
}

Tensor to_picture(const Plane& plane) {
  Tensor picture({plane.height, plane.width, 1}, DType::uint8);
  uint8_t* out = picture.data<uint8_t>();
  for (size_t i = 0; i < plane.values.size(); ++i) {
    out[i] = static_cast<uint8_t>(std::clamp(std::nearbyint(plane.values[i]), 0.0f, 255.0f));
  }
  return picture;
}

}  // namespace glia::synth
