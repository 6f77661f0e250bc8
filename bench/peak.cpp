#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/peak.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "bench/peak.h"
#include "tensor/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace glia::bench::HWY_NAMESPACE {
namespace {

// Independent chains of multiply-adds, as many as hide the latency. Returns the number of operations.
double multiply_add(int64_t rounds, float* result) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int chains = 12;
  V sum[chains];
  const V a = hn::Set(d, 0.999f), b = hn::Set(d, *result);
#pragma GCC unroll 12
  for (int i = 0; i < chains; ++i) sum[i] = hn::Set(d, *result + static_cast<float>(i));
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < chains; ++i) sum[i] = hn::MulAdd(sum[i], a, b);
  }
  for (int i = 1; i < chains; ++i) sum[0] = hn::Add(sum[0], sum[i]);
  *result = hn::GetLane(sum[0]);
  return 2.0 * static_cast<double>(rounds) * chains * static_cast<double>(hn::Lanes(d));
}

}  // namespace
}  // namespace glia::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::bench {
namespace {

HWY_EXPORT(multiply_add);

// The best of several runs: a peak is what is left when nothing disturbs.
template <class F>
double best_rate(int runs, F&& work) {
  double best = 0;
  for (int i = 0; i < runs; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const double amount = work();
    best = std::max(best, amount / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best / 1e9;
}

}  // namespace

const Peak& peak() {
  static const Peak measured = [] {
    const int64_t threads = num_threads();
    constexpr int64_t rounds = 1'000'000;
    std::vector<float> results(static_cast<size_t>(16 * threads), 1e-3f);
    Peak p{};
    p.gflops = best_rate(20, [&] {
      std::vector<double> done(static_cast<size_t>(threads));
      parallel_for(threads, 1, [&](int64_t begin, int64_t) {
        done[static_cast<size_t>(begin)] = HWY_DYNAMIC_DISPATCH(multiply_add)(rounds, &results[static_cast<size_t>(16 * begin)]);
      });
      return done[0] * static_cast<double>(threads);
    });
    constexpr int64_t floats = 32 << 20;
    std::vector<float> from(floats, 1.0f), to(floats, 0.0f);
    p.gbytes = best_rate(5, [&] {
      parallel_for(floats, 1 << 18, [&](int64_t begin, int64_t end) {
        std::memcpy(to.data() + begin, from.data() + begin, static_cast<size_t>(end - begin) * sizeof(float));
      });
      return 2.0 * sizeof(float) * floats;
    });
    return p;
  }();
  return measured;
}

}  // namespace glia::bench
#endif
