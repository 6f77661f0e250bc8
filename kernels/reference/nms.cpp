#include "kernels/nms.h"

#include <algorithm>
#include <numeric>

#include "kernels/boxes.h"

namespace glia::reference {
namespace {

// Places by descending score, equal ones by place, NaN first.
template <class T>
std::vector<int64_t> best_first(const Tensor& scores) {
  std::vector<int64_t> order(size_t(scores.size()));
  std::iota(order.begin(), order.end(), int64_t{0});
  const T* s = scores.data<T>();
  std::stable_sort(order.begin(), order.end(),
                   [s](int64_t i, int64_t j) { return s[i] > s[j] || (s[i] != s[i] && s[j] == s[j]); });
  return order;
}

}  // namespace

void nms(const Nms& op, const Tensor& boxes, const Tensor& scores, const Tensor& groups, Tensor& keep, Tensor& count) {
  dispatch_floating(boxes.dtype(), "nms", [&]<class T>(T) {
    const std::vector<int64_t> order = best_first<T>(scores);
    std::vector<int64_t> kept;
    const auto suppressed = [&](int64_t j) {
      const auto q = box::load(boxes.data<T>() + 4 * j);
      return std::any_of(kept.begin(), kept.end(), [&](int64_t i) {
        if (groups && groups.data<int64_t>()[i] != groups.data<int64_t>()[j]) return false;
        const auto p = box::load(boxes.data<T>() + 4 * i);
        return double(box::iou(p, box::area(p), q, box::area(q))) > op.threshold;
      });
    };
    for (const int64_t j : order)
      if (int64_t(kept.size()) < keep.size() && !suppressed(j)) kept.push_back(j);
    std::fill_n(keep.data<int64_t>(), keep.size(), int64_t{-1});
    std::copy(kept.begin(), kept.end(), keep.data<int64_t>());
    *count.data<int64_t>() = int64_t(kept.size());
  });
}

}  // namespace glia::reference
