#include "kernels/resize.h"

namespace glia {

ResizeAxis::ResizeAxis(const Resize& op, int axis, int64_t in_)
    : mode(op.mode), align_corners(op.align_corners), antialias(op.antialias), in(in_), out(op.size[size_t(axis)]) {
  const double factor = op.scale_factor[size_t(axis)];
  scale = factor > 0 ? 1 / factor : double(in) / double(out);
}

ResizeTaps resize_taps(const Resize& op, int axis, int64_t in) {
  const ResizeAxis a(op, axis, in);
  ResizeTaps taps;
  for (int64_t o = 0; o < a.out; ++o) {
    taps.begin.push_back(static_cast<int64_t>(taps.index.size()));
    const ResizeAxis::Span span = a.span(o);
    for (int64_t k = 0; k < span.count; ++k) {
      taps.index.push_back(span.first + k);
      taps.weight.push_back(a.weight(span, k));
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
