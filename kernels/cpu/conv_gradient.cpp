// The pass over dy that precedes the gradients of a convolution: ReLU mask, frozen scale, bias gradient. Plain loops that the
// compiler vectorises once per SIMD target.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/conv_gradient.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/conv_parts.h"
#include "tensor/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

template <bool mask, bool keep_masked, bool keep_scaled, bool sum>
void rows(const OutputGradient& pass, int64_t begin, int64_t end, float* HWY_RESTRICT sums) {
  const int64_t k = pass.k;
  for (int64_t i = begin; i < end; ++i) {
    const float* HWY_RESTRICT dy = pass.dy + i * k;
    const float* HWY_RESTRICT y = mask ? pass.y + i * k : dy;
    const float* HWY_RESTRICT scale = keep_scaled ? pass.scale : dy;
    float* HWY_RESTRICT masked = keep_masked ? pass.masked + i * k : nullptr;
    float* HWY_RESTRICT scaled = keep_scaled ? pass.scaled + i * k : nullptr;
    for (int64_t j = 0; j < k; ++j) {
      const float m = mask ? (y[j] > 0 ? dy[j] : 0.0f) : dy[j];
      if constexpr (keep_masked) masked[j] = m;
      if constexpr (keep_scaled) scaled[j] = m * scale[j];
      if constexpr (sum) sums[j] += m;
    }
  }
}

using Rows = void (*)(const OutputGradient&, int64_t, int64_t, float*);

template <size_t... I>
constexpr std::array<Rows, 16> all_rows(std::index_sequence<I...>) {
  return {rows<(I & 8) != 0, (I & 4) != 0, (I & 2) != 0, (I & 1) != 0>...};
}

void run_pass(const OutputGradient& pass) {
  constexpr auto variants = all_rows(std::make_index_sequence<16>());
  const Rows body = variants[(pass.y ? 8u : 0u) | (pass.masked ? 4u : 0u) | (pass.scaled ? 2u : 0u) | (pass.sums ? 1u : 0u)];
  const int64_t grain = std::max<int64_t>(64, (1 << 16) / std::max<int64_t>(1, pass.k));
  const int64_t chunks = num_chunks(pass.rows, grain);
  const Tensor partial = Tensor::zeros({pass.sums ? chunks : 0, pass.k});
  float* sums = partial.data<float>();
  parallel_for(pass.rows, grain,
               [&](int64_t begin, int64_t end) { body(pass, begin, end, pass.sums ? sums + begin / grain * pass.k : nullptr); });
  if (!pass.sums) return;
  std::fill(pass.sums, pass.sums + pass.k, 0.0f);
  for (int64_t i = 0; i < chunks; ++i)
    for (int64_t j = 0; j < pass.k; ++j) pass.sums[j] += sums[i * pass.k + j];
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(run_pass);
void run(const OutputGradient& pass) { HWY_DYNAMIC_DISPATCH(run_pass)(pass); }

}  // namespace glia::cpu
#endif
