// Coding, clipping, IoU and its losses: a box a thread, by the arithmetic that the reference runs. Bound by memory, and small: the
// boxes of an image are a few megabytes.
#include "kernels/boxes.h"

#include "kernels/cuda/launch.cuh"

namespace glia::GPU_NS {
namespace {

using box::Corners;

constexpr int box_threads = 256;
constexpr int iou_rows = 16;  // of a thread, which keeps its column's box

__global__ void __launch_bounds__(box_threads) pairwise_iou_kernel(int m, int n, const float* a, const float* b, float* iou) {
  const int j = int(blockIdx.x) * box_threads + int(threadIdx.x), first = int(blockIdx.y) * iou_rows;
  if (j >= n) return;
  const Corners<float> q = box::load(b + int64_t(j) * 4);
  const float area_q = box::area(q);
  const int last = min(first + iou_rows, m);
  for (int i = first; i < last; ++i) {
    const Corners<float> p = box::load(a + int64_t(i) * 4);
    iou[int64_t(i) * n + j] = box::iou(p, box::area(p), q, area_q);
  }
}

struct Weights {
  float w[4];
  explicit Weights(const std::array<double, 4>& from) : w{float(from[0]), float(from[1]), float(from[2]), float(from[3])} {}
};

struct Encode {
  Weights weights;
  const float *src, *dst;
  float* deltas;
  __device__ void operator()(int64_t i) const {
    box::store(box::encode(box::load(src + i * 4), box::load(dst + i * 4), weights.w), deltas + i * 4);
  }
};

struct Decode {
  Weights weights;
  float scale_clamp;
  int per_row;
  const float *deltas, *boxes;
  float* y;
  __device__ void operator()(int64_t i) const {
    const Corners<float> from = box::load(boxes + i / per_row * 4);
    box::store(box::decode(box::load(deltas + i * 4), from, weights.w, scale_clamp), y + i * 4);
  }
};

struct DecodeBackward {
  Weights weights;
  float scale_clamp;
  int per_row;
  const float *deltas, *boxes, *dy;
  float* ddeltas;
  __device__ void operator()(int64_t i) const {
    const Corners<float> delta = box::load(deltas + i * 4), from = box::load(boxes + i / per_row * 4);
    box::store(box::decode_backward(delta, from, weights.w, scale_clamp, box::load(dy + i * 4)), ddeltas + i * 4);
  }
};

struct Clip {
  float width, height;
  const float* boxes;
  float* y;
  __device__ void operator()(int64_t i) const {
    const Corners<float> b = box::load(boxes + i * 4);
    box::store({box::clip(b.x1, width), box::clip(b.y1, height), box::clip(b.x2, width), box::clip(b.y2, height)}, y + i * 4);
  }
};

struct Loss {
  box::IouKind kind;
  const float *pred, *target;
  float* loss;
  __device__ void operator()(int64_t i) const {
    loss[i] = box::iou_loss(kind, box::load(pred + i * 4), box::load(target + i * 4));
  }
};

struct LossBackward {
  box::IouKind kind;
  const float *pred, *target, *dloss;
  float* dpred;
  __device__ void operator()(int64_t i) const {
    box::store(box::iou_loss_backward(kind, box::load(pred + i * 4), box::load(target + i * 4), dloss[i]), dpred + i * 4);
  }
};

template <class F>
__global__ void __launch_bounds__(box_threads) each_box_kernel(unsigned count, F f) {
  const unsigned i = blockIdx.x * box_threads + threadIdx.x;
  if (i < count) f(i);
}

// ---- launchers ----------------------------------------------------------------------------------------------------------------

// f(i) for each box i of `boxes` (N, 4k).
template <class F>
void each_box(const Tensor& boxes, const F& f) {
  const int64_t count = boxes.size() / 4;
  GLIA_CHECK(count <= INT32_MAX, "boxes: {}, want fewer than 2^31 on devices", boxes.shape());
  launch({divide_up(count, box_threads), box_threads}, each_box_kernel<F>, unsigned(count), f);
}

const float* in(const Tensor& t) { return t.device_data<float>(); }
float* out(const Tensor& t) { return t.device_data<float>(); }
int per_row(const Tensor& deltas) { return int(deltas.dim(1) / 4); }

}  // namespace

void pairwise_iou(const PairwiseIou&, const Tensor& a, const Tensor& b, Tensor& iou) {
  const int64_t m = a.dim(0), n = b.dim(0);
  GLIA_CHECK(m <= int64_t{65535} * iou_rows && n <= INT32_MAX - box_threads,
             "pairwise_iou: {} by {} boxes are too many for a launch", m, n);
  launch({dim3(unsigned(divide_up(n, box_threads)), unsigned(divide_up(m, iou_rows))), box_threads}, pairwise_iou_kernel, int(m),
         int(n), in(a), in(b), out(iou));
}

void box_encode(const BoxEncode& op, const Tensor& src, const Tensor& dst, Tensor& deltas) {
  each_box(src, Encode{Weights(op.weights), in(src), in(dst), out(deltas)});
}

void box_decode(const BoxDecode& op, const Tensor& deltas, const Tensor& boxes, Tensor& y) {
  each_box(deltas, Decode{Weights(op.weights), float(op.scale_clamp), per_row(deltas), in(deltas), in(boxes), out(y)});
}

void box_decode_backward(const BoxDecode& op, const Tensor& deltas, const Tensor& boxes, const Tensor&, const Tensor& dy,
                         Tensor* ddeltas, Tensor* dboxes) {
  GLIA_CHECK(!dboxes, "box_decode: no gradient with respect to the boxes is defined");
  if (!ddeltas) return;
  each_box(deltas, DecodeBackward{Weights(op.weights), float(op.scale_clamp), per_row(deltas), in(deltas), in(boxes), in(dy),
                                  out(*ddeltas)});
}

void box_clip(const BoxClip& op, const Tensor& boxes, Tensor& y) {
  each_box(boxes, Clip{float(op.width), float(op.height), in(boxes), out(y)});
}

void box_iou_loss(const BoxIouLoss& op, const Tensor& pred, const Tensor& target, Tensor& loss) {
  each_box(pred, Loss{op.kind, in(pred), in(target), out(loss)});
}

void box_iou_loss_backward(const BoxIouLoss& op, const Tensor& pred, const Tensor& target, const Tensor&, const Tensor& dloss,
                           Tensor* dpred, Tensor* dtarget) {
  GLIA_CHECK(!dtarget, "box_iou_loss: no gradient with respect to the target is defined");
  if (dpred) each_box(pred, LossBackward{op.kind, in(pred), in(target), in(dloss), out(*dpred)});
}

}  // namespace glia::GPU_NS
