// Copies: whole runs of bytes where the last axes are untouched, element by element where they are not. Any element type: only its
// width counts.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/shape.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/copy-inl.h"
#include "kernels/cpu/copy_parallel.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/shape.h"

#ifndef GLIA_KERNELS_CPU_SHAPE_ONCE
#define GLIA_KERNELS_CPU_SHAPE_ONCE
namespace glia::cpu {

// One part of a concatenation: rows of `bytes` bytes, the whole's rows being `step` bytes.
struct Part {
  std::byte* whole;
  std::byte* part;
  size_t step, bytes;
};

}  // namespace glia::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

template <bool streaming>
void join_rows(const std::vector<Part>& parts, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r)
    for (const Part& p : parts)
      copy_run<streaming>(p.whole + static_cast<size_t>(r) * p.step, p.part + static_cast<size_t>(r) * p.bytes, p.bytes);
}

// Copies the parts' rows into the whole, or (split) the whole's into the parts.
void join(const std::vector<Part>& parts, int64_t rows, int64_t row_bytes, bool split) {
  bool aligned = rows * row_bytes >= stream_bytes;
  for (const Part& p : parts)
    aligned = aligned && p.bytes % 64 == 0 && p.step % 64 == 0 && reinterpret_cast<uintptr_t>(split ? p.part : p.whole) % 64 == 0;
  parallel_for(rows, std::max<int64_t>(1, bytes_per_chunk / std::max<int64_t>(1, row_bytes)), [&](int64_t begin, int64_t end) {
    if (split) {
      for (int64_t r = begin; r < end; ++r) {
        for (const Part& p : parts) {
          std::byte* to = p.part + static_cast<size_t>(r) * p.bytes;
          const std::byte* from = p.whole + static_cast<size_t>(r) * p.step;
          aligned ? copy_run<true>(to, from, p.bytes) : copy_run(to, from, p.bytes);
        }
      }
    } else if (aligned) {
      join_rows<true>(parts, begin, end);
    } else {
      join_rows<false>(parts, begin, end);
    }
    if (aligned) hwy::FlushStream();
  });
}

// Consecutive indices of an output axis that come from consecutive ones of the input, or from nowhere.
struct Segment {
  int64_t to, from, count;  // from -1: the constant
};
std::vector<Segment> segments_of(const std::vector<int64_t>& source) {
  std::vector<Segment> list;
  for (size_t i = 0; i < source.size(); ++i) {
    if (!list.empty()) {
      Segment& last = list.back();
      if (source[i] == (last.from < 0 ? -1 : last.from + last.count)) {
        ++last.count;
        continue;
      }
    }
    list.push_back({static_cast<int64_t>(i), source[i], 1});
  }
  return list;
}

// The rows of a mapped copy: everything but the last axis that is not copied as it is, and what follows it.
struct Rows {
  int axes;       // in front of the rows' axis
  int64_t count;  // rows of y
  int64_t inner;  // elements that stay together
  explicit Rows(const AxisMap& map)
      : axes(std::max(0, map.identity_from() - 1)),
        count(map.y.product(0, axes)),
        inner(map.x.product(std::min(map.rank(), axes + 1), map.rank())) {}
};

// Row of x from which row r of y comes; -1: from nowhere.
int64_t source_row(const AxisMap& map, int axes, int64_t r) {
  int64_t from = 0, stride = 1;
  for (int d = axes - 1; d >= 0; --d) {
    const int64_t source = map.source[static_cast<size_t>(d)][static_cast<size_t>(r % map.y[d])];
    if (source < 0) return -1;
    from += source * stride;
    stride *= map.x[d];
    r /= map.y[d];
  }
  return from;
}

template <class T>
void mapped_copy_of(const AxisMap& map, const void* constant, const Tensor& x, Tensor& y) {
  const Rows rows(map);
  const std::vector<int64_t>& source = map.source[static_cast<size_t>(rows.axes)];
  const std::vector<Segment> segments = segments_of(source);
  const int64_t in_row = map.x[rows.axes] * rows.inner, out_row = map.y[rows.axes] * rows.inner;
  const bool scattered = rows.inner == 1 && segments.size() * 4 > source.size();
  const T value = *static_cast<const T*>(constant);
  const T* from = reinterpret_cast<const T*>(x.raw());
  T* to = reinterpret_cast<T*>(y.raw());
  const auto grain = bytes_per_chunk / std::max<int64_t>(1, out_row * int64_t(sizeof(T)));
  parallel_for(rows.count, std::max<int64_t>(1, grain), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t source_of_row = source_row(map, rows.axes, r);
      T* v = to + r * out_row;
      if (source_of_row < 0) {  // x may be empty: no pointer into it
        std::fill_n(v, out_row, value);
        continue;
      }
      const T* u = from + source_of_row * in_row;
      if (scattered) {
        for (size_t i = 0; i < source.size(); ++i) v[i] = source[i] < 0 ? value : u[source[i]];
      } else {
        for (const Segment& s : segments) {
          T* w = v + s.to * rows.inner;
          if (s.from < 0) {
            std::fill_n(w, s.count * rows.inner, value);
          } else {
            copy_run(reinterpret_cast<std::byte*>(w), reinterpret_cast<const std::byte*>(u + s.from * rows.inner),
                     static_cast<size_t>(s.count * rows.inner) * sizeof(T));
          }
        }
      }
    }
  });
}

void mapped_copy(const AxisMap& map, const Tensor& constant, const Tensor& x, Tensor& y) {
  if (y.size() == 0) return;
  switch (size_of(x.dtype())) {
    case 1: return mapped_copy_of<uint8_t>(map, constant.raw(), x, y);
    case 2: return mapped_copy_of<uint16_t>(map, constant.raw(), x, y);
    case 4: return mapped_copy_of<uint32_t>(map, constant.raw(), x, y);
    default: return mapped_copy_of<uint64_t>(map, constant.raw(), x, y);
  }
}

// dx[o, j, ..] = sum over the i with source[i] = j of dy[o, i, ..], dy being (outer, |source|, inner).
void collect_axis(const std::vector<int64_t>& source, int64_t outer, int64_t size, int64_t inner, const float* dy, float* dx) {
  std::vector<std::vector<int64_t>> origins(static_cast<size_t>(size));
  for (size_t i = 0; i < source.size(); ++i)
    if (source[i] >= 0) origins[static_cast<size_t>(source[i])].push_back(static_cast<int64_t>(i));
  const int64_t n = static_cast<int64_t>(source.size());
  const auto grain = bytes_per_chunk / std::max<int64_t>(1, inner * 4);
  parallel_for(outer * size, std::max<int64_t>(1, grain), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const auto& list = origins[static_cast<size_t>(r % size)];
      float* HWY_RESTRICT to = dx + r * inner;
      const float* from = dy + r / size * n * inner;
      std::fill_n(to, inner, 0.0f);
      for (const int64_t i : list) {
        const float* HWY_RESTRICT add = from + i * inner;
        for (int64_t c = 0; c < inner; ++c) to[c] += add[c];
      }
    }
  });
}

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

HWY_EXPORT(join);
HWY_EXPORT(mapped_copy);
HWY_EXPORT(collect_axis);

namespace {

// Whole and parts of a concatenation; absent parts (null) are left out.
void join_or_split(int axis, const Tensor& whole, std::span<const Tensor> parts, std::span<const TensorSpec> specs, bool split) {
  const int64_t rows = whole.shape().product(0, axis);
  const size_t inner = static_cast<size_t>(whole.shape().product(axis + 1, whole.rank())) * size_of(whole.dtype());
  const size_t step = static_cast<size_t>(whole.dim(axis)) * inner;
  std::vector<Part> list;
  std::byte* at = whole.raw();
  for (size_t i = 0; i < parts.size(); ++i) {
    const size_t bytes = static_cast<size_t>(specs[i].shape[axis]) * inner;
    if (parts[i] && bytes > 0) {
      if (rows == 1) {
        split ? copy_all(parts[i].raw(), at, bytes) : copy_all(at, parts[i].raw(), bytes);
      } else {
        list.push_back({at, parts[i].raw(), step, bytes});
      }
    }
    at += bytes;
  }
  if (!list.empty()) HWY_DYNAMIC_DISPATCH(join)(list, rows, static_cast<int64_t>(step), split);
}

void copy_by(const AxisMap& map, double value, const Tensor& x, Tensor& y) {
  if (map.identity_from() == 0) return copy_all(y.raw(), x.raw(), y.bytes());
  HWY_DYNAMIC_DISPATCH(mapped_copy)(map, Tensor::full({}, value, x.dtype()), x, y);
}

// Where each index of x goes to; empty when one of them goes to several.
bool invert(const AxisMap& map, AxisMap& inverse) {
  inverse.x = map.y;
  inverse.y = map.x;
  for (int d = 0; d < map.rank(); ++d) {
    auto& to = inverse.source[static_cast<size_t>(d)];
    const auto& source = map.source[static_cast<size_t>(d)];
    to.assign(static_cast<size_t>(map.x[d]), -1);
    for (size_t i = 0; i < source.size(); ++i) {
      if (source[i] < 0) continue;
      int64_t& place = to[static_cast<size_t>(source[i])];
      if (place >= 0) return false;
      place = static_cast<int64_t>(i);
    }
  }
  return true;
}

// A gradient is a mapped copy too, by the inverse map; where elements were repeated, sums along one axis after another.
void copy_backward(const AxisMap& map, const Tensor& dy, Tensor* dx) {
  if (!dx || dx->size() == 0) return;
  AxisMap inverse;
  if (invert(map, inverse)) return copy_by(inverse, 0, dy, *dx);
  int last = map.rank() - 1;
  while (map.is_identity(last)) --last;
  Tensor from = dy;
  for (int d = 0; d <= last; ++d) {
    if (map.is_identity(d)) continue;
    const auto& source = map.source[static_cast<size_t>(d)];
    Shape shape = from.shape();
    shape.set(d, map.x[d]);
    Tensor to = d == last ? *dx : Tensor(shape, DType::float32);
    HWY_DYNAMIC_DISPATCH(collect_axis)
    (source, shape.product(0, d), map.x[d], shape.product(d + 1, shape.rank()), from.data<float>(), to.data<float>());
    from = to;
  }
}

}  // namespace

void concat(const Concat& op, std::span<const Tensor> xs, Tensor& y) {
  std::vector<TensorSpec> specs;
  for (const Tensor& x : xs) specs.push_back({x.shape(), x.dtype()});
  join_or_split(normalize_axis(op.axis, y.rank(), "concat"), y, xs, specs, false);
}
void concat_backward(const Concat& op, std::span<const TensorSpec> xs, const Tensor& dy, std::span<Tensor* const> dxs) {
  std::vector<Tensor> parts;
  for (Tensor* dx : dxs) parts.push_back(dx ? *dx : Tensor());
  join_or_split(normalize_axis(op.axis, dy.rank(), "concat"), dy, parts, xs, true);
}

void slice(const Slice& op, const Tensor& x, Tensor& y) { copy_by(op.map(x.shape()), 0, x, y); }
void slice_backward(const Slice& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (dx) copy_backward(op.map(dx->shape()), dy, dx);
}

void pad(const Pad& op, const Tensor& x, Tensor& y) { copy_by(op.map(x.shape()), op.value, x, y); }
void pad_backward(const Pad& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (dx) copy_backward(op.map(dx->shape()), dy, dx);
}

void flip(const Flip& op, const Tensor& x, Tensor& y) { copy_by(op.map(x.shape()), 0, x, y); }
void flip_backward(const Flip& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (dx) copy_backward(op.map(dx->shape()), dy, dx);
}

}  // namespace glia::cpu
#endif
