#include "kernels/resize.h"

#include <algorithm>
#include <cmath>

namespace glia {
namespace {

void append_triangle(ResizeTaps& taps, double centre, double support, int64_t in) {
  const auto low = std::max<int64_t>(static_cast<int64_t>(centre - support + 0.5), 0);
  const auto high = std::min<int64_t>(static_cast<int64_t>(centre + support + 0.5), in);
  double sum = 0;
  const size_t first = taps.weight.size();
  for (int64_t i = low; i < high; ++i) {
    const double weight = std::max(0.0, 1 - std::abs((double(i) - centre + 0.5) / support));
    taps.index.push_back(i);
    taps.weight.push_back(weight);
    sum += weight;
  }
  for (size_t k = first; k < taps.weight.size(); ++k) taps.weight[k] /= sum;
}

void append_linear(ResizeTaps& taps, double source, int64_t in) {
  const auto low = std::min(static_cast<int64_t>(source), in - 1);
  const double fraction = source - double(low);
  const bool one = low + 1 >= in || fraction == 0;
  taps.index.push_back(low);
  taps.weight.push_back(one ? 1 : 1 - fraction);
  if (one) return;
  taps.index.push_back(low + 1);
  taps.weight.push_back(fraction);
}

}  // namespace

ResizeTaps resize_taps(const Resize& op, int axis, int64_t in) {
  const int64_t out = op.size[size_t(axis)];
  const double factor = op.scale_factor[size_t(axis)];
  const double scale = factor > 0 ? 1 / factor : double(in) / double(out);
  ResizeTaps taps;
  for (int64_t o = 0; o < out; ++o) {
    taps.begin.push_back(static_cast<int64_t>(taps.index.size()));
    const double centre = (double(o) + 0.5) * scale;
    if (op.mode == ResizeMode::nearest) {  // in float32, as PyTorch: the floor depends on it
      taps.index.push_back(std::min(static_cast<int64_t>(std::floor(float(o) * float(scale))), in - 1));
      taps.weight.push_back(1);
    } else if (op.mode == ResizeMode::nearest_exact) {
      taps.index.push_back(std::min(static_cast<int64_t>(std::floor(centre)), in - 1));
      taps.weight.push_back(1);
    } else if (op.antialias) {
      append_triangle(taps, centre, std::max(scale, 1.0), in);
    } else if (op.align_corners) {
      append_linear(taps, out > 1 ? double(o) * double(in - 1) / double(out - 1) : 0, in);
    } else {
      append_linear(taps, std::max(centre - 0.5, 0.0), in);
    }
  }
  taps.begin.push_back(static_cast<int64_t>(taps.index.size()));
  return taps;
}

ResizeTaps transposed(const ResizeTaps& taps, int64_t in) {
  ResizeTaps t;
  t.begin.assign(size_t(in) + 1, 0);
  for (const int64_t i : taps.index) ++t.begin[size_t(i) + 1];
  for (size_t i = 1; i < t.begin.size(); ++i) t.begin[i] += t.begin[i - 1];
  t.index.resize(taps.index.size());
  t.weight.resize(taps.index.size());
  std::vector<int64_t> next(t.begin.begin(), t.begin.end() - 1);
  for (int64_t o = 0; o < taps.outputs(); ++o)
    for (int64_t k = taps.begin[size_t(o)]; k < taps.begin[size_t(o) + 1]; ++k) {
      const auto at = size_t(next[size_t(taps.index[size_t(k)])]++);
      t.index[at] = o;
      t.weight[at] = taps.weight[size_t(k)];
    }
  return t;
}

TensorSpec Resize::infer(const Tensor& x) const {
  GLIA_CHECK(x.rank() == 4 && x.dim(1) >= 1 && x.dim(2) >= 1, "resize: x is {}, want (N, H, W, C) with H, W >= 1", x.shape());
  GLIA_CHECK(size[0] >= 1 && size[1] >= 1, "resize: to {} x {} pixels, want at least 1 x 1", size[0], size[1]);
  GLIA_CHECK(!antialias || (mode == ResizeMode::bilinear && !align_corners),
             "resize: antialias goes with bilinear without align_corners only");
  return {{x.dim(0), size[0], size[1], x.dim(3)}, x.dtype()};
}

}  // namespace glia
