// The inner loop of the implicit GEMM (gemm.cpp) where there are up to four columns: vectors are steps of the contraction, and the lanes
// of a sum are added up at its end. Included by that file once per SIMD target.
#include "kernels/cpu/gemm_kernel-inl.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

constexpr int max_dot_columns = 4;
constexpr int dot_height(int columns) { return 12 / columns; }  // pixels that share what is read of b: 12 sums in registers

inline float finish_dot(float sum, int64_t column, int64_t at, const Target& t) {
  if (t.accumulate) sum += t.d[at];
  if (t.affine) sum = sum * t.affine[column] + t.affine[t.affine_bias + column];
  if (t.residual) sum += t.residual[at];
  return t.relu && sum < 0 ? 0.0f : sum;  // a NaN is not below zero and stays
}

// b: element (step, column) at b[column * b_column + step].
template <int MR, int NC>
HWY_NOINLINE void dot_kernel(const Piece* pieces, int64_t count, const float* b, int64_t b_column, const Target& target) {
  const D d;
  V sum[MR][NC];
#pragma GCC unroll 12
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NC; ++j) sum[i][j] = hn::Zero(d);
  for (const Piece* piece = pieces; piece != pieces + count; ++piece) {
    const float* row = b + piece->first;
    const char* a = reinterpret_cast<const char*>(piece->a);
    const auto add = [&](auto load) HWY_ATTR {
      V x[NC];
#pragma GCC unroll 4
      for (int j = 0; j < NC; ++j) x[j] = load(row + j * b_column);
#pragma GCC unroll 12
      for (int i = 0; i < MR; ++i) {
        const V pixel = load(reinterpret_cast<const float*>(a + i * piece->row_bytes));
#pragma GCC unroll 4
        for (int j = 0; j < NC; ++j) sum[i][j] = hn::MulAdd(pixel, x[j], sum[i][j]);
      }
    };
    int64_t left = piece->length;
    for (; left >= lanes; left -= lanes, row += lanes, a += lanes * sizeof(float)) {
#pragma GCC unroll 12
      for (int i = 0; i < MR; ++i) __builtin_prefetch(a + (MR + i) * piece->row_bytes);  // the next tile's
      add([&](const float* from) HWY_ATTR { return hn::LoadU(d, from); });
    }
    if (left > 0) {
      const auto mask = hn::FirstN(d, static_cast<size_t>(left));
      add([&](const float* from) HWY_ATTR { return hn::MaskedLoad(mask, d, from); });
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NC; ++j) {
      const int64_t at = target.offsets[i] + j;
      target.d[at] = finish_dot(hn::GetLane(hn::SumOfLanes(d, sum[i][j])), j, at, target);
    }
}

using DotKernel = void (*)(const Piece*, int64_t, const float*, int64_t, const Target&);

template <int NC, size_t... I>
constexpr std::array<DotKernel, max_height + 1> dot_kernels_of(std::index_sequence<I...>) {
  return {nullptr, dot_kernel<static_cast<int>(I) + 1, NC>...};
}
template <size_t... C>
constexpr std::array<std::array<DotKernel, max_height + 1>, max_dot_columns> all_dot_kernels(std::index_sequence<C...>) {
  return {dot_kernels_of<static_cast<int>(C) + 1>(std::make_index_sequence<dot_height(static_cast<int>(C) + 1)>())...};
}
constexpr auto dot_kernels = all_dot_kernels(std::make_index_sequence<max_dot_columns>());

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
