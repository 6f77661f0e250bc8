// IoU of all pairs: a row of the result is one box against vectors of the others.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/boxes.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <vector>

#include "kernels/boxes.h"
#include "kernels/cpu/box-inl.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

void iou_rows(const float* a, int64_t m, const float* b, int64_t n, float* iou) {
  const int64_t padded = whole_vectors(n);
  std::vector<float> memory(size_t(5 * padded));
  BoxColumns columns(memory.data(), padded);
  for (int64_t j = 0; j < n; ++j) columns.set(j, box::load(b + 4 * j));
  parallel_for(m, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, n)), [&](int64_t begin, int64_t end) HWY_ATTR {
    for (int64_t i = begin; i < end; ++i) {
      const BoxVector p(box::load(a + 4 * i));
      for_each_vector(n, [&](int64_t j, auto, auto put) HWY_ATTR { put(box_iou(p, columns, j), iou + i * n + j); });
    }
  });
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(iou_rows);

void pairwise_iou(const PairwiseIou&, const Tensor& a, const Tensor& b, Tensor& iou) {
  HWY_DYNAMIC_DISPATCH(iou_rows)(a.data<float>(), a.dim(0), b.data<float>(), b.dim(0), iou.data<float>());
}

}  // namespace glia::cpu
#endif
