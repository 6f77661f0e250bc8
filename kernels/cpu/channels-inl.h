// Per SIMD target: passes over a matrix of pixels x channels that the normalisations share. Each pass works on "wide rows": as many
// pixels at once as make their channels a whole number of vectors, so that 1 or 17 channels run as fast as 64; vectors of
// per-channel parameters are repeated accordingly. Pixels that fill no wide row, the rest, are few and done one by one.
#if defined(GLIA_KERNELS_CPU_CHANNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GLIA_KERNELS_CPU_CHANNELS_INL_H_
#undef GLIA_KERNELS_CPU_CHANNELS_INL_H_
#else
#define GLIA_KERNELS_CPU_CHANNELS_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

struct WideRows {
  int64_t pixels, channels;
  int64_t repeat;                                 // pixels in a wide row
  int64_t width;                                  // repeat * channels, a multiple of 16
  int64_t rows;                                   // wide rows
  int64_t grain;                                  // wide rows in a chunk: 256 KB
  int64_t rest() const { return rows * repeat; }  // first pixel that is in no wide row
};

inline WideRows wide_rows(int64_t pixels, int64_t channels) {
  int64_t repeat = 16 / std::gcd(channels, int64_t(16));
  while (channels > 0 && channels * repeat < 64) repeat *= 2;
  const int64_t width = channels * repeat;
  return {
      pixels, channels, repeat, width, channels ? pixels / repeat : 0, std::max<int64_t>(65536 / std::max<int64_t>(width, 1), 4)};
}

inline std::vector<float> repeated(const WideRows& w, const std::vector<float>& values) {
  std::vector<float> wide;
  for (int64_t i = 0; i < w.repeat; ++i) wide.insert(wide.end(), values.begin(), values.end());
  return wide;
}

// y = (x - mean) scale + shift: parameters per channel, and repeated to a wide row.
struct Affine {
  std::vector<float> mean, scale, shift;
  Affine(const WideRows& w, const std::vector<float>& m, const std::vector<float>& a, const std::vector<float>& b)
      : mean(repeated(w, m)), scale(repeated(w, a)), shift(repeated(w, b)) {}
  HWY_INLINE Vector value(Vector x, int64_t i) const {
    return hn::MulAdd(hn::Sub(x, load(mean.data() + i)), load(scale.data() + i), load(shift.data() + i));
  }
};

// Mean and biased variance per channel, in double. Each chunk sums differences from its own first row, and their squares: no
// cancellation, whatever the mean.
inline void channel_statistics(const float* x, const WideRows& w, std::vector<double>& mean, std::vector<double>& variance) {
  const auto channels = size_t(w.channels), width = size_t(w.width);
  std::vector<float> partial(size_t(num_chunks(w.rows, w.grain)) * 2 * width);  // per chunk: sum, sum of squares
  parallel_for(w.rows, w.grain, [&](int64_t begin, int64_t end) {
    const float* origin = x + begin * w.width;
    float* sum = partial.data() + size_t(begin / w.grain) * 2 * width;
    float* squares = sum + width;
    const auto add = [&]<int rows>(const float* row, std::integral_constant<int, rows>) HWY_ATTR {
      for (int64_t i = 0; i < w.width; i += vector_lanes()) {
        const Vector k = load(origin + i);
        Vector s = load(sum + i), q = load(squares + i);
        for (int r = 0; r < rows; ++r) {
          const Vector difference = hn::Sub(load(row + r * w.width + i), k);
          s = hn::Add(s, difference);
          q = hn::MulAdd(difference, difference, q);
        }
        hn::StoreU(s, VectorTag(), sum + i);
        hn::StoreU(q, VectorTag(), squares + i);
      }
    };
    int64_t row = begin;
    for (; row + 4 <= end; row += 4) add(x + row * w.width, std::integral_constant<int, 4>());
    for (; row < end; ++row) add(x + row * w.width, std::integral_constant<int, 1>());
  });

  const auto for_each_partial = [&](auto&& f) {  // f(channel, count, origin, sum, squares), in a fixed order
    for (int64_t begin = 0; begin < w.rows; begin += w.grain) {
      const float* sum = partial.data() + size_t(begin / w.grain) * 2 * width;
      const double count = double(std::min(w.grain, w.rows - begin));
      for (size_t i = 0; i < width; i += channels)
        for (size_t c = 0; c < channels; ++c)
          f(c, count, double(x[size_t(begin) * width + i + c]), double(sum[i + c]), double(sum[width + i + c]));
    }
    for (int64_t p = w.rest(); p < w.pixels; ++p)
      for (size_t c = 0; c < channels; ++c) f(c, 1.0, double(x[size_t(p) * channels + c]), 0.0, 0.0);
  };
  mean.assign(channels, 0);
  variance.assign(channels, 0);
  for_each_partial([&](size_t c, double count, double origin, double sum, double) { mean[c] += count * origin + sum; });
  const double inverse = w.pixels ? 1 / double(w.pixels) : 0;
  for (double& m : mean) m *= inverse;
  for_each_partial([&](size_t c, double count, double origin, double sum, double squares) {
    const double offset = sum / count, away = origin + offset - mean[c];
    variance[c] += std::max(squares - sum * offset, 0.0) + count * away * away;
  });
  for (double& v : variance) v *= inverse;
}

// Calls body(begin, end) for chunks of wide rows from the last to the first: what the pass before read last is still in cache.
template <class F>
void parallel_backwards(const WideRows& w, F&& body) {
  const int64_t chunks = num_chunks(w.rows, w.grain);
  parallel_for(chunks, 1, [&](int64_t i, int64_t) {
    const int64_t begin = (chunks - 1 - i) * w.grain;
    body(begin, std::min(begin + w.grain, w.rows));
  });
}

// y = affine(x), then max(0, y) with relu.
template <bool relu, bool streaming>
void apply_affine_as(const float* x, const WideRows& w, const Affine& affine, float* y) {
  const auto value = [&](Vector v, int64_t i) HWY_ATTR {
    const Vector a = affine.value(v, i);
    return relu ? hn::IfThenZeroElse(hn::Le(a, splat(0)), a) : a;
  };
  parallel_backwards(w, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t i = 0; i < w.width; i += vector_lanes())
        store<streaming>(value(load(x + row * w.width + i), i), y + row * w.width + i);
    if (streaming) hwy::FlushStream();
  });
  for (int64_t p = w.rest(); p < w.pixels; ++p)
    for (int64_t c = 0; c < w.channels; ++c) y[p * w.channels + c] = hn::GetLane(value(splat(x[p * w.channels + c]), c));
}

inline void apply_affine(const float* x, const WideRows& w, const Affine& affine, bool relu, float* y) {
  const bool streaming = worth_streaming(y, w.pixels * w.channels);
  const auto body = relu ? (streaming ? apply_affine_as<true, true> : apply_affine_as<true, false>)
                         : (streaming ? apply_affine_as<false, true> : apply_affine_as<false, false>);
  body(x, w, affine, y);
}

// sum g and sum g (x - mean) per channel, in double; with relu, g counts where affine(x) > 0.
template <bool relu>
void gradient_sums(const float* x, const float* g, const WideRows& w, const Affine& affine, double* sums, double* products) {
  const auto channels = size_t(w.channels), width = size_t(w.width);
  const auto masked = [&](Vector gv, Vector xv, int64_t i)
                          HWY_ATTR { return relu ? hn::IfThenElseZero(hn::Gt(affine.value(xv, i), splat(0)), gv) : gv; };
  std::vector<float> partial(size_t(num_chunks(w.rows, w.grain)) * 2 * width);
  parallel_for(w.rows, w.grain, [&](int64_t begin, int64_t end) {
    float* sum = partial.data() + size_t(begin / w.grain) * 2 * width;
    float* product = sum + width;
    const auto add = [&]<int rows>(int64_t row, std::integral_constant<int, rows>) HWY_ATTR {
      for (int64_t i = 0; i < w.width; i += vector_lanes()) {
        const Vector mean = load(affine.mean.data() + i);
        Vector s = load(sum + i), q = load(product + i);
        for (int r = 0; r < rows; ++r) {
          const Vector xv = load(x + (row + r) * w.width + i), gv = masked(load(g + (row + r) * w.width + i), xv, i);
          s = hn::Add(s, gv);
          q = hn::MulAdd(gv, hn::Sub(xv, mean), q);
        }
        hn::StoreU(s, VectorTag(), sum + i);
        hn::StoreU(q, VectorTag(), product + i);
      }
    };
    int64_t row = begin;
    for (; row + 4 <= end; row += 4) add(row, std::integral_constant<int, 4>());
    for (; row < end; ++row) add(row, std::integral_constant<int, 1>());
  });
  std::fill_n(sums, channels, 0.0);
  std::fill_n(products, channels, 0.0);
  for (const float* sum = partial.data(); sum < partial.data() + partial.size(); sum += 2 * width)
    for (size_t i = 0; i < width; i += channels)
      for (size_t c = 0; c < channels; ++c) sums[c] += double(sum[i + c]), products[c] += double(sum[width + i + c]);
  for (int64_t p = w.rest(); p < w.pixels; ++p)
    for (size_t c = 0; c < channels; ++c) {
      const size_t at = size_t(p) * channels + c;
      const double gradient = double(hn::GetLane(masked(splat(g[at]), splat(x[at]), int64_t(c))));
      sums[c] += gradient;
      products[c] += gradient * (double(x[at]) - double(affine.mean[c]));
    }
}

// dx = a g + b (x - mean) + c per channel; with relu, g counts where affine(x) > 0.
struct Pull {
  std::vector<float> a, b, c;  // repeated to a wide row
};
template <bool relu, bool streaming>
void pull_gradient_as(const float* x, const float* g, const WideRows& w, const Affine& affine, const Pull& pull, float* dx) {
  const auto value = [&](Vector gv, Vector xv, int64_t i) HWY_ATTR {
    if (relu) gv = hn::IfThenElseZero(hn::Gt(affine.value(xv, i), splat(0)), gv);
    const Vector centred = hn::Sub(xv, load(affine.mean.data() + i));
    return hn::MulAdd(load(pull.a.data() + i), gv, hn::MulAdd(load(pull.b.data() + i), centred, load(pull.c.data() + i)));
  };
  parallel_backwards(w, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin * w.width; at < end * w.width; at += w.width)
      for (int64_t i = 0; i < w.width; i += vector_lanes())
        store<streaming>(value(load(g + at + i), load(x + at + i), i), dx + at + i);
    if (streaming) hwy::FlushStream();
  });
  for (int64_t p = w.rest(); p < w.pixels; ++p)
    for (int64_t c = 0; c < w.channels; ++c) {
      const int64_t at = p * w.channels + c;
      dx[at] = hn::GetLane(value(splat(g[at]), splat(x[at]), c));
    }
}

inline void pull_gradient(const float* x, const float* g, const WideRows& w, const Affine& affine, const Pull& pull, bool relu,
                          float* dx) {
  const bool streaming = worth_streaming(dx, w.pixels * w.channels);
  const auto body = relu ? (streaming ? pull_gradient_as<true, true> : pull_gradient_as<true, false>)
                         : (streaming ? pull_gradient_as<false, true> : pull_gradient_as<false, false>);
  body(x, g, w, affine, pull, dx);
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
