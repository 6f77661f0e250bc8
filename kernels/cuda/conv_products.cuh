#pragma once
// The kernels of the convolutions' matrix products (conv_gemm.cuh), for any arithmetic and tile, and their launchers.
#include "kernels/cuda/conv_gemm.cuh"

namespace glia::GPU_NS {

#if GPU_EMULATED
#define GLIA_KERNEL_CONSTANT const
#else
#define GLIA_KERNEL_CONSTANT const __grid_constant__
#endif

// Stores neighbours at an address that is a multiple of their size.
template <int W>
__device__ __forceinline__ void store(float* to, const float (&v)[W]) {
  static_assert(W == 1 || W == 2 || W == 4);
  if constexpr (W == 4) {
    *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
  } else if constexpr (W == 2) {
    *reinterpret_cast<float2*>(to) = make_float2(v[0], v[1]);
  } else {
    *to = v[0];
  }
}

// Where the sums of a block's tile go, with what TapProduct's epilogue does to them.
struct TapResults {
  const TapProduct& p;
  const TapGrid& grid;
  int group, rows, row0, column0;

  template <int W>
  __device__ __forceinline__ void operator()(int row, int column, const float (&sums)[W]) const {
    row += row0, column += column0;
    if (row >= rows || column >= p.columns) return;
    int n, i, j;
    grid.order.decode(row, n, i, j);
    i = i * p.out_step_h + grid.phase_h, j = j * p.out_step_w + grid.phase_w;
    if (p.vectors) {  // then all W exist and are of one class
      const int to = place_of(n, i, j, column);
      float values[W];
      GPU_UNROLL
      for (int k = 0; k < W; ++k) values[k] = finish(p.epilogue, sums[k], column + k, to + k);
      store(p.d + to, values);
      return;
    }
    GPU_UNROLL
    for (int k = 0; k < W; ++k) {
      int channel = column + k;
      if (channel >= p.columns) return;
      const int to = place_of(n, i, j, channel);
      p.d[to] = finish(p.epilogue, sums[k], channel, to);
    }
  }

  // The element of d for a column of pixel (n, i, j); the column's number becomes the channel's.
  __device__ __forceinline__ int place_of(int n, int i, int j, int& column) const {
    if (p.columns != p.channels) {
      const int of_class = column / p.channels, down = of_class / p.out_step_w;
      column -= of_class * p.channels;
      i += down, j += of_class - down * p.out_step_w;
    }
    column += group * p.channels;
    return ((n * p.out_h + i) * p.out_w + j) * p.groups * p.channels + column;
  }
};

// blockIdx.x is a tile, blockIdx.z a class of a group. Rows are pixels, columns output channels, the inner dimension is
// InnerPlace's.
template <Arithmetic arithmetic, class T>
__global__ void __launch_bounds__(T::threads, T::resident) tap_product_kernel(GLIA_KERNEL_CONSTANT TapProduct p) {
  constexpr int chunks = inner_step / 4, pass = T::threads / chunks;  // a thread copies one chunk of every pass-th row
  constexpr int a_copies = T::rows / pass, b_copies = T::columns / pass;
  static_assert(pass % 8 == 0, "the swizzle is the same for all rows of a thread");
  const int group = int(blockIdx.z) / p.classes;
  const TapGrid& grid = p.grids[int(blockIdx.z) % p.classes];
  const int rows = p.images * grid.p * grid.q;
  const TileOrder tiles{(rows + T::rows - 1) / T::rows, (p.columns + T::columns - 1) / T::columns};
  if (int(blockIdx.x) >= tiles.rows * tiles.columns) return;
  int row0, column0;
  tiles.decode(int(blockIdx.x), row0, column0);
  row0 *= T::rows, column0 *= T::columns;

  const int first = int(threadIdx.x) / chunks, chunk = int(threadIdx.x) % chunks, pixel = p.groups * p.inner;
  int at[a_copies];
  unsigned valid[a_copies];  // bits of the taps' rows and columns that lie inside the image
  GPU_UNROLL
  for (int i = 0; i < a_copies; ++i) {
    const int m = row0 + first + i * pass;
    int n, y, x;
    grid.order.decode(m < rows ? m : 0, n, y, x);
    y *= p.step_h, x *= p.step_w;
    at[i] = ((n * p.h + y) * p.w + x) * pixel + group * p.inner;
    valid[i] = m < rows ? valid_taps(grid.rows, y, p.h) | valid_taps(grid.columns, x, p.w) << most_taps : 0u;
  }
  const int taps = grid.taps(), width = inner_block(p.inner, inner_step);
  const int filters = group * p.b_group + grid.filter_at * p.channels * p.inner + (column0 + first) * taps * p.inner;
  const int columns_left = p.columns - column0 - first;
  InnerPlace place(chunk * 4, width, max(grid.rows.count, 1), max(grid.columns.count, 1));

  const auto copy = [&](float4* to_a, float4* to_b) {
    const bool inside = place.block < p.inner;
    const int dy = grid.rows.first + place.r * grid.rows.step, dx = grid.columns.first + place.s * grid.columns.step;
    const int channel = place.block + place.channel, offset = (dy * p.w + dx) * pixel + channel;
    GPU_UNROLL
    for (int i = 0; i < a_copies; ++i) {
      const bool ok = inside && (valid[i] >> place.r & valid[i] >> (most_taps + place.s) & 1u);
      gpu::cp_async16(to_a + inner_fastest_at(first + i * pass, chunk), p.a + (ok ? at[i] + offset : 0), ok);
    }
    const int filter = filters + (place.r * grid.columns.count + place.s) * p.inner + channel;
    GPU_UNROLL
    for (int i = 0; i < b_copies; ++i) {
      const bool ok = inside && i * pass < columns_left;
      gpu::cp_async16(to_b + inner_fastest_at(first + i * pass, chunk), p.b + (ok ? filter + i * pass * taps * p.inner : 0), ok);
    }
    place.advance(inner_step, width, grid.rows.count, grid.columns.count);
  };
  WarpTile<arithmetic, Layout::inner_fastest, T> warp(int(threadIdx.x));
  run_stages<T>(gpu::dynamic_shared<typename T::Shared>(), warp, inner_steps(p.inner, taps, inner_step), copy);

  warp.for_each(TapResults{p, grid, group, rows, row0, column0});
}

// blockIdx.x is a tile, blockIdx.y a part of the pixels, blockIdx.z a group. Rows are channels of dy, columns (tap, channel of x)
// and the inner dimension is pixels, so both come with their rows and columns contiguous.
template <Arithmetic arithmetic, class T>
__global__ void __launch_bounds__(T::threads, T::resident) pixel_product_kernel(GLIA_KERNEL_CONSTANT PixelProduct p) {
  constexpr int a_chunks = T::rows / 4, b_chunks = T::columns / 4;
  constexpr int a_pass = T::threads / a_chunks, b_pass = T::threads / b_chunks;  // pixels that the block copies at once
  const int taps = p.down.count * p.across.count, columns = taps * p.inner, group = int(blockIdx.z);
  int row0, column0;
  TileOrder{(p.rows + T::rows - 1) / T::rows, (columns + T::columns - 1) / T::columns}.decode(int(blockIdx.x), row0, column0);
  row0 *= T::rows, column0 *= T::columns;

  const int a_chunk = int(threadIdx.x) % a_chunks, a_first = int(threadIdx.x) / a_chunks;
  const int b_chunk = int(threadIdx.x) % b_chunks, b_first = int(threadIdx.x) / b_chunks;
  const int a_pixel = p.groups * p.rows_padded, b_pixel = p.groups * p.inner;
  const bool a_inside = row0 + a_chunk * 4 < p.rows_padded, b_inside = column0 + b_chunk * 4 < columns;
  const int a = group * p.rows_padded + row0 + a_chunk * 4;
  const int column = b_inside ? column0 + b_chunk * 4 : 0, tap = column / p.inner, r = tap / p.across.count;
  const int dy = p.down.first + r * p.down.step, dx = p.across.first + (tap - r * p.across.count) * p.across.step;
  const int b = group * p.inner + column - tap * p.inner;
  int pixel = int(blockIdx.y) * p.steps * inner_step;
  const int steps = min(p.steps, (p.pixels - pixel + inner_step - 1) / inner_step);

  const auto copy = [&](float4* to_a, float4* to_b) {
    GPU_UNROLL
    for (int j = 0; j < inner_step / a_pass; ++j) {
      const int i = a_first + j * a_pass;
      const bool ok = a_inside && pixel + i < p.pixels;
      gpu::cp_async16(to_a + inner_slowest_at<T::rows>(i, a_chunk), p.dy + (ok ? a + (pixel + i) * a_pixel : 0), ok);
    }
    GPU_UNROLL
    for (int j = 0; j < inner_step / b_pass; ++j) {
      const int i = b_first + j * b_pass;
      int n, y, x;
      p.order.decode(pixel + i, n, y, x);
      y = y * p.step_h + dy, x = x * p.step_w + dx;
      const bool ok = b_inside && pixel + i < p.pixels && unsigned(y) < unsigned(p.h) && unsigned(x) < unsigned(p.w);
      gpu::cp_async16(to_b + inner_slowest_at<T::columns>(i, b_chunk), p.x + (ok ? b + ((n * p.h + y) * p.w + x) * b_pixel : 0),
                      ok);
    }
    pixel += inner_step;
  };
  WarpTile<arithmetic, Layout::inner_slowest, T> warp(int(threadIdx.x));
  run_stages<T>(gpu::dynamic_shared<typename T::Shared>(), warp, steps, copy);

  float* const d = p.d + blockIdx.y * p.part;
  warp.for_each([&]<int W>(int row, int first_column, const float(&sums)[W]) {
    const int k = row0 + row, c = column0 + first_column;
    if (k >= p.rows || c >= columns) return;
    const int of_tap = c / p.inner, channel = c - of_tap * p.inner;  // the inner size is a multiple of 4: one tap for all W
    float* const to = d + ((group * p.rows + k) * taps + of_tap) * p.channels + channel;
    if (p.vectors) {
      store(to, sums);
      return;
    }
    GPU_UNROLL
    for (int i = 0; i < W; ++i)
      if (channel + i < p.channels) to[i] = sums[i];
  });
}

// ---- launchers: which tile, how many parts ------------------------------------------------------------------------------------

template <class T>
constexpr TileShape shape_of(double efficiency) {
  return {T::rows, T::columns, T::resident, efficiency, sizeof(typename T::Shared)};
}

inline size_t pick_tile(std::span<const TileShape> shapes, int64_t rows, int64_t columns, int64_t batch, Device device) {
  const int forced = forced_tile();
  const size_t wanted = size_t(forced) % shapes.size(), limit = shared_limit(device);
  return forced >= 0 && shapes[wanted].shared_bytes <= limit ? wanted : choose_tile(shapes, rows, columns, batch, limit);
}

// Calls f with the index-th of the types.
template <class... T, class F>
void with_type(size_t index, F&& f) {
  size_t i = 0;
  ((i++ == index ? f.template operator()<T>() : void()), ...);
}

template <Arithmetic arithmetic, class... T>
void run_tap_product(const TapProduct& p, Device device, std::span<const TileShape> shapes) {
  int64_t rows = 0, most = 0;
  for (int i = 0; i < p.classes; ++i) {
    const int64_t of_class = int64_t(p.images) * p.grids[i].p * p.grids[i].q;
    rows += of_class, most = std::max(most, of_class);
  }
  const size_t tile = pick_tile(shapes, rows, p.columns, p.groups, device);
  const int64_t tiles = divide_up(most, shapes[tile].rows) * divide_up(p.columns, shapes[tile].columns);
  const dim3 grid(unsigned(tiles), 1, unsigned(p.classes * p.groups));
  with_type<T...>(tile, [&]<class One>() {
    launch({grid, unsigned(One::threads), sizeof(typename One::Shared)}, tap_product_kernel<arithmetic, One>, p);
  });
}

template <Arithmetic arithmetic, class... T>
void run_pixel_product(PixelProduct p, const Tensor& dw, std::span<const TileShape> shapes) {
  const int64_t columns = int64_t(p.down.count) * p.across.count * p.inner;
  if (dw.size() == 0) return;
  const size_t tile = pick_tile(shapes, p.rows, columns, p.groups, dw.device());
  const int64_t tiles = divide_up(p.rows, shapes[tile].rows) * divide_up(columns, shapes[tile].columns);
  const SplitPlan plan = split_plan(tiles * p.groups, shapes[tile].resident, divide_up(p.pixels, inner_step));
  Tensor partial = dw;
  if (plan.parts > 1) partial = Tensor({plan.parts, dw.size()}, DType::float32, dw.device());
  p.d = partial.device_data<float>();
  p.vectors = p.channels % 4 == 0 && reinterpret_cast<uintptr_t>(p.d) % 16 == 0;
  p.steps = plan.steps;
  p.part = dw.size();
  const dim3 grid(unsigned(tiles), unsigned(plan.parts), unsigned(p.groups));
  with_type<T...>(tile, [&]<class One>() {
    launch({grid, unsigned(One::threads), sizeof(typename One::Shared)}, pixel_product_kernel<arithmetic, One>, p);
  });
  if (plan.parts > 1) sum_rows(p.d, plan.parts, dw.size(), dw.device_data<float>());
}

}  // namespace glia::GPU_NS
