// Dropout with the mask drawn on the way: Philox on vectors of counters (tensor/random.h is the scalar form).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/dropout.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/vector-inl.h"
#include "kernels/dropout.h"
#include "tensor/random.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

using Tag64 = hn::Repartition<uint64_t, VectorTag>;
using Tag32 = hn::Repartition<uint32_t, VectorTag>;
using Vector64 = hn::Vec<Tag64>;

#if HWY_TARGET != HWY_SCALAR
// One counter per 64-bit lane; each of the four words lives in the low half of a lane, and what the high halves hold is ignored: the
// multiplication reads low halves only. Lane 2b counts b, lane 2b + 1 counts lanes/2 + b, so that interleaving gives the words of
// consecutive counters in order.
class PhiloxVector {
 public:
  PhiloxVector(uint64_t seed, uint64_t stream) : stream_low_(set(stream)), stream_high_(set(stream >> 32)) {
    uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
    for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) keys_[round][0] = k0, keys_[round][1] = k1;
    const auto lanes = hn::Lanes(Tag64());
    HWY_ALIGN uint64_t order[HWY_MAX_BYTES / 8];
    for (size_t i = 0; i < lanes; ++i) order[i] = i % 2 * (lanes / 2) + i / 2;
    order_ = hn::Load(Tag64(), order);
  }

  static int64_t counters() { return static_cast<int64_t>(hn::Lanes(Tag64())); }

  // The words of counters() counters from `first` on: 4 * counters() words in two 128-bit-block-wise halves `a`, then `b`.
  HWY_INLINE void words(uint64_t first, hn::Vec<Tag32>& a, hn::Vec<Tag32>& b) const {
    const Tag32 d32;
    const Tag64 d64;
    const Vector64 m0 = set(0xD2511F53u), m2 = set(0xCD9E8D57u);
    const Vector64 counter = hn::Add(set(first), order_);
    Vector64 x0 = counter, x1 = hn::ShiftRight<32>(counter), x2 = stream_low_, x3 = stream_high_;
    for (int round = 0; round < 10; ++round) {
      const Vector64 p0 = hn::MulEven(hn::BitCast(d32, x0), hn::BitCast(d32, m0));
      const Vector64 p2 = hn::MulEven(hn::BitCast(d32, x2), hn::BitCast(d32, m2));
      x0 = hn::Xor3(hn::ShiftRight<32>(p2), x1, set(keys_[round][0]));
      x1 = p2;
      x2 = hn::Xor3(hn::ShiftRight<32>(p0), x3, set(keys_[round][1]));
      x3 = p0;
    }
    const Vector64 low = set(0xFFFFFFFFu);
    const Vector64 w01 = hn::Or(hn::And(x0, low), hn::ShiftLeft<32>(x1)), w23 = hn::Or(hn::And(x2, low), hn::ShiftLeft<32>(x3));
    a = hn::BitCast(d32, hn::InterleaveLower(d64, w01, w23));
    b = hn::BitCast(d32, hn::InterleaveUpper(d64, w01, w23));
  }

 private:
  static HWY_INLINE Vector64 set(uint64_t value) { return hn::Set(Tag64(), value); }
  Vector64 stream_low_, stream_high_, order_;
  uint64_t keys_[10][2];
};
#endif

// Elements [begin, end) of the tensor; begin is a multiple of 4.
template <bool streaming>
void dropout_span(const Dropout& op, int64_t begin, int64_t end, const float* from, float* to) {
  const uint32_t threshold = dropout_threshold(op.p);
  int64_t i = begin;
#if HWY_TARGET != HWY_SCALAR
  using TagInt = hn::Repartition<int32_t, VectorTag>;
  const PhiloxVector random(op.seed, op.stream);
  const Vector scale = splat(op.scale());
  const auto below = hn::Set(TagInt(), static_cast<int32_t>(threshold) - 1);
  const int64_t lanes = vector_lanes();
  const auto masked = [&](hn::Vec<Tag32> words, Vector x) HWY_ATTR {
    const auto keep = hn::Gt(hn::BitCast(TagInt(), hn::ShiftRight<8>(words)), below);
    return hn::IfThenElseZero(hn::RebindMask(VectorTag(), keep), hn::Mul(x, scale));
  };
  hn::Vec<Tag32> a, b;
  for (; i + 2 * lanes <= end; i += 2 * lanes) {
    random.words(uint64_t(i) >> 2, a, b);
    store<streaming>(masked(a, load(from + i)), to + i);
    store<streaming>(masked(b, load(from + i + lanes)), to + i + lanes);
  }
#endif
  const Philox scalar(op.seed, op.stream);
  for (; i < end; ++i) to[i] = scalar.words(uint64_t(i) >> 2)[size_t(i & 3)] >> 8 >= threshold ? from[i] * float(op.scale()) : 0;
}

void dropout(const Dropout& op, const Tensor& x, Tensor& y) {
  const float* from = x.data<float>();
  float* to = y.data<float>();
  const bool streaming = worth_streaming(to, x.size());
  parallel_for(x.size(), 1 << 15, [&](int64_t begin, int64_t end) {
    (streaming ? dropout_span<true> : dropout_span<false>)(op, begin, end, from, to);
    if (streaming) hwy::FlushStream();
  });
}

void masked_dropout(const MaskedDropout& op, const Tensor& x, const Tensor& mask, Tensor& y) {
  const float* from = x.data<float>();
  const uint8_t* keep = mask.data<uint8_t>();
  float* to = y.data<float>();
  const float scale = float(op.scale());
  parallel_for(x.size(), 1 << 15, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = keep[i] ? from[i] * scale : 0.0f;
  });
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(dropout);
HWY_EXPORT(masked_dropout);

void dropout(const Dropout& op, const Tensor& x, Tensor& y) { HWY_DYNAMIC_DISPATCH(dropout)(op, x, y); }
void dropout_backward(const Dropout& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (dx) HWY_DYNAMIC_DISPATCH(dropout)(op, dy, *dx);
}
void masked_dropout(const MaskedDropout& op, const Tensor& x, const Tensor& mask, Tensor& y) {
  HWY_DYNAMIC_DISPATCH(masked_dropout)(op, x, mask, y);
}
void masked_dropout_backward(const MaskedDropout& op, const Tensor&, const Tensor& mask, const Tensor&, const Tensor& dy,
                             Tensor* dx, Tensor* dmask) {
  GLIA_CHECK(!dmask, "masked_dropout: the mask has no gradient");
  if (dx) HWY_DYNAMIC_DISPATCH(masked_dropout)(op, dy, mask, *dx);
}

}  // namespace glia::cpu
#endif
