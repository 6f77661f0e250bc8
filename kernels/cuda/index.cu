// Reading at indices, and the ops of index.h in terms of it and of adding at indices (index_add.cu). A row of y is read from a row
// of x in the largest units, up to 16 bytes, that its length and the addresses allow, four under way a thread; with an index for each
// element the unit is the element. Bound by memory.
#include "kernels/index.h"

#include "kernels/cuda/divide.cuh"
#include "kernels/cuda/index.cuh"
#include "kernels/cuda/lanes.cuh"

namespace glia::GPU_NS {
namespace {

constexpr int batch = 4;  // units a thread

// y has `rows` = outer m rows of `units`; a block takes 256 / width rows, of each 4 `width` units, one of `pieces`.
struct Take {
  uint32_t rows;
  Divider m, pieces;
  int64_t size, units;
  int width;
  bool per_element;
};

template <class Unit>
__global__ void __launch_bounds__(index_threads) take_kernel(Take g, const Unit* x, const int64_t* index, Unit* y) {
  const unsigned t = threadIdx.x, width = unsigned(g.width);
  uint32_t rows = blockIdx.x;
  const uint32_t piece = g.pieces.split(rows), row = rows * (index_threads / width) + t / width;
  if (row >= g.rows) return;
  uint32_t o = row;
  const uint32_t i = g.m.split(o);
  const int64_t first = int64_t(piece) * batch * width + t % width;
  Unit units[batch];
  bool refused = false;  // told at the end, where no register has to outlive the call
  int64_t wrong = 0;
  GPU_UNROLL
  for (int j = 0; j < batch; ++j) {
    const int64_t u = first + j * g.width;
    if (u >= g.units) continue;
    const int64_t at = index[g.per_element ? row * g.units + u : i];
    if (uint64_t(at) < uint64_t(g.size)) {
      units[j] = x[(o * g.size + at) * g.units + u];
    } else {
      refused = true;
      wrong = at;
    }
  }
  if (refused) return refuse_index(wrong, g.size);
  GPU_UNROLL
  for (int j = 0; j < batch; ++j) {
    const int64_t u = first + j * g.width;
    if (u < g.units) y[row * g.units + u] = units[j];
  }
}

template <class Unit>
void take_in_units(Take g, const Tensor& x, const Tensor& index, const Tensor& y) {
  while (g.width < index_threads && g.width * batch < g.units) g.width *= 2;
  const int64_t pieces = divide_up(g.units, batch * g.width), blocks = divide_up(g.rows, index_threads / g.width) * pieces;
  GLIA_CHECK(blocks <= INT32_MAX, "index: {} is too large for one launch", y.shape());
  g.pieces = Divider(pieces);
  launch({blocks, index_threads}, take_kernel<Unit>, g, reinterpret_cast<const Unit*>(x.raw()), index.device_data<int64_t>(),
         reinterpret_cast<Unit*>(y.raw()));
}

}  // namespace

void take_at(const AxisView& axis, const Tensor& x, const Tensor& index, bool per_element, const Tensor& y) {
  if (y.size() == 0) return;
  const int64_t rows = y.size() / axis.inner;
  GLIA_CHECK(rows <= INT32_MAX, "index: {} rows, want fewer than 2^31 in one launch", rows);
  const size_t row_bytes = size_t(axis.inner) * size_of(x.dtype());
  size_t unit = per_element ? size_of(x.dtype()) : 16;
  while (row_bytes % unit || !aligned_to(unit, x.raw()) || !aligned_to(unit, y.raw())) unit /= 2;
  const Take g{.rows = uint32_t(rows),
               .m = Divider(rows / axis.outer),
               .pieces = Divider(1),
               .size = axis.size,
               .units = int64_t(row_bytes / unit),
               .width = 1,
               .per_element = per_element};
  switch (unit) {
    case 16: return take_in_units<uint4>(g, x, index, y);
    case 8: return take_in_units<uint2>(g, x, index, y);
    case 4: return take_in_units<uint32_t>(g, x, index, y);
    case 2: return take_in_units<uint16_t>(g, x, index, y);
    default: return take_in_units<uint8_t>(g, x, index, y);
  }
}

void gather(const Gather& op, const Tensor& x, const Tensor& index, Tensor& y) {
  take_at(AxisView(x.shape(), op.axis), x, index, true, y);
}
void gather_backward(const Gather& op, const Tensor&, const Tensor& index, const Tensor&, const Tensor& dy, Tensor* dx, Tensor*) {
  if (!dx) return;
  add_at(AxisView(dx->shape(), op.axis), index, true, dy, {}, *dx);
}

void index_select(const IndexSelect& op, const Tensor& x, const Tensor& index, Tensor& y) {
  take_at(AxisView(x.shape(), op.axis), x, index, false, y);
}
void index_select_backward(const IndexSelect& op, const Tensor&, const Tensor& index, const Tensor&, const Tensor& dy, Tensor* dx,
                           Tensor*) {
  if (!dx) return;
  add_at(AxisView(dx->shape(), op.axis), index, false, dy, {}, *dx);
}

void scatter_add(const ScatterAdd& op, const Tensor& x, const Tensor& index, const Tensor& src, Tensor& y) {
  add_at(AxisView(x.shape(), op.axis), index, true, src, x, y);
}
void scatter_add_backward(const ScatterAdd& op, const Tensor&, const Tensor& index, const Tensor&, const Tensor&,
                          const Tensor& dy, Tensor* dx, Tensor*, Tensor* dsrc) {
  if (dx) dx->copy_from(dy);
  if (dsrc) take_at(AxisView(dy.shape(), op.axis), dy, index, true, *dsrc);
}

void index_add(const IndexAdd& op, const Tensor& x, const Tensor& index, const Tensor& src, Tensor& y) {
  add_at(AxisView(x.shape(), op.axis), index, false, src, x, y);
}
void index_add_backward(const IndexAdd& op, const Tensor&, const Tensor& index, const Tensor&, const Tensor&, const Tensor& dy,
                        Tensor* dx, Tensor*, Tensor* dsrc) {
  if (dx) dx->copy_from(dy);
  if (dsrc) take_at(AxisView(dy.shape(), op.axis), dy, index, false, *dsrc);
}

void embedding(const Embedding&, const Tensor& w, const Tensor& index, Tensor& y) {
  take_at(AxisView(w.shape(), 0), w, index, false, y);
}
void embedding_backward(const Embedding& op, const Tensor&, const Tensor& index, const Tensor&, const Tensor& dy, Tensor* dw,
                        Tensor*) {
  if (!dw) return;
  add_at(AxisView(dw->shape(), 0), index, false, dy, {}, *dw);
  if (op.padding_index >= 0 && op.padding_index < dw->dim(0)) dw->slice(op.padding_index, op.padding_index + 1).fill(0);
}

}  // namespace glia::GPU_NS
