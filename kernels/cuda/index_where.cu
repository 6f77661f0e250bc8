// y = mask ? a : b, broadcast. Where all three have y's shape, 16 bytes a thread and input (fewer where addresses don't allow it);
// otherwise an element a thread, whose place in each input is a sum of strides over the axes, neighbours of one kind merged. Bound by
// memory. The gradients are the same with dy or 0 for a and b, summed over the axes along which an input repeats.
#include "kernels/cuda/divide.cuh"
#include "kernels/cuda/lanes.cuh"
#include "kernels/index.h"
#include "kernels/reduce.h"

namespace glia::GPU_NS {
namespace {

constexpr int where_threads = 256;

// Absent inputs (null) are 0. Mask has as many lanes as T.
template <class T, class Mask>
struct Inputs {
  const Mask* mask;
  const T* a;
  const T* b;
};

template <class T, int N>
__global__ void __launch_bounds__(where_threads)
    choose_alike_kernel(uint32_t count, Inputs<Lanes<T, N>, Lanes<uint8_t, N>> in, Lanes<T, N>* y) {
  const uint32_t i = blockIdx.x * where_threads + threadIdx.x;
  if (i >= count) return;
  const Lanes<uint8_t, N> chosen = in.mask[i];
  const Lanes<T, N> zero{}, a = in.a ? in.a[i] : zero, b = in.b ? in.b[i] : zero;
  Lanes<T, N> value;
  GPU_UNROLL
  for (int l = 0; l < N; ++l) value.v[l] = chosen.v[l] ? a.v[l] : b.v[l];
  y[i] = value;
}

// Axes of y, innermost first, and what a step along each skips in mask, a and b.
struct Axes {
  int count = 0;
  Divider size[Shape::max_rank];
  int64_t stride[Shape::max_rank][3];
};

template <class T>
__global__ void __launch_bounds__(where_threads) choose_kernel(uint32_t count, Axes axes, Inputs<T, uint8_t> in, T* y) {
  const uint32_t i = blockIdx.x * where_threads + threadIdx.x;
  if (i >= count) return;
  uint32_t rest = i;
  int64_t mask = 0, a = 0, b = 0;
  GPU_UNROLL
  for (int d = 0; d < Shape::max_rank; ++d) {
    if (d >= axes.count) break;
    const int64_t along = axes.size[d].split(rest);
    mask += along * axes.stride[d][0];
    a += along * axes.stride[d][1];
    b += along * axes.stride[d][2];
  }
  y[i] = in.mask[mask] ? (in.a ? in.a[a] : T(0)) : (in.b ? in.b[b] : T(0));
}

// ---- launchers ----------------------------------------------------------------------------------------------------------------

int64_t grid_for(int64_t threads) { return divide_up(threads, where_threads); }

Axes merged_axes(const Shape& y, const std::array<Shape, 3>& inputs) {
  std::array<std::array<int64_t, Shape::max_rank>, 3> strides;
  for (size_t k = 0; k < 3; ++k) strides[k] = glia::detail::broadcast_strides(inputs[k], y);
  std::array<int64_t, Shape::max_rank> size{};
  Axes axes;
  for (int d = y.rank() - 1; d >= 0; --d) {
    if (y[d] == 1) continue;
    const auto last = size_t(axes.count - 1);
    bool continues = axes.count > 0;
    for (size_t k = 0; k < 3 && continues; ++k) continues = strides[k][size_t(d)] == axes.stride[last][k] * size[last];
    if (continues) {
      size[last] *= y[d];
      continue;
    }
    size[size_t(axes.count)] = y[d];
    for (size_t k = 0; k < 3; ++k) axes.stride[axes.count][k] = strides[k][size_t(d)];
    ++axes.count;
  }
  for (int d = 0; d < axes.count; ++d) axes.size[d] = Divider(size[size_t(d)]);
  return axes;
}

template <class T, class Mask>
Inputs<T, Mask> inputs_of(const Tensor& mask, const Tensor* a, const Tensor* b) {
  return {reinterpret_cast<const Mask*>(mask.raw()), a ? reinterpret_cast<const T*>(a->raw()) : nullptr,
          b ? reinterpret_cast<const T*>(b->raw()) : nullptr};
}

template <class T, int N>
void choose_alike(const Tensor& mask, const Tensor* a, const Tensor* b, const Tensor& y) {
  const int64_t groups = y.size() / N;
  launch({grid_for(groups), where_threads}, choose_alike_kernel<T, N>, count31(groups),
         inputs_of<Lanes<T, N>, Lanes<uint8_t, N>>(mask, a, b), reinterpret_cast<Lanes<T, N>*>(y.raw()));
}

// y = mask ? a : b; null inputs are 0. T has the size of an element.
template <class T>
void choose_as(const Tensor& mask, const Tensor* a, const Tensor* b, const Tensor& y) {
  const auto alike = [&](const Tensor* t) { return !t || same_shape(*t, y); };
  if (!alike(&mask) || !alike(a) || !alike(b)) {
    const Axes axes = merged_axes(y.shape(), {mask.shape(), a ? a->shape() : Shape(), b ? b->shape() : Shape()});
    launch({grid_for(y.size()), where_threads}, choose_kernel<T>, count31(y.size()), axes, inputs_of<T, uint8_t>(mask, a, b),
           reinterpret_cast<T*>(y.raw()));
    return;
  }
  constexpr int most = 16 / sizeof(T);
  const auto aligned = [](const Tensor* t, size_t bytes) { return !t || aligned_to(bytes, t->raw()); };
  if (y.size() % most == 0 && aligned(&mask, most) && aligned(a, 16) && aligned(b, 16) && aligned(&y, 16)) {
    choose_alike<T, most>(mask, a, b, y);
  } else {
    choose_alike<T, 1>(mask, a, b, y);
  }
}

void choose(const Tensor& mask, const Tensor* a, const Tensor* b, const Tensor& y) {
  if (y.size() == 0) return;
  switch (size_of(y.dtype())) {
    case 8: return choose_as<uint64_t>(mask, a, b, y);
    case 4: return choose_as<uint32_t>(mask, a, b, y);
    case 2: return choose_as<uint16_t>(mask, a, b, y);
    default: return choose_as<uint8_t>(mask, a, b, y);
  }
}

// dx (broadcast to y) from what y's elements give.
void choose_gradient(const Tensor& mask, const Tensor* a, const Tensor* b, const Shape& y, const Tensor& dx) {
  if (dx.shape() == y) return choose(mask, a, b, dx);
  const Tensor each(y, DType::float32, dx.device());
  choose(mask, a, b, each);
  Shape kept = y;
  Sum over{.keepdim = true};
  for (int d = 0; d < y.rank(); ++d) {
    const int in_dx = d - (y.rank() - dx.rank());
    if (in_dx >= 0 && dx.dim(in_dx) == y[d]) continue;
    over.axes.push_back(d);
    kept.set(d, 1);
  }
  Tensor sums = dx.reshape(kept);
  sum(over, each, sums);
}

}  // namespace

void where(const Where&, const Tensor& mask, const Tensor& a, const Tensor& b, Tensor& y) { choose(mask, &a, &b, y); }

void where_backward(const Where&, const Tensor& mask, const Tensor&, const Tensor&, const Tensor&, const Tensor& dy, Tensor*,
                    Tensor* da, Tensor* db) {
  if (da) choose_gradient(mask, &dy, nullptr, dy.shape(), *da);
  if (db) choose_gradient(mask, nullptr, &dy, dy.shape(), *db);
}

}  // namespace glia::GPU_NS
