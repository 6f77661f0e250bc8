#include "kernels/shape.h"

namespace glia::reference {
namespace {

// Calls f(i, j) for every element i of the map's output in row-major order, j being its element of x or -1.
template <class F>
void for_each_mapped(const AxisMap& map, F f) {
  std::array<int64_t, Shape::max_rank> at{};
  for (int64_t i = 0, n = map.y.size(); i < n; ++i) {
    int64_t from = 0;
    for (int d = 0; d < map.rank() && from >= 0; ++d) {
      const int64_t source = map.source[size_t(d)][size_t(at[size_t(d)])];
      from = source < 0 ? -1 : from * map.x[d] + source;
    }
    f(i, from);
    for (int d = map.rank() - 1; d >= 0; --d) {
      if (++at[size_t(d)] < map.y[d]) break;
      at[size_t(d)] = 0;
    }
  }
}

void mapped_copy(const AxisMap& map, double value, const Tensor& x, Tensor& y) {
  const Tensor constant = Tensor::full({}, value, x.dtype());
  const size_t width = size_of(x.dtype());
  for_each_mapped(map, [&](int64_t i, int64_t from) {
    copy_bytes(y.raw() + size_t(i) * width, from < 0 ? constant.raw() : x.raw() + size_t(from) * width, width);
  });
}

void mapped_add(const AxisMap& map, const Tensor& dy, Tensor& dx) {
  dispatch_floating(dy.dtype(), "slice_backward", [&]<class T>(T) {
    const T* g = dy.data<T>();
    T* to = dx.data<T>();
    for (int64_t i = 0; i < dx.size(); ++i) to[i] = 0;
    for_each_mapped(map, [&](int64_t i, int64_t from) {
      if (from >= 0) to[from] += g[i];
    });
  });
}

}  // namespace

void concat(const Concat& op, std::span<const Tensor> xs, Tensor& y) {
  const int axis = normalize_axis(op.axis, y.rank(), "concat");
  const int64_t outer = y.shape().product(0, axis);
  const size_t inner = static_cast<size_t>(y.shape().product(axis + 1, y.rank())) * size_of(y.dtype());
  std::byte* to = y.raw();
  for (int64_t o = 0; o < outer; ++o) {
    for (const Tensor& x : xs) {
      const size_t bytes = static_cast<size_t>(x.dim(axis)) * inner;
      copy_bytes(to, x.raw() + static_cast<size_t>(o) * bytes, bytes);
      to += bytes;
    }
  }
}

void concat_backward(const Concat& op, std::span<const TensorSpec> xs, const Tensor& dy, std::span<Tensor* const> dxs) {
  const int axis = normalize_axis(op.axis, dy.rank(), "concat");
  const int64_t outer = dy.shape().product(0, axis);
  const size_t inner = static_cast<size_t>(dy.shape().product(axis + 1, dy.rank())) * size_of(dy.dtype());
  const std::byte* from = dy.raw();
  for (int64_t o = 0; o < outer; ++o) {
    for (size_t i = 0; i < xs.size(); ++i) {
      const size_t bytes = static_cast<size_t>(xs[i].shape[axis]) * inner;
      if (dxs[i]) copy_bytes(dxs[i]->raw() + static_cast<size_t>(o) * bytes, from, bytes);
      from += bytes;
    }
  }
}

void slice(const Slice& op, const Tensor& x, Tensor& y) { mapped_copy(op.map(x.shape()), 0, x, y); }
void slice_backward(const Slice& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (dx) mapped_add(op.map(dx->shape()), dy, *dx);
}

void pad(const Pad& op, const Tensor& x, Tensor& y) { mapped_copy(op.map(x.shape()), op.value, x, y); }
void pad_backward(const Pad& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (dx) mapped_add(op.map(dx->shape()), dy, *dx);
}

void permute(const Permute& op, const Tensor& x, Tensor& y) { y.copy_from(permuted(x, op.axes)); }
void permute_backward(const Permute& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (dx) dx->copy_from(permuted(dy, op.inverse().axes));
}

void flip(const Flip& op, const Tensor& x, Tensor& y) { mapped_copy(op.map(x.shape()), 0, x, y); }
void flip_backward(const Flip& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (dx) mapped_add(op.map(dx->shape()), dy, *dx);
}

}  // namespace glia::reference
