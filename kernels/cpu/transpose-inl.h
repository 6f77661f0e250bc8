// A transposing copy, for packing. Included inside HWY_NAMESPACE by the files that use it.
HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

// to[i * width + j] = from[i + j * stride] for n values of i and the `columns` first of `width` values of j; the rest 0.
void pack_transposed(const float* from, int64_t stride, int64_t n, int64_t columns, int64_t width, float* to) {
  int64_t j = 0;
#if HWY_TARGET != HWY_SCALAR  // squares of 4 x 4
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::FixedTag<float, 4> d4;
  const hn::FixedTag<double, 2> d2;
  const auto pairs = [&](auto x) HWY_ATTR { return hn::BitCast(d2, x); };
  for (; j + 4 <= columns; j += 4) {
    const float* c = from + j * stride;
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
      const auto c0 = hn::LoadU(d4, c + i), c1 = hn::LoadU(d4, c + stride + i);
      const auto c2 = hn::LoadU(d4, c + 2 * stride + i), c3 = hn::LoadU(d4, c + 3 * stride + i);
      const auto low01 = pairs(hn::InterleaveLower(d4, c0, c1)), low23 = pairs(hn::InterleaveLower(d4, c2, c3));
      const auto high01 = pairs(hn::InterleaveUpper(d4, c0, c1)), high23 = pairs(hn::InterleaveUpper(d4, c2, c3));
      float* row = to + i * width + j;
      hn::Store(hn::BitCast(d4, hn::InterleaveLower(d2, low01, low23)), d4, row);
      hn::Store(hn::BitCast(d4, hn::InterleaveUpper(d2, low01, low23)), d4, row + width);
      hn::Store(hn::BitCast(d4, hn::InterleaveLower(d2, high01, high23)), d4, row + 2 * width);
      hn::Store(hn::BitCast(d4, hn::InterleaveUpper(d2, high01, high23)), d4, row + 3 * width);
    }
    for (; i < n; ++i)
      for (int64_t k = 0; k < 4; ++k) to[i * width + j + k] = c[k * stride + i];
  }
#endif
  for (; j < columns; ++j)
    for (int64_t i = 0; i < n; ++i) to[i * width + j] = from[j * stride + i];
  for (; j < width; ++j)
    for (int64_t i = 0; i < n; ++i) to[i * width + j] = 0;
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
