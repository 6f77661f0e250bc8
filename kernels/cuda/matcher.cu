// Matching: a thread a candidate, which goes through the ground truth. The largest IoU of each ground truth, which low-quality matches
// need, is a maximum over the warp and then an integer atomic maximum: the same whatever comes first. A second pass then looks each
// IoU up again, as reading or computing it is cheaper than keeping it. Bound by arithmetic, or by reading the matrix.
#include "kernels/matcher.h"

#include "kernels/boxes.h"
#include "kernels/cuda/launch.cuh"

namespace glia::GPU_NS {
namespace {

using box::Corners;

constexpr int match_threads = 256;
constexpr int most_thresholds = 8;

struct Rule {
  float threshold[most_thresholds];
  int64_t label[most_thresholds + 1];
  int thresholds;

  template <class Op>
  explicit Rule(const Op& op) : threshold{}, label{}, thresholds(int(op.thresholds.size())) {
    for (size_t i = 0; i < op.thresholds.size(); ++i) threshold[i] = float(op.thresholds[i]);
    for (size_t i = 0; i < op.labels.size(); ++i) label[i] = op.labels[i];
  }
  __device__ int64_t label_of(float iou) const {
    int64_t found = label[0];
    GPU_UNROLL
    for (int i = 0; i < most_thresholds; ++i)
      if (i < thresholds && threshold[i] <= iou) found = label[i + 1];
    return found;
  }
};

// Increases with x; -0 and 0 are equal, NaN is below everything.
__device__ unsigned ordered_bits(float x) {
  if (x != x) return 0;
  const unsigned bits = __float_as_uint(x == 0.0f ? 0.0f : x);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// Where IoUs come from: column(j)(i) is that of ground truth i and candidate j; none is below `lowest`.
struct FromMatrix {
  const float* iou;
  int n;
  static constexpr unsigned lowest = 0;
  struct Column {
    const float* iou;
    int n;
    __device__ float operator()(int i) const { return iou[int64_t(i) * n]; }
  };
  __device__ Column column(int j) const { return {iou + j, n}; }
};

struct FromBoxes {
  const float *gt, *boxes;
  static constexpr unsigned lowest = 0x80000000u;  // ordered_bits of 0
  struct Column {
    const float* gt;
    Corners<float> q;
    float area;
    __device__ float operator()(int i) const {
      const Corners<float> p = box::load(gt + int64_t(i) * 4);
      return box::iou(p, box::area(p), q, area);
    }
  };
  __device__ Column column(int j) const {
    const Corners<float> q = box::load(boxes + int64_t(j) * 4);
    return {gt, q, box::area(q)};
  }
};

// Matches, labels by threshold and, unless null, the largest IoU of each candidate, and of each ground truth as ordered bits.
template <class Source>
__global__ void __launch_bounds__(match_threads)
    match_kernel(int m, int n, Source source, Rule rule, int64_t* matches, int64_t* labels, float* iou, unsigned* gt_largest) {
  const int j = int(blockIdx.x) * match_threads + int(threadIdx.x);
  const typename Source::Column column = source.column(min(j, n - 1));
  float best = -INFINITY;
  int match = 0;
  for (int i = 0; i < m; ++i) {
    const float v = column(i);
    if (v > best) {
      best = v;
      match = i;
    }
    if (!gt_largest) continue;
    const unsigned largest = __reduce_max_sync(0xffffffffu, ordered_bits(v));
    if (threadIdx.x % 32 == 0 && largest > Source::lowest) atomicMax(&gt_largest[i], largest);
  }
  if (j >= n) return;
  matches[j] = match;
  labels[j] = rule.label_of(best);
  if (iou) iou[j] = m == 0 ? 0.0f : best;
}

template <class Source>
__global__ void __launch_bounds__(match_threads)
    low_quality_kernel(int m, int n, Source source, const unsigned* gt_largest, int64_t* labels) {
  const int j = int(blockIdx.x) * match_threads + int(threadIdx.x);
  if (j >= n) return;
  const typename Source::Column column = source.column(j);
  bool is_best = false;
  for (int i = 0; i < m; ++i) {
    const float v = column(i);
    if (v == v && ordered_bits(v) == gt_largest[i]) is_best = true;
  }
  if (is_best) labels[j] = 1;
}

// ---- launchers ----------------------------------------------------------------------------------------------------------------

template <class Op, class Source>
void match(const Op& op, int64_t m, const Source& source, const Tensor& matches, const Tensor& labels, const Tensor& iou) {
  const int64_t n = matches.size();
  if (n == 0) return;
  GLIA_CHECK(m <= INT32_MAX && n <= INT32_MAX - match_threads, "matcher: {} by {} boxes, want fewer than 2^31 on devices", m, n);
  const bool low_quality = op.allow_low_quality && m > 0;
  const Tensor largest({low_quality ? m : 0}, DType::int32, matches.device());
  largest.fill(double(int32_t(Source::lowest)));
  auto* const gt_largest = low_quality ? reinterpret_cast<unsigned*>(largest.raw()) : nullptr;
  const gpu::LaunchShape shape(unsigned(divide_up(n, match_threads)), match_threads);
  launch(shape, match_kernel<Source>, int(m), int(n), source, Rule(op), matches.device_data<int64_t>(),
         labels.device_data<int64_t>(), iou ? iou.device_data<float>() : nullptr, gt_largest);
  if (low_quality) launch(shape, low_quality_kernel<Source>, int(m), int(n), source, gt_largest, labels.device_data<int64_t>());
}

}  // namespace

void matcher(const Matcher& op, const Tensor& iou, Tensor& matches, Tensor& labels) {
  match(op, iou.dim(0), FromMatrix{iou.device_data<float>(), int(iou.dim(1))}, matches, labels, Tensor());
}

void match_boxes(const MatchBoxes& op, const Tensor& gt, const Tensor& boxes, Tensor& matches, Tensor& labels, Tensor& iou) {
  match(op, gt.dim(0), FromBoxes{gt.device_data<float>(), boxes.device_data<float>()}, matches, labels, iou);
}

}  // namespace glia::GPU_NS
