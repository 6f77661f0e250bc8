#pragma once
// Copies whose elements come from elsewhere, axis by axis: what slices, pads, flips and the permutations that leave the last axis
// in place have in common.
#include <vector>

#include "kernels/cuda/divide.cuh"
#include "tensor/shape.h"

namespace glia::GPU_NS {

// Where index j of an axis of y comes from in x.
enum class Source {
  shift,    // offset + step j; nowhere, if that is outside
  divide,   // (j - offset) / step where that is whole and inside, else nowhere: the way back of a step
  edge,     // offset + j, moved to the nearest index inside
  reflect,  // offset + j, mirrored at the first and the last index
};

struct CopyAxis {
  int64_t size;  // of y
  int64_t from;  // of x
  int64_t offset = 0, step = 1;
  Source source = Source::shift;
  int64_t stride = 1;  // in x, elements

  bool is_identity() const { return is_run() && size == from && offset == 0; }
  bool is_run() const { return source == Source::shift && step == 1; }  // neighbours come from neighbours
};

// y = x by the axes, the innermost first; elements from nowhere are `fill` (null: there are none). Only widths of elements count.
void copy_axes(std::vector<CopyAxis> axes, const void* fill, const Tensor& x, const Tensor& y);

// All of it, whatever the shapes.
inline void copy_all(const Tensor& x, const Tensor& y) { copy_memory(y.raw(), y.device(), x.raw(), x.device(), y.bytes()); }

// An unsigned integer, or two of 8 bytes, as wide as elements that are only moved.
template <int bytes>
struct Moved;
template <>
struct Moved<1> {
  using type = uint8_t;
};
template <>
struct Moved<2> {
  using type = uint16_t;
};
template <>
struct Moved<4> {
  using type = uint32_t;
};
template <>
struct Moved<8> {
  using type = uint2;
};
template <>
struct Moved<16> {
  using type = uint4;
};

// Calls f with a value of the type of that width.
template <class F>
void dispatch_width(size_t bytes, const F& f) {
  switch (bytes) {
    case 1: return f(Moved<1>::type{});
    case 2: return f(Moved<2>::type{});
    case 4: return f(Moved<4>::type{});
    case 8: return f(Moved<8>::type{});
    default: return f(Moved<16>::type{});
  }
}

// The largest power of two up to 16 that divides all of them.
template <class... Numbers>
size_t common_width(Numbers... numbers) {
  const uint64_t all = (uint64_t(numbers) | ... | 16u);
  return size_t(all & (~all + 1));
}

inline uint64_t address(const void* p) { return reinterpret_cast<uintptr_t>(p); }

}  // namespace glia::GPU_NS
