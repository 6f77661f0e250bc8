// Permutations: rows where the last axis stays last, else by square blocks, so that both sides use whole cache lines. Any element
// type: only its width counts.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/permute.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/copy-inl.h"
#include "kernels/cpu/copy_parallel.h"
#include "kernels/shape.h"

#ifndef GLIA_KERNELS_CPU_PERMUTE_ONCE
#define GLIA_KERNELS_CPU_PERMUTE_ONCE
namespace glia::cpu {

// A permutation with axes of size 1 dropped and neighbours that stay together merged. Strides in elements.
struct Transpose {
  int rank = 0;
  std::array<int64_t, Shape::max_rank> size{}, from{}, to{};  // in the order of y's axes
};

}  // namespace glia::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

// All of the axes from the last one of x and y that form one block of the transposition, block by block.
template <class T>
void transpose_of(const Transpose& p, const T* from, T* to) {
  constexpr int64_t side = 32;
  const size_t last = static_cast<size_t>(p.rank - 1);
  size_t across = last;  // the axis of y that is x's last
  for (size_t i = 0; i < last; ++i)
    if (p.from[i] == 1) across = i;
  const int64_t width = p.size[last], height = p.size[across], strips = (height + side - 1) / side;
  int64_t others = 1;
  for (size_t i = 0; i < last; ++i)
    if (i != across) others *= p.size[i];
  const auto grain = bytes_per_chunk / (std::min(height, side) * width * int64_t(sizeof(T)));
  parallel_for(others * strips, std::max<int64_t>(1, grain), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t top = task % strips * side, bottom = std::min(height, top + side);
      const T* u = from;
      T* v = to;
      int64_t rest = task / strips;
      for (size_t i = last; i-- > 0;) {
        if (i == across) continue;
        u += rest % p.size[i] * p.from[i];
        v += rest % p.size[i] * p.to[i];
        rest /= p.size[i];
      }
      const int64_t step = p.from[last], row = p.to[across];
      for (int64_t left = 0; left < width; left += side) {
        const int64_t right = std::min(width, left + side);
        for (int64_t j = top; j < bottom; ++j)
          for (int64_t i = left; i < right; ++i) v[j * row + i] = u[i * step + j];
      }
    }
  });
}

// The last axis stays last: rows of it.
template <class T>
void move_rows(const Transpose& p, const T* from, T* to) {
  const size_t last = static_cast<size_t>(p.rank - 1);
  int64_t rows = 1;
  for (size_t i = 0; i < last; ++i) rows *= p.size[i];
  const int64_t n = p.size[last];
  const auto grain = bytes_per_chunk / (n * int64_t(sizeof(T)));
  parallel_for(rows, std::max<int64_t>(1, grain), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const T* u = from;
      int64_t rest = r;
      for (size_t i = last; i-- > 0; rest /= p.size[i]) u += rest % p.size[i] * p.from[i];
      copy_run(reinterpret_cast<std::byte*>(to + r * n), reinterpret_cast<const std::byte*>(u),
               static_cast<size_t>(n) * sizeof(T));
    }
  });
}

template <class T>
void move(const Transpose& p, const Tensor& x, Tensor& y) {
  const T* from = reinterpret_cast<const T*>(x.raw());
  T* to = reinterpret_cast<T*>(y.raw());
  p.from[static_cast<size_t>(p.rank - 1)] == 1 ? move_rows(p, from, to) : transpose_of(p, from, to);
}

void transpose(const Transpose& p, const Tensor& x, Tensor& y) {
  switch (size_of(x.dtype())) {
    case 1: return move<uint8_t>(p, x, y);
    case 2: return move<uint16_t>(p, x, y);
    case 4: return move<uint32_t>(p, x, y);
    default: return move<uint64_t>(p, x, y);
  }
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(transpose);

namespace {

void permute_to(const Tensor& x, const std::vector<int>& axes, Tensor& y) {
  std::array<int64_t, Shape::max_rank> stride{};
  int64_t running = 1;
  for (int i = x.rank() - 1; i >= 0; --i) {
    stride[static_cast<size_t>(i)] = running;
    running *= x.dim(i);
  }
  if (running == 0) return;
  Transpose p;
  for (const int axis : axes) {
    const auto at = static_cast<size_t>(normalize_axis(axis, x.rank(), "permute"));
    const int64_t n = x.dim(static_cast<int>(at));
    const auto i = static_cast<size_t>(p.rank);
    if (n == 1) continue;
    if (p.rank > 0 && p.from[i - 1] == n * stride[at]) {  // follows its predecessor in x too
      p.size[i - 1] *= n;
      p.from[i - 1] = stride[at];
    } else {
      p.size[i] = n;
      p.from[i] = stride[at];
      ++p.rank;
    }
  }
  if (p.rank <= 1) return copy_all(y.raw(), x.raw(), y.bytes());
  running = 1;
  for (int i = p.rank - 1; i >= 0; --i) {
    p.to[static_cast<size_t>(i)] = running;
    running *= p.size[static_cast<size_t>(i)];
  }
  HWY_DYNAMIC_DISPATCH(transpose)(p, x, y);
}

}  // namespace

void permute(const Permute& op, const Tensor& x, Tensor& y) { permute_to(x, op.axes, y); }
void permute_backward(const Permute& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (dx) permute_to(dy, op.inverse().axes, *dx);
}

}  // namespace glia::cpu
#endif
