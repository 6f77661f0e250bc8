// Concatenation, slices, pads and flips: copies, and their gradients copies back, or where elements were repeated, sums over
// where they went. Bound by memory: each element is read and written once, in accesses as wide as alignment and sizes allow, four
// of a thread under way.
#include <algorithm>

#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/shape.cuh"
#include "kernels/shape.h"

namespace glia::GPU_NS {

constexpr int copy_threads = 256, copy_batch = 4;
inline unsigned copy_blocks(uint32_t units) { return unsigned(divide_up(units, copy_threads * copy_batch)); }

// ---- kernels -----------------------------------------------------------------------------------------------------------------

// Rows of `width` units, apart by to_pitch and from_pitch units.
template <class T>
__global__ void __launch_bounds__(copy_threads)
    copy_rows_kernel(uint32_t units, Divider width, T* __restrict__ to, int64_t to_pitch, const T* __restrict__ from,
                     int64_t from_pitch) {
  const uint32_t first = blockIdx.x * (copy_threads * copy_batch) + threadIdx.x;
  T v[copy_batch];
  GPU_UNROLL
  for (int b = 0; b < copy_batch; ++b) {
    uint32_t row = min(first + b * copy_threads, units - 1);
    const uint32_t column = width.split(row);
    v[b] = from[row * from_pitch + column];
  }
  GPU_UNROLL
  for (int b = 0; b < copy_batch; ++b) {
    uint32_t row = first + b * copy_threads;
    if (row >= units) continue;
    const uint32_t column = width.split(row);
    to[row * to_pitch + column] = v[b];
  }
}

// The axes of a copy, the innermost first.
struct CopyPlan {
  int rank = 0;
  Divider size[Shape::max_rank];
  CopyAxis axis[Shape::max_rank];
};

// -1: nowhere.
__device__ inline int64_t source_of(const CopyAxis& a, int64_t j) {
  int64_t i = a.offset + a.step * j;
  switch (a.source) {
    case Source::shift: break;
    case Source::divide:
      i = j - a.offset;
      if (i < 0 || uint32_t(i) % uint32_t(a.step) != 0) return -1;
      i = uint32_t(i) / uint32_t(a.step);
      break;
    case Source::edge: return i < 0 ? 0 : i < a.from ? i : a.from - 1;
    case Source::reflect: return i < 0 ? -i : i < a.from ? i : 2 * (a.from - 1) - i;
  }
  return i >= 0 && i < a.from ? i : -1;
}

template <class T>
__global__ void __launch_bounds__(copy_threads)
    copy_axes_kernel(CopyPlan plan, uint32_t units, T fill, const T* __restrict__ x, T* __restrict__ y) {
  const uint32_t first = blockIdx.x * (copy_threads * copy_batch) + threadIdx.x;
  uint32_t index[copy_batch];
  int64_t at[copy_batch] = {};
  bool inside[copy_batch];
  GPU_UNROLL
  for (int b = 0; b < copy_batch; ++b) {
    index[b] = first + b * copy_threads;
    inside[b] = index[b] < units;
  }
  for (int d = 0; d < plan.rank; ++d) {
    GPU_UNROLL
    for (int b = 0; b < copy_batch; ++b) {
      const int64_t i = source_of(plan.axis[d], plan.size[d].split(index[b]));
      inside[b] = inside[b] && i >= 0;
      at[b] += i * plan.axis[d].stride;
    }
  }
  T v[copy_batch];
  GPU_UNROLL
  for (int b = 0; b < copy_batch; ++b) v[b] = inside[b] ? x[at[b]] : fill;
  GPU_UNROLL
  for (int b = 0; b < copy_batch; ++b) {
    const uint32_t i = first + b * copy_threads;
    if (i < units) y[i] = v[b];
  }
}

// The indices of y that come from one index of x, along an axis of edge or reflect: `count` in all, from `first` on; where they
// were mirrored, one before and one behind.
struct Origins {
  int64_t first;
  int count;
  int64_t mirrored_before, mirrored_behind;
  __device__ Origins(const CopyAxis& a, int64_t i) : first(i - a.offset), count(0), mirrored_before(-1), mirrored_behind(-1) {
    int64_t last = first;
    if (a.source == Source::edge) {
      if (i == 0) first = 0;
      if (i == a.from - 1) last = a.size - 1;
    }
    if (first < 0) first = 0;
    if (last >= a.size) last = a.size - 1;
    count = last < first ? 0 : int(last - first + 1);
    if (a.source != Source::reflect) return;
    if (const int64_t j = -i - a.offset; i > 0 && j >= 0 && j < a.size) mirrored_before = j, ++count;
    if (const int64_t j = 2 * (a.from - 1) - i - a.offset; i < a.from - 1 && j >= 0 && j < a.size) mirrored_behind = j, ++count;
  }
  __device__ int64_t operator[](int k) const {  // in rising order
    if (mirrored_before >= 0 && k-- == 0) return mirrored_before;
    return mirrored_behind >= 0 && k == own() ? mirrored_behind : first + k;
  }

 private:
  __device__ int own() const { return count - (mirrored_before >= 0) - (mirrored_behind >= 0); }
};

// Pack i of dx = the sum of dy over where it went. The plan's sizes are those of dx here, its strides dy's.
template <int width>
__global__ void __launch_bounds__(copy_threads)
    fold_kernel(CopyPlan plan, uint32_t packs, const float* __restrict__ dy, float* __restrict__ dx) {
  const uint32_t pack = blockIdx.x * copy_threads + threadIdx.x;
  if (pack >= packs) return;
  uint32_t rest = pack;
  int count[Shape::max_rank], all = 1;
  uint32_t index[Shape::max_rank];
  GPU_UNROLL
  for (int d = 0; d < Shape::max_rank; ++d) {
    count[d] = 1;
    index[d] = 0;
    if (d >= plan.rank) continue;
    index[d] = plan.size[d].split(rest);
    count[d] = Origins(plan.axis[d], index[d]).count;
    all *= count[d];
  }
  Pack<width> sum = {};
  for (int k = 0; k < all; ++k) {
    int64_t at = 0;
    int which = k;
    GPU_UNROLL
    for (int d = 0; d < Shape::max_rank; ++d) {
      if (d >= plan.rank) continue;
      at += Origins(plan.axis[d], index[d])[which % count[d]] * plan.axis[d].stride;
      which /= count[d];
    }
    const Pack<width> term = load_pack<width>(dy + at * width);
    GPU_UNROLL
    for (int j = 0; j < width; ++j) sum.at[j] += term.at[j];
  }
  store_pack(dx + int64_t(pack) * width, sum);
}

// ---- launchers ---------------------------------------------------------------------------------------------------------------

void copy_rows(int64_t rows, size_t bytes, std::byte* to, size_t to_pitch, const std::byte* from, size_t from_pitch) {
  if (bytes == 0) return;
  const size_t unit = common_width(address(to), address(from), bytes, to_pitch, from_pitch);
  dispatch_width(unit, [&]<class T>(T) {
    const uint32_t units = count31(rows * int64_t(bytes / unit));
    launch({copy_blocks(units), copy_threads}, copy_rows_kernel<T>, units, Divider(int64_t(bytes / unit)),
           reinterpret_cast<T*>(to), int64_t(to_pitch / unit), reinterpret_cast<const T*>(from), int64_t(from_pitch / unit));
  });
}

// Copies parts into the whole, or (split) the whole into those parts that are there.
void join(int axis, const Tensor& whole, std::span<const Tensor> parts, std::span<const TensorSpec> specs, bool split) {
  if (whole.size() == 0) return;
  const int64_t rows = whole.shape().product(0, axis);
  const size_t inner = size_t(whole.shape().product(axis + 1, whole.rank())) * size_of(whole.dtype());
  const size_t pitch = size_t(whole.dim(axis)) * inner;
  std::byte* at = whole.raw();
  for (size_t i = 0; i < parts.size(); ++i) {
    const size_t bytes = size_t(specs[i].shape[axis]) * inner;
    if (parts[i] && split) copy_rows(rows, bytes, parts[i].raw(), bytes, at, pitch);
    if (parts[i] && !split) copy_rows(rows, bytes, at, pitch, parts[i].raw(), bytes);
    at += bytes;
  }
}

void concat(const Concat& op, std::span<const Tensor> xs, Tensor& y) {
  std::vector<TensorSpec> specs;
  for (const Tensor& x : xs) specs.push_back({x.shape(), x.dtype()});
  join(normalize_axis(op.axis, y.rank(), "concat"), y, xs, specs, false);
}
void concat_backward(const Concat& op, std::span<const TensorSpec> xs, const Tensor& dy, std::span<Tensor* const> dxs) {
  std::vector<Tensor> parts;
  for (Tensor* dx : dxs) parts.push_back(dx ? *dx : Tensor());
  join(normalize_axis(op.axis, dy.rank(), "concat"), dy, parts, xs, true);
}

using Axes = std::vector<CopyAxis>;

// Merges what stays together, and gives the axes x's strides. `axes`: of the op, the outermost first.
Axes merged(const Axes& axes) {
  Axes result;
  for (auto a = axes.rbegin(); a != axes.rend(); ++a) {
    if (a->size == 1 && a->is_identity()) continue;
    if (!result.empty() && result.back().is_identity() && a->is_run()) {
      CopyAxis& run = result.back();
      const int64_t n = run.size;
      run.size = n * a->size, run.from = n * a->from, run.offset = n * a->offset;
    } else {
      result.push_back(*a);
    }
  }
  int64_t stride = 1;
  for (CopyAxis& a : result) {
    a.stride = stride;
    stride *= a.from;
  }
  return result;
}

CopyPlan plan_of(const Axes& axes) {
  CopyPlan plan;
  for (const CopyAxis& a : axes) {
    GLIA_CHECK(a.from <= INT32_MAX, "copy: an axis of {} elements, want at most 2^31 - 1", a.from);
    plan.size[plan.rank] = Divider(a.size);
    plan.axis[plan.rank++] = a;
  }
  return plan;
}

void copy_axes(std::vector<CopyAxis> axes, const void* fill, const Tensor& x, const Tensor& y) {
  if (y.size() == 0) return;
  if (axes.empty() || (axes.size() == 1 && axes[0].is_identity())) return copy_all(x, y);
  const size_t element = size_of(x.dtype());
  size_t unit = element;
  if (CopyAxis& a = axes[0]; a.is_run() && a.stride == 1) {
    unit = common_width(address(x.raw()), address(y.raw()), size_t(a.size) * element, size_t(a.from) * element,
                        size_t(std::abs(a.offset)) * element);
    for (size_t d = 1; d < axes.size(); ++d) unit = common_width(unit, size_t(axes[d].stride) * element);
    const auto per_unit = int64_t(unit / element);
    a.size /= per_unit, a.from /= per_unit, a.offset /= per_unit;
    for (size_t d = 1; d < axes.size(); ++d) axes[d].stride /= per_unit;
  }
  const CopyPlan plan = plan_of(axes);
  dispatch_width(unit, [&]<class T>(T constant) {
    auto* bytes = reinterpret_cast<std::byte*>(&constant);
    for (size_t i = 0; fill && i < unit; i += element) copy_bytes(bytes + i, fill, element);
    const uint32_t units = count31(int64_t(y.bytes() / unit));
    launch({copy_blocks(units), copy_threads}, copy_axes_kernel<T>, plan, units, constant, reinterpret_cast<const T*>(x.raw()),
           reinterpret_cast<T*>(y.raw()));
  });
}

void copy_forward(const Axes& axes, double value, const Tensor& x, const Tensor& y) {
  const Tensor constant = Tensor::full({}, value, x.dtype());
  copy_axes(merged(axes), constant.raw(), x, y);
}

// dx = the sums over where its elements went.
void fold(const Axes& axes, const Tensor& dy, const Tensor& dx) {
  Axes list = merged(axes);
  int64_t stride = 1;
  for (CopyAxis& a : list) {
    a.stride = stride;
    stride *= a.size;
  }
  const bool packs = list[0].is_identity() && list[0].size % 4 == 0 && aligned16(dy.raw()) && aligned16(dx.raw());
  if (packs) {
    list[0].size /= 4, list[0].from /= 4;
    for (size_t d = 1; d < list.size(); ++d) list[d].stride /= 4;
  }
  CopyPlan plan = plan_of(list);
  for (size_t d = 0; d < list.size(); ++d) plan.size[d] = Divider(list[d].from);
  const uint32_t count = count31(dx.size() / (packs ? 4 : 1));
  launch({unsigned(divide_up(count, copy_threads)), copy_threads}, packs ? fold_kernel<4> : fold_kernel<1>, plan, count,
         dy.device_data<const float>(), dx.device_data<float>());
}

// The gradient: a copy by the inverse map, unless elements were repeated.
void copy_backward(const Axes& axes, const Tensor& dy, const Tensor& dx) {
  if (dx.size() == 0) return;
  if (dy.size() == 0) return dx.fill(0);
  Axes inverse;
  for (const CopyAxis& a : axes) {
    if (a.source != Source::shift) return fold(axes, dy, dx);
    CopyAxis back{.size = a.from, .from = a.size, .offset = -a.offset * a.step, .step = a.step};
    if (std::abs(a.step) > 1) back.offset = a.offset, back.source = Source::divide;
    inverse.push_back(back);
  }
  copy_forward(inverse, 0, dy, dx);
}

Axes axes_of(const Slice& op, const Shape& x, const Shape& y) {
  Axes axes;
  for (int d = 0; d < x.rank(); ++d) {
    const auto i = size_t(d);
    const int64_t start = op.start.empty() ? 0 : op.start[i], step = op.step.empty() ? 1 : op.step[i];
    axes.push_back({.size = y[d], .from = x[d], .offset = start < 0 ? start + x[d] : start, .step = y[d] > 1 ? step : 1});
  }
  return axes;
}

Axes axes_of(const Pad& op, const Shape& x, const Shape& y) {
  Axes axes;
  for (int d = 0; d < x.rank(); ++d) {
    const auto& [before, after] = op.pads[size_t(d)];
    const bool inside = before <= 0 && after <= 0;
    const Source source = inside || op.mode == PadMode::constant ? Source::shift
                          : op.mode == PadMode::edge             ? Source::edge
                                                                 : Source::reflect;
    axes.push_back({.size = y[d], .from = x[d], .offset = -before, .source = source});
  }
  return axes;
}

Axes axes_of(const Flip& op, const Shape& x, const Shape&) {
  Axes axes;
  for (int d = 0; d < x.rank(); ++d) axes.push_back({.size = x[d], .from = x[d]});
  for (const int axis : op.axes) {
    CopyAxis& a = axes[size_t(normalize_axis(axis, x.rank(), "flip"))];
    if (a.size > 1) a.offset = a.size - 1 - a.offset, a.step = -a.step;
  }
  return axes;
}

void slice(const Slice& op, const Tensor& x, Tensor& y) { copy_forward(axes_of(op, x.shape(), y.shape()), 0, x, y); }
void slice_backward(const Slice& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (dx) copy_backward(axes_of(op, dx->shape(), dy.shape()), dy, *dx);
}

void pad(const Pad& op, const Tensor& x, Tensor& y) { copy_forward(axes_of(op, x.shape(), y.shape()), op.value, x, y); }
void pad_backward(const Pad& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (dx) copy_backward(axes_of(op, dx->shape(), dy.shape()), dy, *dx);
}

void flip(const Flip& op, const Tensor& x, Tensor& y) { copy_forward(axes_of(op, x.shape(), y.shape()), 0, x, y); }
void flip_backward(const Flip& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (dx) copy_backward(axes_of(op, dx->shape(), dy.shape()), dy, *dx);
}

}  // namespace glia::GPU_NS
