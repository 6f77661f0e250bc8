// Pooling of NHWC images, a thread for each four channels of a pixel (one where channels or addresses don't allow that), bound by
// memory. Forward reads a window's pixels in batches of four, so that enough loads are in flight; what windows share comes from the
// caches.
//
// The backward passes are gathers: a pixel's thread adds what the windows that hold it give, in row-major order, so no two threads
// write one address and the sum's order is fixed. Max pooling first stores where in each window the first maximum is, in a byte:
// a quarter of the output's size, instead of searching each window again for each of its pixels. Where windows don't overlap, a
// window's thread writes its pixels, in one pass. The global average is a mean over two axes (reduce.cu).
//
// Memory gives a thread's 20 bytes in some hundred instructions, so quotients are products (divide.cuh).
#include <algorithm>

#include "kernels/cuda/divide.cuh"
#include "kernels/cuda/lanes.cuh"
#include "kernels/pool.h"
#include "kernels/reduce.h"

namespace glia::GPU_NS {
namespace {

constexpr int pool_threads = 256;

using Axis = PoolAxisOf<int>;
using Geometry = PoolGeometryOf<int>;  // c counts groups of lanes

// The outputs or inputs of each image: a thread for each, which takes it of every image, or beyond 65535 images of some.
struct Elements {
  int images;
  uint32_t count;      // of an image
  Divider row, pixel;  // elements of a row, of a pixel
};

// A rectangle of rows and columns.
struct Rectangle {
  int row, row_end, column, column_end;
};

// use(load(row, column), row, column) for each place of the rectangle, row by row; `batch` loads precede the uses of them.
template <int batch, class Load, class Use>
__device__ void for_each_place(const Rectangle& r, const Load& load, const Use& use) {
  int row = r.row, column = r.column;
  for (int left = (r.row_end - r.row) * (r.column_end - r.column); left > 0; left -= batch) {
    decltype(load(0, 0)) values[batch];
    int rows[batch], columns[batch];
    GPU_UNROLL
    for (int i = 0; i < batch; ++i) {
      values[i] = load(row, column);
      rows[i] = row;
      columns[i] = column;
      if (i + 1 >= left) continue;  // the last place again: a load under a condition would wait for the use before it
      ++column;
      if (column == r.column_end) {
        column = r.column;
        ++row;
      }
    }
    GPU_UNROLL
    for (int i = 0; i < batch; ++i)
      if (i < left) use(values[i], rows[i], columns[i]);
  }
}

__device__ Rectangle window_of(const Geometry& g, int p, int q) {
  return {g.rows.begin(p), g.rows.end(p), g.columns.begin(q), g.columns.end(q)};
}

// The windows that hold a place of an axis: PoolAxisOf's first and last.
struct Strides {
  Divider row, column;
};
__device__ int first_window(const Axis& a, const Divider& stride, int i) {
  const int beyond = i + a.before - a.kernel + a.stride;
  return beyond > 0 ? int(stride.divide(uint32_t(beyond))) : 0;
}
__device__ int last_window(const Axis& a, const Divider& stride, int i) {
  return std::min(int(stride.divide(uint32_t(i + a.before))) + 1, a.out);
}
__device__ Rectangle windows_over(const Geometry& g, const Strides& s, int h, int w) {
  return {first_window(g.rows, s.row, h), last_window(g.rows, s.row, h), first_window(g.columns, s.column, w),
          last_window(g.columns, s.column, w)};
}

// Calls f(image, row, column, group of the pixel, offset in groups) for this thread's elements.
template <class F>
__device__ void for_each_element(const Elements& e, const F& f) {
  const uint32_t i = blockIdx.x * pool_threads + threadIdx.x;
  if (i >= e.count) return;
  uint32_t row = i, column = e.row.split(row);
  const uint32_t group = e.pixel.split(column);
  for (int image = int(blockIdx.y); image < e.images; image += int(gridDim.y))
    f(image, int(row), int(column), int(group), int64_t(image) * e.count + i);
}

__device__ int64_t input_place(const Geometry& g, int image, int h, int w, int c) {
  return ((int64_t(image) * g.rows.in + h) * g.columns.in + w) * g.c + c;
}
__device__ int64_t output_place(const Geometry& g, int image, int p, int q, int c) {
  return ((int64_t(image) * g.rows.out + p) * g.columns.out + q) * g.c + c;
}

// The first maximum of window (p, q) and where it is: row in the window times `pitch` plus column.
template <class Tap, int N>
__device__ void first_maximum(const Geometry& g, int pitch, const Lanes<float, N>* x, int n, int p, int q, int c,
                              Lanes<float, N>& best, Lanes<Tap, N>& at) {
  const Rectangle window = window_of(g, p, q);
  const int top = p * g.rows.stride - g.rows.before, left = q * g.columns.stride - g.columns.before;
  best = filled<N>(-INFINITY);
  GPU_UNROLL
  for (int l = 0; l < N; ++l) at.v[l] = Tap((window.row - top) * pitch + window.column - left);
  for_each_place<4>(
      window, [&](int h, int w) { return x[input_place(g, n, h, w, c)]; },
      [&](const Lanes<float, N>& value, int h, int w) {
        const int tap = (h - top) * pitch + w - left;
        GPU_UNROLL
        for (int l = 0; l < N; ++l) {
          const float v = value.v[l];
          if (!(v > best.v[l] || v != v)) continue;  // a NaN wins
          best.v[l] = v;
          at.v[l] = Tap(tap);
        }
      });
}

template <class Tap, int N>
__global__ void __launch_bounds__(pool_threads)
    max_pool_kernel(Geometry g, Elements e, const Lanes<float, N>* x, Lanes<float, N>* y, Lanes<Tap, N>* taps) {
  for_each_element(e, [&](int n, int p, int q, int c, int64_t i) {
    Lanes<float, N> best;
    Lanes<Tap, N> at;
    first_maximum(g, g.columns.kernel, x, n, p, q, c, best, at);
    if (y) y[i] = best;
    if (taps) taps[i] = at;
  });
}

// Where no two windows overlap: a thread for each window and the pixels up to the next one, and for such places without a window.
template <int N>
__global__ void __launch_bounds__(pool_threads)
    max_pool_cells_backward_kernel(Geometry g, Elements cells, const Lanes<float, N>* x, const Lanes<float, N>* dy,
                                   Lanes<float, N>* dx) {
  for_each_element(cells, [&](int n, int p, int q, int c, int64_t) {
    const int pitch = g.columns.stride;
    Lanes<float, N> best, share = filled<N>(0.0f);
    Lanes<int, N> at{};
    if (p < g.rows.out && q < g.columns.out) {
      share = dy[output_place(g, n, p, q, c)];
      first_maximum(g, pitch, x, n, p, q, c, best, at);
    }
    const int top = p * g.rows.stride - g.rows.before, left = q * pitch - g.columns.before;
    const int h_end = std::min(top + g.rows.stride, g.rows.in), w_end = std::min(left + pitch, g.columns.in);
    for (int h = std::max(top, 0); h < h_end; ++h) {
      for (int w = std::max(left, 0); w < w_end; ++w) {
        Lanes<float, N> value;
        GPU_UNROLL
        for (int l = 0; l < N; ++l) value.v[l] = at.v[l] == (h - top) * pitch + w - left ? share.v[l] : 0.0f;
        dx[input_place(g, n, h, w, c)] = value;
      }
    }
  });
}

template <class Tap, int N>
__global__ void __launch_bounds__(pool_threads, 4)
    max_pool_backward_kernel(Geometry g, Elements e, Strides strides, const Lanes<Tap, N>* taps, const Lanes<float, N>* dy,
                             Lanes<float, N>* dx) {
  struct Loaded {
    Lanes<Tap, N> tap;
    Lanes<float, N> dy;
  };
  for_each_element(e, [&](int n, int h, int w, int c, int64_t i) {
    Lanes<float, N> sum = filled<N>(0.0f);
    for_each_place<sizeof(Tap) == 1 ? 4 : 2>(
        windows_over(g, strides, h, w),
        [&](int p, int q) {
          const int64_t from = output_place(g, n, p, q, c);
          return Loaded{taps[from], dy[from]};
        },
        [&](const Loaded& window, int p, int q) {
          const int row = h - p * g.rows.stride + g.rows.before, column = w - q * g.columns.stride + g.columns.before;
          const int tap = row * g.columns.kernel + column;
          GPU_UNROLL
          for (int l = 0; l < N; ++l)
            if (int(window.tap.v[l]) == tap) sum.v[l] += window.dy.v[l];
        });
    dx[i] = sum;
  });
}

template <int N>
__global__ void __launch_bounds__(pool_threads)
    avg_pool_kernel(Geometry g, Elements e, bool include_pad, const Lanes<float, N>* x, Lanes<float, N>* y) {
  for_each_element(e, [&](int n, int p, int q, int c, int64_t i) {
    Lanes<float, N> sum = filled<N>(0.0f);
    for_each_place<4>(
        window_of(g, p, q), [&](int h, int w) { return x[input_place(g, n, h, w, c)]; },
        [&](const Lanes<float, N>& value, int, int) {
          GPU_UNROLL
          for (int l = 0; l < N; ++l) sum.v[l] += value.v[l];
        });
    const float share = 1.0f / float(avg_pool_count(include_pad, g, p, q));
    GPU_UNROLL
    for (int l = 0; l < N; ++l) sum.v[l] *= share;
    y[i] = sum;
  });
}

template <int batch, int N>
__global__ void __launch_bounds__(pool_threads)
    avg_pool_backward_kernel(Geometry g, Elements e, Strides strides, bool include_pad, const Lanes<float, N>* dy,
                             Lanes<float, N>* dx) {
  for_each_element(e, [&](int n, int h, int w, int c, int64_t i) {
    Lanes<float, N> sum = filled<N>(0.0f);
    for_each_place<batch>(
        windows_over(g, strides, h, w), [&](int p, int q) { return dy[output_place(g, n, p, q, c)]; },
        [&](const Lanes<float, N>& value, int p, int q) {
          const float share = 1.0f / float(avg_pool_count(include_pad, g, p, q));
          GPU_UNROLL
          for (int l = 0; l < N; ++l) sum.v[l] += value.v[l] * share;
        });
    dx[i] = sum;
  });
}

// ---- launchers ----------------------------------------------------------------------------------------------------------------

int narrow(const char* op, int64_t size) {
  GLIA_CHECK(size >= 0 && size < (int64_t{1} << 30), "{}: a size of {}, want less than 2^30 on devices", op, size);
  return int(size);
}

// How a pooling is launched: its sizes, its outputs and inputs.
struct Plan {
  Geometry g;
  Elements outputs, inputs;
  Strides strides;
};

Elements elements(const char* op, int64_t images, int64_t rows, int64_t columns, int64_t groups) {
  return {narrow(op, images), uint32_t(narrow(op, rows * columns * groups)), Divider(columns * groups), Divider(groups)};
}

// Of an x that is not empty, with pixels in groups of `lanes` channels.
template <class Op>
Plan plan(const Op& op, const Shape& x, int lanes) {
  const auto size = [](int64_t n) { return narrow(Op::forward.name, n); };
  const auto axis = [&](const PoolAxis& a) {
    return Axis{size(a.in), size(a.out), size(a.kernel), size(a.stride), size(a.before), size(a.after)};
  };
  const PoolGeometry g = pool_geometry(op, x);
  const int64_t groups = g.c / lanes;
  size(g.rows.kernel * g.columns.kernel);
  return {{size(g.n), size(groups), axis(g.rows), axis(g.columns)},
          elements(Op::forward.name, g.n, g.rows.out, g.columns.out, groups),
          elements(Op::forward.name, g.n, g.rows.in, g.columns.in, groups),
          {Divider(g.rows.stride), Divider(g.columns.stride)}};
}

dim3 grid(const Elements& e) { return {unsigned(divide_up(e.count, pool_threads)), unsigned(std::min(e.images, 65535))}; }

template <class Tap>
void max_pool_backward_as(const MaxPool2d& op, const Tensor& x, const Tensor& dy, const Tensor& dx) {
  const Tensor taps(dy.shape(), dtype_of<Tap>, x.device());
  with_float_lanes(
      x.dim(3),
      [&](auto lanes) {
        constexpr int N = lanes;
        const Plan p = plan(op, x.shape(), N);
        const auto none = static_cast<Lanes<float, N>*>(nullptr);
        launch({grid(p.outputs), pool_threads}, max_pool_kernel<Tap, N>, p.g, p.outputs, lanes_of<float, N>(x), none,
               lanes_of<Tap, N>(taps));
        launch({grid(p.inputs), pool_threads}, max_pool_backward_kernel<Tap, N>, p.g, p.inputs, p.strides, lanes_of<Tap, N>(taps),
               lanes_of<float, N>(dy), lanes_of<float, N>(dx));
      },
      x, dy, dx);
}

void max_pool_cells_backward(const MaxPool2d& op, const Tensor& x, const Tensor& dy, const Tensor& dx) {
  with_float_lanes(
      x.dim(3),
      [&](auto lanes) {
        constexpr int N = lanes;
        const Plan p = plan(op, x.shape(), N);
        const auto count = [](const Axis& a) { return divide_up(a.in + a.before, a.stride); };
        const Elements cells = elements("max_pool2d", p.g.n, count(p.g.rows), count(p.g.columns), p.g.c);
        launch({grid(cells), pool_threads}, max_pool_cells_backward_kernel<N>, p.g, cells, lanes_of<float, N>(x),
               lanes_of<float, N>(dy), lanes_of<float, N>(dx));
      },
      x, dy, dx);
}

template <class Op>
bool windows_overlap(const Op& op) {
  return op.kernel[0] > op.stride[0] || op.kernel[1] > op.stride[1];
}

template <int batch>
void avg_pool_backward_in_batches(const AvgPool2d& op, const Tensor& dy, const Tensor& dx) {
  with_float_lanes(
      dx.dim(3),
      [&](auto lanes) {
        constexpr int N = lanes;
        const Plan p = plan(op, dx.shape(), N);
        launch({grid(p.inputs), pool_threads}, avg_pool_backward_kernel<batch, N>, p.g, p.inputs, p.strides, op.count_include_pad,
               lanes_of<float, N>(dy), lanes_of<float, N>(dx));
      },
      dy, dx);
}

}  // namespace

void max_pool2d(const MaxPool2d& op, const Tensor& x, Tensor& y) {
  if (y.size() == 0) return;
  with_float_lanes(
      x.dim(3),
      [&](auto lanes) {
        constexpr int N = lanes;
        const Plan p = plan(op, x.shape(), N);
        const auto none = static_cast<Lanes<uint8_t, N>*>(nullptr);
        launch({grid(p.outputs), pool_threads}, max_pool_kernel<uint8_t, N>, p.g, p.outputs, lanes_of<float, N>(x),
               lanes_of<float, N>(y), none);
      },
      x, y);
}

void max_pool2d_backward(const MaxPool2d& op, const Tensor& x, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (!dx || dx->size() == 0) return;
  if (!windows_overlap(op)) {
    max_pool_cells_backward(op, x, dy, *dx);
  } else if (op.kernel[0] * op.kernel[1] <= 256) {
    max_pool_backward_as<uint8_t>(op, x, dy, *dx);
  } else {
    max_pool_backward_as<int32_t>(op, x, dy, *dx);
  }
}

void avg_pool2d(const AvgPool2d& op, const Tensor& x, Tensor& y) {
  if (y.size() == 0) return;
  with_float_lanes(
      x.dim(3),
      [&](auto lanes) {
        constexpr int N = lanes;
        const Plan p = plan(op, x.shape(), N);
        launch({grid(p.outputs), pool_threads}, avg_pool_kernel<N>, p.g, p.outputs, op.count_include_pad, lanes_of<float, N>(x),
               lanes_of<float, N>(y));
      },
      x, y);
}

void avg_pool2d_backward(const AvgPool2d& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (!dx || dx->size() == 0) return;
  windows_overlap(op) ? avg_pool_backward_in_batches<4>(op, dy, *dx) : avg_pool_backward_in_batches<1>(op, dy, *dx);
}

void global_avg_pool(const GlobalAvgPool&, const Tensor& x, Tensor& y) { mean(Mean{.axes = {1, 2}, .keepdim = true}, x, y); }
void global_avg_pool_backward(const GlobalAvgPool&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {
  mean_backward(Mean{.axes = {1, 2}, .keepdim = true}, x, y, dy, dx);
}

}  // namespace glia::GPU_NS
