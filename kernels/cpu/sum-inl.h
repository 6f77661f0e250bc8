// Per SIMD target: sums of float vectors kept in double, the same bits for any number of threads.
#if defined(GLIA_KERNELS_CPU_SUM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GLIA_KERNELS_CPU_SUM_INL_H_
#undef GLIA_KERNELS_CPU_SUM_INL_H_
#else
#define GLIA_KERNELS_CPU_SUM_INL_H_
#endif

#include <hwy/highway.h>

#include <vector>

#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

// A running sum of floats in double lanes.
class DoubleSum {
 public:
  HWY_INLINE DoubleSum() : low_(hn::Zero(tag)), high_(hn::Zero(tag)) {}
  HWY_INLINE void add(Vector v) {
    low_ = hn::Add(low_, lower(v));
    if constexpr (two_halves) high_ = hn::Add(high_, upper(v));
  }
  HWY_INLINE void add_square_of_difference(Vector v, double from) {
    const Lanes a = hn::Sub(lower(v), hn::Set(tag, from));
    low_ = hn::MulAdd(a, a, low_);
    if constexpr (two_halves) {
      const Lanes b = hn::Sub(upper(v), hn::Set(tag, from));
      high_ = hn::MulAdd(b, b, high_);
    }
  }
  HWY_INLINE double total() const { return hn::GetLane(hn::SumOfLanes(tag, hn::Add(low_, high_))); }

 private:
  using Tag = hn::ScalableTag<double>;
  using Lanes = hn::Vec<Tag>;
  using HalfTag = hn::Half<VectorTag>;
  static constexpr Tag tag{};
  static HWY_INLINE Lanes lower(Vector v) { return hn::PromoteTo(tag, hn::LowerHalf(HalfTag(), v)); }
#if HWY_TARGET == HWY_SCALAR  // one lane of either type
  static constexpr bool two_halves = false;
  static HWY_INLINE Lanes upper(Vector v) { return lower(v); }
#else
  static constexpr bool two_halves = true;
  static HWY_INLINE Lanes upper(Vector v) { return hn::PromoteTo(tag, hn::UpperHalf(HalfTag(), v)); }
#endif

  Lanes low_, high_;
};

// v with the lanes from `count` on set to 0.
HWY_INLINE Vector first_lanes(Vector v, int64_t count) {
  return hn::IfThenElseZero(hn::FirstN(VectorTag(), static_cast<size_t>(count)), v);
}

// Sum of f(in[i]...) over one span.
template <class F, class... In>
HWY_INLINE double double_sum(int64_t n, const F& f, const In*... in) {
  const int64_t lanes = vector_lanes();
  DoubleSum a, b;
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    a.add(f(load(in + i)...));
    b.add(f(load(in + i + lanes)...));
  }
  for (; i + lanes <= n; i += lanes) a.add(f(load(in + i)...));
  if (i < n) a.add(first_lanes(f(load_part(in + i, n - i)...), n - i));
  return a.total() + b.total();
}

// The same over whole arrays, in parallel.
template <class F, class... In>
double parallel_double_sum(int64_t n, const F& f, const In*... in) {
  constexpr int64_t grain = 1 << 14;
  std::vector<double> partial(static_cast<size_t>(num_chunks(n, grain)));
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    partial[static_cast<size_t>(begin / grain)] = double_sum(end - begin, f, (in + begin)...);
  });
  double total = 0;
  for (const double p : partial) total += p;
  return total;
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
