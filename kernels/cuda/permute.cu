// Permutations. Axes that stay neighbours are merged. If the last axis stays last, whole rows move: a copy by axes. Else tiles go
// through shared memory, so that both sides are read and written along their contiguous axes; a tile is square, or as long as the
// other axis is short (images of three channels). Rows of a tile are an odd number of elements apart, so that its columns lie in
// different banks. Bound by memory: each element is read and written once, up to sixteen loads of a thread are under way.
#include "kernels/cuda/shape.cuh"
#include "kernels/shape.h"

namespace glia::GPU_NS {

constexpr int permute_threads = 256;

// x's last axis is `across`, y's last `along`; tiles have tile_across times tile_along elements.
struct Tiles {
  uint32_t across, along, tile_across, tile_along;
  int64_t x_step;                     // in x, of the axis `along`
  int64_t y_step;                     // in y, of the axis `across`
  Divider count_across, count_along;  // of tiles
  int others = 0;
  Divider size[Shape::max_rank - 2];
  int64_t from[Shape::max_rank - 2], to[Shape::max_rank - 2];
};

template <class T>
constexpr int tile_side = sizeof(T) > 4 ? 32 : 64;

// Calls f(k, row, column) for this thread's k-th element of (rows, columns), neighbours in a row going to neighbouring threads.
template <int most, class F>
__device__ void for_tile(uint32_t rows, uint32_t columns, const F& f) {
  uint32_t row = threadIdx.x / columns, column = threadIdx.x % columns;
  const uint32_t row_step = permute_threads / columns, column_step = permute_threads % columns;
  GPU_UNROLL
  for (int k = 0; k < most; ++k) {
    if (row < rows) f(k, row, column);
    row += row_step, column += column_step;
    if (column >= columns) column -= columns, ++row;
  }
}

template <class T>
__global__ void __launch_bounds__(permute_threads) transpose_kernel(Tiles t, const T* __restrict__ x, T* __restrict__ y) {
  constexpr int elements = tile_side<T> * tile_side<T>, each = elements / permute_threads;
  auto& tile = gpu::dynamic_shared<T[]>();
  uint32_t block = blockIdx.x;
  const uint32_t left = t.count_across.split(block) * t.tile_across, top = t.count_along.split(block) * t.tile_along;
  int64_t from = left + top * t.x_step, to = top + left * t.y_step;
  for (int d = 0; d < t.others; ++d) {
    const int64_t i = t.size[d].split(block);
    from += i * t.from[d];
    to += i * t.to[d];
  }
  const uint32_t width = min(t.tile_across, t.across - left), height = min(t.tile_along, t.along - top), pitch = width | 1;
  T v[each] = {};
  for_tile<each>(height, width, [&](int k, uint32_t row, uint32_t column) { v[k] = x[from + row * t.x_step + column]; });
  for_tile<each>(height, width, [&](int k, uint32_t row, uint32_t column) { tile[row * pitch + column] = v[k]; });
  __syncthreads();
  for_tile<each>(width, height,
                 [&](int, uint32_t row, uint32_t column) { y[to + row * t.y_step + column] = tile[column * pitch + row]; });
}

// ---- launchers ---------------------------------------------------------------------------------------------------------------

// Axes of y, without those of size 1, neighbours that stay together merged; steps in x.
struct MergedAxes {
  int rank = 0;
  int64_t size[Shape::max_rank], from[Shape::max_rank];

  MergedAxes(const Tensor& x, const std::vector<int>& axes) {
    for (const int given : axes) {
      const int axis = normalize_axis(given, x.rank(), "permute");
      const int64_t n = x.dim(axis), step = x.shape().product(axis + 1, x.rank());
      if (n == 1) continue;
      if (rank > 0 && from[rank - 1] == n * step) {  // follows its predecessor in x too
        size[rank - 1] *= n, from[rank - 1] = step;
      } else {
        size[rank] = n, from[rank++] = step;
      }
    }
  }
};

Tiles tiles_of(const MergedAxes& m, int side) {
  Tiles t;
  const int last = m.rank - 1;
  int64_t to = 1;
  for (int d = last; d >= 0; to *= m.size[d--]) {
    if (d == last) {
      t.along = count31(m.size[d]);
      t.x_step = m.from[d];
    } else if (m.from[d] == 1) {
      t.across = count31(m.size[d]);
      t.y_step = to;
    } else {
      t.size[t.others] = Divider(m.size[d]);
      t.from[t.others] = m.from[d];
      t.to[t.others++] = to;
    }
  }
  const auto s = uint32_t(side);
  t.tile_across = std::min(t.across, s * s / std::min(t.along, s));
  t.tile_along = std::min(t.along, s * s / std::min(t.across, s));
  t.count_across = Divider(divide_up(t.across, t.tile_across));
  t.count_along = Divider(divide_up(t.along, t.tile_along));
  return t;
}

void permute_to(const Tensor& x, const std::vector<int>& axes, const Tensor& y) {
  if (x.size() == 0) return;
  const MergedAxes m(x, axes);
  if (m.rank <= 1) return copy_all(x, y);
  if (m.from[m.rank - 1] == 1) {
    std::vector<CopyAxis> rows;
    for (int d = m.rank - 1; d >= 0; --d) rows.push_back({.size = m.size[d], .from = m.size[d], .stride = m.from[d]});
    return copy_axes(rows, nullptr, x, y);
  }
  dispatch_width(size_of(x.dtype()), [&]<class T>(T) {
    const Tiles t = tiles_of(m, tile_side<T>);
    int64_t blocks = int64_t(t.count_across.divisor()) * t.count_along.divisor();
    for (int d = 0; d < t.others; ++d) blocks *= t.size[d].divisor();
    const size_t shared_bytes = t.tile_along * size_t(t.tile_across | 1) * sizeof(T);
    launch({count31(blocks), permute_threads, shared_bytes}, transpose_kernel<T>, t, reinterpret_cast<const T*>(x.raw()),
           reinterpret_cast<T*>(y.raw()));
  });
}

void permute(const Permute& op, const Tensor& x, Tensor& y) { permute_to(x, op.axes, y); }
void permute_backward(const Permute& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (dx) permute_to(dy, op.inverse().axes, *dx);
}

}  // namespace glia::GPU_NS
