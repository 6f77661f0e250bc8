#include "kernels/boxes.h"

#include <algorithm>

namespace glia::reference {
namespace {

template <class T>
std::array<T, 4> weights_as(const std::array<double, 4>& weights) {
  std::array<T, 4> w;
  for (size_t i = 0; i < 4; ++i) w[i] = static_cast<T>(weights[i]);
  return w;
}

}  // namespace

void pairwise_iou(const PairwiseIou&, const Tensor& a, const Tensor& b, Tensor& iou) {
  dispatch_floating(a.dtype(), "pairwise_iou", [&]<class T>(T) {
    const int64_t m = a.dim(0), n = b.dim(0);
    for (int64_t i = 0; i < m; ++i) {
      const auto p = box::load(a.data<T>() + 4 * i);
      for (int64_t j = 0; j < n; ++j) {
        const auto q = box::load(b.data<T>() + 4 * j);
        iou.data<T>()[i * n + j] = box::iou(p, box::area(p), q, box::area(q));
      }
    }
  });
}

void box_encode(const BoxEncode& op, const Tensor& src, const Tensor& dst, Tensor& deltas) {
  dispatch_floating(src.dtype(), "box_encode", [&]<class T>(T) {
    const auto weights = weights_as<T>(op.weights);
    for (int64_t i = 0; i < src.size(); i += 4)
      box::store(box::encode(box::load(src.data<T>() + i), box::load(dst.data<T>() + i), weights.data()), deltas.data<T>() + i);
  });
}

void box_decode(const BoxDecode& op, const Tensor& deltas, const Tensor& boxes, Tensor& y) {
  dispatch_floating(deltas.dtype(), "box_decode", [&]<class T>(T) {
    const auto weights = weights_as<T>(op.weights);
    const int64_t columns = deltas.dim(1);
    for (int64_t i = 0; i < deltas.size(); i += 4) {
      const auto from = box::load(boxes.data<T>() + i / columns * 4);
      box::store(box::decode(box::load(deltas.data<T>() + i), from, weights.data(), T(op.scale_clamp)), y.data<T>() + i);
    }
  });
}

void box_decode_backward(const BoxDecode& op, const Tensor& deltas, const Tensor& boxes, const Tensor&, const Tensor& dy,
                         Tensor* ddeltas, Tensor* dboxes) {
  GLIA_CHECK(!dboxes, "box_decode: no gradient with respect to the boxes is defined");
  if (!ddeltas) return;
  dispatch_floating(deltas.dtype(), "box_decode", [&]<class T>(T) {
    const auto weights = weights_as<T>(op.weights);
    const int64_t columns = deltas.dim(1);
    for (int64_t i = 0; i < deltas.size(); i += 4) {
      const auto delta = box::load(deltas.data<T>() + i), from = box::load(boxes.data<T>() + i / columns * 4);
      const auto g = box::load(dy.data<T>() + i);
      box::store(box::decode_backward(delta, from, weights.data(), T(op.scale_clamp), g), ddeltas->data<T>() + i);
    }
  });
}

void box_clip(const BoxClip& op, const Tensor& boxes, Tensor& y) {
  dispatch_floating(boxes.dtype(), "box_clip", [&]<class T>(T) {
    for (int64_t i = 0; i < boxes.size(); ++i)
      y.data<T>()[i] = box::clip(boxes.data<T>()[i], static_cast<T>(i % 2 == 0 ? op.width : op.height));
  });
}

void box_iou_loss(const BoxIouLoss& op, const Tensor& pred, const Tensor& target, Tensor& loss) {
  dispatch_floating(pred.dtype(), "box_iou_loss", [&]<class T>(T) {
    for (int64_t i = 0; i < loss.size(); ++i)
      loss.data<T>()[i] = box::iou_loss(op.kind, box::load(pred.data<T>() + 4 * i), box::load(target.data<T>() + 4 * i));
  });
}

void box_iou_loss_backward(const BoxIouLoss& op, const Tensor& pred, const Tensor& target, const Tensor&, const Tensor& dloss,
                           Tensor* dpred, Tensor* dtarget) {
  GLIA_CHECK(!dtarget, "box_iou_loss: no gradient with respect to the target is defined");
  if (!dpred) return;
  dispatch_floating(pred.dtype(), "box_iou_loss", [&]<class T>(T) {
    for (int64_t i = 0; i < dloss.size(); ++i) {
      const auto p = box::load(pred.data<T>() + 4 * i), t = box::load(target.data<T>() + 4 * i);
      box::store(box::iou_loss_backward(op.kind, p, t, dloss.data<T>()[i]), dpred->data<T>() + 4 * i);
    }
  });
}

}  // namespace glia::reference
