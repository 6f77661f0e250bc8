#include "kernels/matcher.h"

#include <algorithm>
#include <limits>

#include "kernels/boxes.h"

namespace glia::reference {
namespace {

// Matches and labels of candidates whose IoU with ground truth i is iou(i, j); best[j] receives candidate j's largest, or -infinity.
template <class T, class Op, class Iou>
void match(const Op& op, int64_t count, int64_t candidates, const Iou& iou, Tensor& matches, Tensor& labels,
           std::vector<T>& best) {
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  best.assign(size_t(candidates), lowest);
  for (int64_t j = 0; j < candidates; ++j) {
    int64_t match = 0;
    for (int64_t i = 0; i < count; ++i) {
      if (!(iou(i, j) > best[size_t(j)])) continue;
      best[size_t(j)] = iou(i, j);
      match = i;
    }
    size_t passed = 0;
    while (passed < op.thresholds.size() && T(op.thresholds[passed]) <= best[size_t(j)]) ++passed;
    matches.data<int64_t>()[j] = match;
    labels.data<int64_t>()[j] = op.labels[count == 0 ? 0 : passed];
  }
  if (!op.allow_low_quality) return;
  for (int64_t i = 0; i < count; ++i) {
    T largest = lowest;
    for (int64_t j = 0; j < candidates; ++j) largest = std::max(largest, iou(i, j));
    for (int64_t j = 0; j < candidates; ++j)
      if (iou(i, j) == largest) labels.data<int64_t>()[j] = 1;
  }
}

}  // namespace

void matcher(const Matcher& op, const Tensor& iou, Tensor& matches, Tensor& labels) {
  dispatch_floating(iou.dtype(), "matcher", [&]<class T>(T) {
    const int64_t count = iou.dim(0), candidates = iou.dim(1);
    std::vector<T> best;
    match(
        op, count, candidates, [&](int64_t i, int64_t j) { return iou.data<T>()[i * candidates + j]; }, matches, labels, best);
  });
}

void match_boxes(const MatchBoxes& op, const Tensor& gt, const Tensor& boxes, Tensor& matches, Tensor& labels, Tensor& iou) {
  dispatch_floating(gt.dtype(), "match_boxes", [&]<class T>(T) {
    const int64_t count = gt.dim(0);
    std::vector<T> best;
    const auto pair = [&](int64_t i, int64_t j) {
      const auto p = box::load(gt.data<T>() + 4 * i), q = box::load(boxes.data<T>() + 4 * j);
      return box::iou(p, box::area(p), q, box::area(q));
    };
    match(op, count, boxes.dim(0), pair, matches, labels, best);
    for (int64_t j = 0; j < iou.size(); ++j) iou.data<T>()[j] = count == 0 ? T(0) : best[size_t(j)];
  });
}

}  // namespace glia::reference
