// Per SIMD target: IoU of one box with a vector of boxes, each operation rounded (the files that include this are compiled with
// -ffp-contract=off: compilers fuse the products and sums of intrinsics, too).
#if defined(GLIA_KERNELS_CPU_BOX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GLIA_KERNELS_CPU_BOX_INL_H_
#undef GLIA_KERNELS_CPU_BOX_INL_H_
#else
#define GLIA_KERNELS_CPU_BOX_INL_H_
#endif

#include "kernels/box_math.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

// Coordinates and areas apart.
struct BoxColumns {
  float *x1, *y1, *x2, *y2, *area;

  // Of `count` boxes in memory for 5 count floats.
  BoxColumns(float* memory, int64_t count)
      : x1(memory), y1(memory + count), x2(memory + 2 * count), y2(memory + 3 * count), area(memory + 4 * count) {}
  void set(int64_t i, const box::Corners<float>& b) {
    x1[i] = b.x1;
    y1[i] = b.y1;
    x2[i] = b.x2;
    y2[i] = b.y2;
    area[i] = box::area(b);
  }
};

// The same box in each lane.
struct BoxVector {
  Vector x1, y1, x2, y2, area;
  explicit BoxVector(const box::Corners<float>& b)
      : x1(splat(b.x1)), y1(splat(b.y1)), x2(splat(b.x2)), y2(splat(b.y2)), area(splat(box::area(b))) {}
};

HWY_INLINE Vector intersection(const BoxVector& a, const BoxColumns& b, int64_t i) {
  const Vector zero = splat(0);
  const Vector width = hn::Max(hn::Sub(hn::Min(a.x2, load(b.x2 + i)), hn::Max(a.x1, load(b.x1 + i))), zero);
  const Vector height = hn::Max(hn::Sub(hn::Min(a.y2, load(b.y2 + i)), hn::Max(a.y1, load(b.y1 + i))), zero);
  return hn::Mul(width, height);
}

// box::iou of `a` with boxes i, i + 1, ...: whichever operand Min and Max take where one is NaN, the area is NaN and the result 0.
HWY_INLINE Vector box_iou(const BoxVector& a, const BoxColumns& b, int64_t i) {
  const VectorTag d;
  const Vector inter = intersection(a, b, i), zero = splat(0);
  if (hn::AllFalse(d, hn::Gt(inter, zero))) return zero;  // spares the division
  const Vector ratio = hn::Div(inter, hn::Sub(hn::Add(a.area, load(b.area + i)), inter));
  return hn::IfThenElseZero(hn::Gt(ratio, zero), ratio);
}

HWY_INLINE int64_t whole_vectors(int64_t count) { return (count + vector_lanes() - 1) / vector_lanes() * vector_lanes(); }

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
