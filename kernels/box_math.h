#pragma once
// Arithmetic of single boxes x1, y1, x2, y2, for T float and double. Kernels on devices run the same text.
//
// What decisions depend on (areas, IoU) is rounded after each operation, without fused multiply-adds: then the bits are the same
// everywhere, and those of PyTorch's separate operations. On devices rounded_product sees to that; host files that include this
// are compiled with -ffp-contract=off (CMakeLists.txt).
#include <cmath>
#include <cstdint>

#include "kernels/op.h"

namespace glia::box {

template <class T>
struct Corners {
  T x1, y1, x2, y2;
};

template <class T>
GLIA_HOST_DEVICE inline Corners<T> load(const T* p) {
  return {p[0], p[1], p[2], p[3]};
}
template <class T>
GLIA_HOST_DEVICE inline void store(const Corners<T>& b, T* p) {
  p[0] = b.x1;
  p[1] = b.y1;
  p[2] = b.x2;
  p[3] = b.y2;
}

template <class T>
GLIA_HOST_DEVICE inline T smaller(T a, T b) {
  return a < b ? a : b;
}
template <class T>
GLIA_HOST_DEVICE inline T larger(T a, T b) {
  return a > b ? a : b;
}

// a b, never part of a fused multiply-add.
template <class T>
GLIA_HOST_DEVICE inline T rounded_product(T a, T b) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) == 4) {
    return __fmul_rn(a, b);
  } else {
    return __dmul_rn(a, b);
  }
#else
  return a * b;
#endif
}

template <class T>
GLIA_HOST_DEVICE inline T area(const Corners<T>& b) {
  return rounded_product(b.x2 - b.x1, b.y2 - b.y1);
}

// Intersection over union; 0 where the boxes do not overlap, and where it is not a number: a coordinate that is NaN makes the area
// NaN, areas that overflow make it 0 or NaN.
template <class T>
GLIA_HOST_DEVICE inline T iou(const Corners<T>& a, T area_a, const Corners<T>& b, T area_b) {
  const T width = larger(smaller(a.x2, b.x2) - larger(a.x1, b.x1), T(0));
  const T height = larger(smaller(a.y2, b.y2) - larger(a.y1, b.y1), T(0));
  const T inter = rounded_product(width, height);
  const T ratio = inter / (area_a + area_b - inter);
  return ratio > T(0) ? ratio : T(0);
}

// The largest float up to `threshold`: a float is above the one exactly where it is above the other.
inline float rounded_down(double threshold) {
  const float nearest = float(threshold);
  return double(nearest) > threshold ? std::nextafter(nearest, -INFINITY) : nearest;
}

// dx, dy, dw, dh of `to` as seen from `from`, times the weights.
template <class T>
GLIA_HOST_DEVICE inline Corners<T> encode(const Corners<T>& from, const Corners<T>& to, const T* weights) {
  const T w = from.x2 - from.x1, h = from.y2 - from.y1, to_w = to.x2 - to.x1, to_h = to.y2 - to.y1;
  const T x = from.x1 + T(0.5) * w, y = from.y1 + T(0.5) * h, to_x = to.x1 + T(0.5) * to_w, to_y = to.y1 + T(0.5) * to_h;
  return {weights[0] * (to_x - x) / w, weights[1] * (to_y - y) / h, weights[2] * std::log(to_w / w),
          weights[3] * std::log(to_h / h)};
}

// The inverse, with the logarithms of the sizes limited from above. A NaN stays one.
template <class T>
GLIA_HOST_DEVICE inline Corners<T> decode(const Corners<T>& delta, const Corners<T>& from, const T* weights, T scale_clamp) {
  const T w = from.x2 - from.x1, h = from.y2 - from.y1, x = from.x1 + T(0.5) * w, y = from.y1 + T(0.5) * h;
  const T dw = delta.x2 / weights[2], dh = delta.y2 / weights[3];
  const T to_x = delta.x1 / weights[0] * w + x, to_y = delta.y1 / weights[1] * h + y;
  const T half_w = T(0.5) * (std::exp(dw > scale_clamp ? scale_clamp : dw) * w);
  const T half_h = T(0.5) * (std::exp(dh > scale_clamp ? scale_clamp : dh) * h);
  return {to_x - half_w, to_y - half_h, to_x + half_w, to_y + half_h};
}

// The gradient of `delta` from that of the decoded corners. None passes a limited size.
template <class T>
GLIA_HOST_DEVICE inline Corners<T> decode_backward(const Corners<T>& delta, const Corners<T>& from, const T* weights,
                                                   T scale_clamp, const Corners<T>& g) {
  const T w = from.x2 - from.x1, h = from.y2 - from.y1, dw = delta.x2 / weights[2], dh = delta.y2 / weights[3];
  const T to_w = dw > scale_clamp ? T(0) : std::exp(dw) * w, to_h = dh > scale_clamp ? T(0) : std::exp(dh) * h;
  return {(g.x1 + g.x2) * w / weights[0], (g.y1 + g.y2) * h / weights[1], T(0.5) * (g.x2 - g.x1) * to_w / weights[2],
          T(0.5) * (g.y2 - g.y1) * to_h / weights[3]};
}

template <class T>
GLIA_HOST_DEVICE inline T clip(T x, T limit) {  // a NaN stays one
  return x < T(0) ? T(0) : x > limit ? limit : x;
}

// ---- losses by IoU, of a predicted box p and a target t -------------------------------------------------------------------------

enum class IouKind { giou, diou, ciou };

template <class T>
struct IouParts {
  T width, height;              // of p
  T inter_width, inter_height;  // 0 unless both are positive
  T hull_width, hull_height;    // of the smallest box around both
  T inter, both, iou;           // intersection, union, and one over the other
  T apart_x, apart_y;           // between the centres
};

constexpr double iou_loss_epsilon = 1e-7;

template <class T>
GLIA_HOST_DEVICE inline IouParts<T> iou_parts(const Corners<T>& p, const Corners<T>& t) {
  IouParts<T> s;
  s.width = p.x2 - p.x1;
  s.height = p.y2 - p.y1;
  s.inter_width = smaller(p.x2, t.x2) - larger(p.x1, t.x1);
  s.inter_height = smaller(p.y2, t.y2) - larger(p.y1, t.y1);
  if (!(s.inter_width > T(0) && s.inter_height > T(0))) s.inter_width = s.inter_height = T(0);
  s.hull_width = larger(p.x2, t.x2) - smaller(p.x1, t.x1);
  s.hull_height = larger(p.y2, t.y2) - smaller(p.y1, t.y1);
  s.inter = s.inter_width * s.inter_height;
  s.both = s.width * s.height + area(t) - s.inter;
  s.iou = s.inter / (s.both + T(iou_loss_epsilon));
  s.apart_x = T(0.5) * ((p.x1 + p.x2) - (t.x1 + t.x2));
  s.apart_y = T(0.5) * ((p.y1 + p.y2) - (t.y1 + t.y2));
  return s;
}

// The difference of the boxes' aspect ratios as an angle, target - prediction.
template <class T>
GLIA_HOST_DEVICE inline T aspect_difference(const IouParts<T>& s, const Corners<T>& t) {
  return std::atan2(t.x2 - t.x1, t.y2 - t.y1) - std::atan2(s.width, s.height);
}
template <class T>
GLIA_HOST_DEVICE inline T aspect_penalty(T difference) {
  return T(4 / (3.14159265358979323846 * 3.14159265358979323846)) * difference * difference;
}
template <class T>
GLIA_HOST_DEVICE inline T aspect_weight(T penalty, T iou) {
  return penalty / (T(1) - iou + penalty + T(iou_loss_epsilon));
}

template <class T>
GLIA_HOST_DEVICE inline T iou_loss(IouKind kind, const Corners<T>& p, const Corners<T>& t) {
  const IouParts<T> s = iou_parts(p, t);
  const T epsilon = T(iou_loss_epsilon), loss = T(1) - s.iou;
  if (kind == IouKind::giou) {
    const T hull = s.hull_width * s.hull_height;
    return loss + (hull - s.both) / (hull + epsilon);
  }
  const T diagonal = s.hull_width * s.hull_width + s.hull_height * s.hull_height + epsilon;
  const T distance = (s.apart_x * s.apart_x + s.apart_y * s.apart_y) / diagonal;
  if (kind == IouKind::diou) return loss + distance;
  const T penalty = aspect_penalty(aspect_difference(s, t));
  return loss + distance + aspect_weight(penalty, s.iou) * penalty;
}

// The share of a's gradient in larger(a, b): equal ones halve it (PyTorch).
template <class T>
GLIA_HOST_DEVICE inline T share_of_larger(T a, T b) {
  return a > b ? T(1) : a == b ? T(0.5) : T(0);
}

// d loss / dp times `g`. The weight of CIoU's aspect penalty counts as constant (Zheng et al. 2020).
template <class T>
GLIA_HOST_DEVICE inline Corners<T> iou_loss_backward(IouKind kind, const Corners<T>& p, const Corners<T>& t, T g) {
  const IouParts<T> s = iou_parts(p, t);
  const T epsilon = T(iou_loss_epsilon), both = s.both + epsilon;
  T by_both = s.inter / (both * both), by_hull_width = T(0), by_hull_height = T(0), by_x = T(0), by_y = T(0);
  T by_width = T(0), by_height = T(0);
  if (kind == IouKind::giou) {
    const T hull = s.hull_width * s.hull_height + epsilon, by_hull = both / (hull * hull);
    by_both -= T(1) / hull;
    by_hull_width = by_hull * s.hull_height;
    by_hull_height = by_hull * s.hull_width;
  } else {
    const T diagonal = s.hull_width * s.hull_width + s.hull_height * s.hull_height + epsilon;
    const T by_diagonal = -(s.apart_x * s.apart_x + s.apart_y * s.apart_y) / (diagonal * diagonal);
    by_hull_width = by_diagonal * T(2) * s.hull_width;
    by_hull_height = by_diagonal * T(2) * s.hull_height;
    by_x = s.apart_x / diagonal;  // of either edge: half of 2 apart_x / diagonal
    by_y = s.apart_y / diagonal;
  }
  if (kind == IouKind::ciou) {
    const T difference = aspect_difference(s, t), weight = aspect_weight(aspect_penalty(difference), s.iou);
    const T squares = s.width * s.width + s.height * s.height;
    const T slope = squares > T(0) ? weight * T(2) * aspect_penalty(T(1)) * difference / squares : T(0);
    by_width -= slope * s.height;
    by_height += slope * s.width;
  }
  by_width += by_both * s.height;
  by_height += by_both * s.width;
  const T by_inter = -T(1) / both - by_both;
  const T by_inter_width = by_inter * s.inter_height, by_inter_height = by_inter * s.inter_width;
  Corners<T> d;
  d.x1 = by_x - by_width - by_inter_width * share_of_larger(p.x1, t.x1) - by_hull_width * share_of_larger(t.x1, p.x1);
  d.y1 = by_y - by_height - by_inter_height * share_of_larger(p.y1, t.y1) - by_hull_height * share_of_larger(t.y1, p.y1);
  d.x2 = by_x + by_width + by_inter_width * share_of_larger(t.x2, p.x2) + by_hull_width * share_of_larger(p.x2, t.x2);
  d.y2 = by_y + by_height + by_inter_height * share_of_larger(t.y2, p.y2) + by_hull_height * share_of_larger(p.y2, t.y2);
  return {g * d.x1, g * d.y1, g * d.x2, g * d.y2};
}

}  // namespace glia::box
