// Ops by index. Sums into the same place keep the order of the indices: a thread owns whole rows of the result (the indices are
// first sorted into a list per row), or whole columns where every element has its own index.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/index.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <numeric>

#include "kernels/cpu/vector-inl.h"
#include "kernels/index.h"
#include "kernels/reduce.h"

#ifndef GLIA_KERNELS_CPU_INDEX_ONCE
#define GLIA_KERNELS_CPU_INDEX_ONCE
namespace glia::cpu {

// x as (outer, size, inner), with `count` indices along its axis.
struct Indexed {
  int64_t outer, size, inner, count;
};

// The places of each value in [0, size) among the indices, in order: places[start[v]] .. places[start[v + 1]].
struct Places {
  std::vector<int64_t> start, places;
  Places(const int64_t* index, int64_t count, int64_t size)
      : start(static_cast<size_t>(size + 1), 0), places(static_cast<size_t>(count)) {
    for (int64_t i = 0; i < count; ++i) ++start[static_cast<size_t>(index[i] + 1)];
    std::partial_sum(start.begin(), start.end(), start.begin());
    std::vector<int64_t> next(start.begin(), start.end() - 1);
    for (int64_t i = 0; i < count; ++i) places[static_cast<size_t>(next[static_cast<size_t>(index[i])]++)] = i;
  }
};

// One operand of `where`: its strides along the axes of y.
struct Broadcast {
  const std::byte* data;
  std::array<int64_t, Shape::max_rank> stride;
};

}  // namespace glia::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

constexpr int64_t elements_per_chunk = 1 << 14;

int64_t rows_per_chunk(int64_t width) { return std::max<int64_t>(1, elements_per_chunk / std::max<int64_t>(1, width)); }

void add_row(float* HWY_RESTRICT to, const float* HWY_RESTRICT from, int64_t n) {
  for (int64_t c = 0; c < n; ++c) to[c] += from[c];
}

// y[o, i, c] = x[o, index[o, i, c], c]
template <class T>
void gather_of(const Indexed& s, const int64_t* index, const T* x, T* y) {
  parallel_for(s.outer * s.count, rows_per_chunk(s.inner), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end;) {  // as far as x's slice stays the same
      const int64_t o = r / s.count, stop = std::min(end, (o + 1) * s.count);
      const T* from = x + o * s.size * s.inner;
      if (s.inner == 1) {
        for (; r < stop; ++r) y[r] = from[index[r]];
      } else {
        for (; r < stop; ++r)
          for (int64_t c = 0; c < s.inner; ++c) y[r * s.inner + c] = from[index[r * s.inner + c] * s.inner + c];
      }
    }
  });
}

// y[o, index[o, i, c], c] += src[o, i, c], by slices and blocks of columns
void scatter(const Indexed& s, const int64_t* index, const float* src, float* y) {
  constexpr int64_t block = 64;
  const int64_t blocks = num_chunks(s.inner, block);
  parallel_for(s.outer * blocks, rows_per_chunk(s.count * std::min(s.inner, block)), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t o = task / blocks, first = task % blocks * block, last = std::min(s.inner, first + block);
      float* to = y + o * s.size * s.inner;
      for (int64_t i = 0; i < s.count; ++i) {
        const int64_t row = (o * s.count + i) * s.inner;
        for (int64_t c = first; c < last; ++c) to[index[row + c] * s.inner + c] += src[row + c];
      }
    }
  });
}

// y[o, i] = x[o, index[i]], rows of inner elements
template <class T>
void select_of(const Indexed& s, const int64_t* index, const T* x, T* y) {
  parallel_for(s.outer * s.count, rows_per_chunk(s.inner), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t o = r / s.count;
      const T* from = x + (o * s.size + index[r - o * s.count]) * s.inner;
      if (s.inner == 1) {
        y[r] = *from;
      } else {
        copy_bytes(y + r * s.inner, from, static_cast<size_t>(s.inner) * sizeof(T));
      }
    }
  });
}

// y[o, v] = (x ? x[o, v] : 0) + sum of src[o, i] over the i with index v
void collect(const Indexed& s, const Places& of, const float* x, const float* src, float* y) {
  parallel_for(s.outer * s.size, rows_per_chunk(s.inner), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t o = r / s.size;
      const auto v = static_cast<size_t>(r - o * s.size);
      float* to = y + r * s.inner;
      if (x) {
        copy_bytes(to, x + r * s.inner, static_cast<size_t>(s.inner) * sizeof(float));
      } else {
        std::fill_n(to, s.inner, 0.0f);
      }
      for (int64_t k = of.start[v]; k < of.start[v + 1]; ++k)
        add_row(to, src + (o * s.count + of.places[static_cast<size_t>(k)]) * s.inner, s.inner);
    }
  });
}

template <class T>
void choose_of(const Shape& shape, const Broadcast& mask, const Broadcast& a, const Broadcast& b, T* y) {
  const int last = shape.rank() - 1;
  const auto l = static_cast<size_t>(last);
  const int64_t n = shape[last], rows = shape.product(0, last), ms = mask.stride[l], as = a.stride[l], bs = b.stride[l];
  parallel_for(rows, rows_per_chunk(n), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      int64_t mo = 0, ao = 0, bo = 0, rest = r;
      for (size_t d = l; d-- > 0;) {
        const int64_t at = rest % shape[static_cast<int>(d)];
        rest /= shape[static_cast<int>(d)];
        mo += at * mask.stride[d];
        ao += at * a.stride[d];
        bo += at * b.stride[d];
      }
      const auto* m = reinterpret_cast<const uint8_t*>(mask.data) + mo;
      const T *u = reinterpret_cast<const T*>(a.data) + ao, *v = reinterpret_cast<const T*>(b.data) + bo;
      T* HWY_RESTRICT to = y + r * n;
      if (ms == 1 && as == 1 && bs == 1) {
        for (int64_t i = 0; i < n; ++i) to[i] = m[i] ? u[i] : v[i];
      } else {
        for (int64_t i = 0; i < n; ++i) to[i] = m[i * ms] ? u[i * as] : v[i * bs];
      }
    }
  });
}

// The same for every element type of a width.
void gather_any(const Indexed& s, const int64_t* index, const Tensor& x, Tensor& y) {
  switch (size_of(x.dtype())) {
    case 1: return gather_of(s, index, reinterpret_cast<const uint8_t*>(x.raw()), reinterpret_cast<uint8_t*>(y.raw()));
    case 2: return gather_of(s, index, reinterpret_cast<const uint16_t*>(x.raw()), reinterpret_cast<uint16_t*>(y.raw()));
    case 4: return gather_of(s, index, reinterpret_cast<const uint32_t*>(x.raw()), reinterpret_cast<uint32_t*>(y.raw()));
    default: return gather_of(s, index, reinterpret_cast<const uint64_t*>(x.raw()), reinterpret_cast<uint64_t*>(y.raw()));
  }
}
void select_any(const Indexed& s, const int64_t* index, const Tensor& x, Tensor& y) {
  switch (size_of(x.dtype())) {
    case 1: return select_of(s, index, reinterpret_cast<const uint8_t*>(x.raw()), reinterpret_cast<uint8_t*>(y.raw()));
    case 2: return select_of(s, index, reinterpret_cast<const uint16_t*>(x.raw()), reinterpret_cast<uint16_t*>(y.raw()));
    case 4: return select_of(s, index, reinterpret_cast<const uint32_t*>(x.raw()), reinterpret_cast<uint32_t*>(y.raw()));
    default: return select_of(s, index, reinterpret_cast<const uint64_t*>(x.raw()), reinterpret_cast<uint64_t*>(y.raw()));
  }
}
void choose_any(const Shape& shape, const Broadcast& mask, const Broadcast& a, const Broadcast& b, Tensor& y) {
  switch (size_of(y.dtype())) {
    case 1: return choose_of(shape, mask, a, b, reinterpret_cast<uint8_t*>(y.raw()));
    case 2: return choose_of(shape, mask, a, b, reinterpret_cast<uint16_t*>(y.raw()));
    case 4: return choose_of(shape, mask, a, b, reinterpret_cast<uint32_t*>(y.raw()));
    default: return choose_of(shape, mask, a, b, reinterpret_cast<uint64_t*>(y.raw()));
  }
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(gather_any);
HWY_EXPORT(scatter);
HWY_EXPORT(select_any);
HWY_EXPORT(collect);
HWY_EXPORT(choose_any);

namespace {

Indexed split(const Shape& x, int given_axis, const Tensor& index, bool like, const char* op) {
  const int axis = normalize_axis(given_axis, x.rank(), op);
  detail::check_indices(index, x[axis], op);
  return {x.product(0, axis), x[axis], x.product(axis + 1, x.rank()), like ? index.dim(axis) : index.size()};
}

void select_rows(const Shape& shape, int axis, const Tensor& x, const Tensor& index, Tensor& y, const char* op) {
  HWY_DYNAMIC_DISPATCH(select_any)(split(shape, axis, index, false, op), index.data<int64_t>(), x, y);
}

// y = x (or 0) plus the rows of src.
void add_rows(const Tensor* x, int axis, const Tensor& index, const Tensor& src, Tensor& y, const char* op) {
  const Indexed s = split(y.shape(), axis, index, false, op);
  const Places of(index.data<int64_t>(), s.count, s.size);
  HWY_DYNAMIC_DISPATCH(collect)(s, of, x ? x->data<float>() : nullptr, src.data<float>(), y.data<float>());
}

void fill_zero(Tensor& t) {
  float* to = t.data<float>();
  parallel_for(t.size(), 1 << 18, [&](int64_t begin, int64_t end) { std::fill(to + begin, to + end, 0.0f); });
}

void choose(const Tensor& mask, const Tensor& a, const Tensor& b, Tensor& y) {
  if (y.size() == 0) return;
  if (same_shape(mask, y) && same_shape(a, y) && same_shape(b, y)) {  // rows that are long enough to share among threads
    constexpr int64_t piece = 1 << 14;
    const auto width = static_cast<int64_t>(size_of(y.dtype()));
    parallel_for(y.size(), piece, [&](int64_t begin, int64_t end) {
      const Broadcast m{mask.raw() + begin, {1}}, u{a.raw() + begin * width, {1}}, v{b.raw() + begin * width, {1}};
      Tensor part = y.reshape({y.size()}).slice(begin, end);
      HWY_DYNAMIC_DISPATCH(choose_any)(Shape{end - begin}, m, u, v, part);
    });
    return;
  }
  const auto operand = [&](const Tensor& t) { return Broadcast{t.raw(), detail::broadcast_strides(t.shape(), y.shape())}; };
  HWY_DYNAMIC_DISPATCH(choose_any)(y.rank() ? y.shape() : Shape{1}, operand(mask), operand(a), operand(b), y);
}

// The gradient of a (yes) or b (no): dy where it was chosen, summed over the axes along which it was repeated.
void choose_backward(const Tensor& mask, bool yes, const Tensor& dy, Tensor* dx) {
  if (!dx) return;
  const Tensor zero = Tensor::zeros({});
  if (same_shape(*dx, dy)) return yes ? choose(mask, dy, zero, *dx) : choose(mask, zero, dy, *dx);
  Tensor chosen(dy.shape());
  yes ? choose(mask, dy, zero, chosen) : choose(mask, zero, dy, chosen);
  Sum op{.axes = {}, .keepdim = true};
  for (int i = 1; i <= dy.rank(); ++i)
    if (i > dx->rank() || (dx->dim(-i) == 1 && dy.dim(-i) != 1)) op.axes.push_back(-i);
  if (op.axes.empty()) return dx->copy_from(chosen.reshape(dx->shape()));
  Tensor sums = dx->reshape(op.infer(chosen).shape);
  cpu::sum(op, chosen, sums);
}

}  // namespace

void gather(const Gather& op, const Tensor& x, const Tensor& index, Tensor& y) {
  HWY_DYNAMIC_DISPATCH(gather_any)(split(x.shape(), op.axis, index, true, "gather"), index.data<int64_t>(), x, y);
}
void gather_backward(const Gather& op, const Tensor&, const Tensor& index, const Tensor&, const Tensor& dy, Tensor* dx, Tensor*) {
  if (!dx) return;
  fill_zero(*dx);
  HWY_DYNAMIC_DISPATCH(scatter)
  (split(dx->shape(), op.axis, index, true, "gather"), index.data<int64_t>(), dy.data<float>(), dx->data<float>());
}

void index_select(const IndexSelect& op, const Tensor& x, const Tensor& index, Tensor& y) {
  select_rows(x.shape(), op.axis, x, index, y, "index_select");
}
void index_select_backward(const IndexSelect& op, const Tensor&, const Tensor& index, const Tensor&, const Tensor& dy, Tensor* dx,
                           Tensor*) {
  if (dx) add_rows(nullptr, op.axis, index, dy, *dx, "index_select");
}

void scatter_add(const ScatterAdd& op, const Tensor& x, const Tensor& index, const Tensor& src, Tensor& y) {
  y.copy_from(x);
  HWY_DYNAMIC_DISPATCH(scatter)
  (split(x.shape(), op.axis, index, true, "scatter_add"), index.data<int64_t>(), src.data<float>(), y.data<float>());
}
void scatter_add_backward(const ScatterAdd& op, const Tensor&, const Tensor& index, const Tensor&, const Tensor&,
                          const Tensor& dy, Tensor* dx, Tensor*, Tensor* dsrc) {
  if (dx) dx->copy_from(dy);
  if (dsrc) cpu::gather(Gather{op.axis}, dy, index, *dsrc);
}

void index_add(const IndexAdd& op, const Tensor& x, const Tensor& index, const Tensor& src, Tensor& y) {
  add_rows(&x, op.axis, index, src, y, "index_add");
}
void index_add_backward(const IndexAdd& op, const Tensor&, const Tensor& index, const Tensor&, const Tensor&, const Tensor& dy,
                        Tensor* dx, Tensor*, Tensor* dsrc) {
  if (dx) dx->copy_from(dy);
  if (dsrc) select_rows(dy.shape(), op.axis, dy, index, *dsrc, "index_add");
}

void embedding(const Embedding&, const Tensor& w, const Tensor& index, Tensor& y) {
  select_rows(w.shape(), 0, w, index, y, "embedding");
}
void embedding_backward(const Embedding& op, const Tensor&, const Tensor& index, const Tensor&, const Tensor& dy, Tensor* dw,
                        Tensor*) {
  if (!dw) return;
  add_rows(nullptr, 0, index, dy, *dw, "embedding");
  if (op.padding_index >= 0 && op.padding_index < dw->dim(0)) dw->slice(op.padding_index, op.padding_index + 1).fill(0);
}

void where(const Where&, const Tensor& mask, const Tensor& a, const Tensor& b, Tensor& y) { choose(mask, a, b, y); }
void where_backward(const Where&, const Tensor& mask, const Tensor&, const Tensor&, const Tensor&, const Tensor& dy, Tensor*,
                    Tensor* da, Tensor* db) {
  choose_backward(mask, true, dy, da);
  choose_backward(mask, false, dy, db);
}

}  // namespace glia::cpu
#endif
