// Pooling of NHWC images, a thread for each four channels of a pixel (one where channels or addresses don't allow that), bound by
// memory. Forward reads a window's pixels in batches of four, so that enough loads are in flight; what windows share comes from the
// caches.
//
// The backward passes are gathers: a pixel's thread adds what the windows that hold it give, in row-major order, so no two threads
// write one address and the sum's order is fixed. Max pooling first stores where in each window the first maximum is, in a byte:
// a quarter of the output's size, instead of searching each window again for each of its pixels.
// The global average is a mean over two axes (reduce.cu).
#include "kernels/cuda/lanes.cuh"
#include "kernels/pool.h"
#include "kernels/reduce.h"

namespace glia::GPU_NS {
namespace {

constexpr int pool_threads = 256;

using Axis = PoolAxisOf<int>;
using Geometry = PoolGeometryOf<int>;  // c counts lanes' groups

// A rectangle of rows and columns.
struct Rectangle {
  int row, row_end, column, column_end;
};

// use(load(row, column), row, column) for each place of the rectangle, row by row; four loads precede the uses of them.
template <class Load, class Use>
__device__ void for_each_place(const Rectangle& r, const Load& load, const Use& use) {
  constexpr int batch = 4;
  int row = r.row, column = r.column;
  for (int left = (r.row_end - r.row) * (r.column_end - r.column); left > 0; left -= batch) {
    decltype(load(0, 0)) values[batch] = {};
    int rows[batch], columns[batch];
    GPU_UNROLL
    for (int i = 0; i < batch; ++i) {
      if (i < left) values[i] = load(row, column);
      rows[i] = row;
      columns[i] = column;
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
__device__ Rectangle windows_over(const Geometry& g, int h, int w) {
  return {g.rows.first(h), g.rows.last(h), g.columns.first(w), g.columns.last(w)};
}

// Calls f(image, row, column, channel group, offset in groups) for each element of N images of rows x columns x c, this thread's ones.
template <class F>
__device__ void for_each_element(int n, int rows, int columns, int c, const F& f) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x, row_size = unsigned(columns) * unsigned(c);
  const unsigned count = unsigned(rows) * row_size;
  if (i >= count) return;
  const unsigned row = i / row_size, in_row = i - row * row_size, column = in_row / unsigned(c);
  for (int image = int(blockIdx.y); image < n; image += int(gridDim.y))
    f(image, int(row), int(column), int(in_row - column * unsigned(c)), int64_t(image) * count + i);
}

__device__ int64_t input_place(const Geometry& g, int image, int h, int w, int c) {
  return ((int64_t(image) * g.rows.in + h) * g.columns.in + w) * g.c + c;
}
__device__ int64_t output_place(const Geometry& g, int image, int p, int q, int c) {
  return ((int64_t(image) * g.rows.out + p) * g.columns.out + q) * g.c + c;
}

template <class Tap, int N>
__global__ void __launch_bounds__(pool_threads)
    max_pool_kernel(Geometry g, const Lanes<float, N>* x, Lanes<float, N>* y, Lanes<Tap, N>* taps) {
  for_each_element(g.n, g.rows.out, g.columns.out, g.c, [&](int n, int p, int q, int c, int64_t i) {
    const Rectangle window = window_of(g, p, q);
    const int top = p * g.rows.stride - g.rows.before, left = q * g.columns.stride - g.columns.before;
    Lanes<float, N> best = filled<N>(-INFINITY);
    Lanes<Tap, N> at;
    GPU_UNROLL
    for (int l = 0; l < N; ++l) at.v[l] = Tap((window.row - top) * g.columns.kernel + window.column - left);
    for_each_place(
        window, [&](int h, int w) { return x[input_place(g, n, h, w, c)]; },
        [&](const Lanes<float, N>& value, int h, int w) {
          const int tap = (h - top) * g.columns.kernel + w - left;
          GPU_UNROLL
          for (int l = 0; l < N; ++l) {
            const float v = value.v[l];
            if (!(v > best.v[l] || v != v)) continue;  // a NaN wins
            best.v[l] = v;
            at.v[l] = Tap(tap);
          }
        });
    if (y) y[i] = best;
    if (taps) taps[i] = at;
  });
}

template <class Tap, int N>
__global__ void __launch_bounds__(pool_threads)
    max_pool_backward_kernel(Geometry g, const Lanes<Tap, N>* taps, const Lanes<float, N>* dy, Lanes<float, N>* dx) {
  struct Loaded {
    Lanes<Tap, N> tap;
    Lanes<float, N> dy;
  };
  for_each_element(g.n, g.rows.in, g.columns.in, g.c, [&](int n, int h, int w, int c, int64_t i) {
    Lanes<float, N> sum = filled<N>(0.0f);
    for_each_place(
        windows_over(g, h, w),
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
    avg_pool_kernel(Geometry g, bool include_pad, const Lanes<float, N>* x, Lanes<float, N>* y) {
  for_each_element(g.n, g.rows.out, g.columns.out, g.c, [&](int n, int p, int q, int c, int64_t i) {
    Lanes<float, N> sum = filled<N>(0.0f);
    for_each_place(
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

template <int N>
__global__ void __launch_bounds__(pool_threads)
    avg_pool_backward_kernel(Geometry g, bool include_pad, const Lanes<float, N>* dy, Lanes<float, N>* dx) {
  for_each_element(g.n, g.rows.in, g.columns.in, g.c, [&](int n, int h, int w, int c, int64_t i) {
    Lanes<float, N> sum = filled<N>(0.0f);
    for_each_place(
        windows_over(g, h, w), [&](int p, int q) { return dy[output_place(g, n, p, q, c)]; },
        [&](const Lanes<float, N>& value, int p, int q) {
          const float share = 1.0f / float(avg_pool_count(include_pad, g, p, q));
          GPU_UNROLL
          for (int l = 0; l < N; ++l) sum.v[l] += value.v[l] * share;
        });
    dx[i] = sum;
  });
}

// ---- launchers ----------------------------------------------------------------------------------------------------------------

// A thread for each of an image's `elements`, which it takes of every image or, beyond 65535, of some.
dim3 image_grid(int64_t images, int64_t elements) {
  return {unsigned(divide_up(elements, pool_threads)), unsigned(std::min<int64_t>(images, 65535))};
}

int narrow(const char* op, int64_t size) {
  GLIA_CHECK(size >= 0 && size < (int64_t{1} << 30), "{}: a size of {}, want less than 2^30 on devices", op, size);
  return int(size);
}

template <class Op>
Geometry device_geometry(const Op& op, const Shape& x, int lanes) {
  const PoolGeometry g = pool_geometry(op, x);
  const auto axis = [](const PoolAxis& a) {
    const auto size = [](int64_t n) { return narrow(Op::forward.name, n); };
    return Axis{size(a.in), size(a.out), size(a.kernel), size(a.stride), size(a.before), size(a.after)};
  };
  narrow(Op::forward.name, std::max(g.rows.in * g.columns.in, g.rows.out * g.columns.out) * std::max<int64_t>(g.c, 1));
  narrow(Op::forward.name, g.rows.kernel * g.columns.kernel);
  return {narrow(Op::forward.name, g.n), int(g.c) / lanes, axis(g.rows), axis(g.columns)};
}

dim3 output_grid(const Geometry& g) { return image_grid(g.n, int64_t(g.rows.out) * g.columns.out * g.c); }
dim3 input_grid(const Geometry& g) { return image_grid(g.n, int64_t(g.rows.in) * g.columns.in * g.c); }

template <class Tap>
void max_pool_backward_as(const MaxPool2d& op, const Tensor& x, const Tensor& dy, const Tensor& dx) {
  const Tensor taps(dy.shape(), dtype_of<Tap>, x.device());
  with_float_lanes(
      x.dim(3),
      [&](auto lanes) {
        constexpr int N = lanes;
        const Geometry g = device_geometry(op, x.shape(), N);
        const auto none = static_cast<Lanes<float, N>*>(nullptr);
        launch({output_grid(g), pool_threads}, max_pool_kernel<Tap, N>, g, lanes_of<float, N>(x), none, lanes_of<Tap, N>(taps));
        launch({input_grid(g), pool_threads}, max_pool_backward_kernel<Tap, N>, g, lanes_of<Tap, N>(taps), lanes_of<float, N>(dy),
               lanes_of<float, N>(dx));
      },
      x, dy, dx);
}

}  // namespace

void max_pool2d(const MaxPool2d& op, const Tensor& x, Tensor& y) {
  with_float_lanes(
      x.dim(3),
      [&](auto lanes) {
        constexpr int N = lanes;
        const Geometry g = device_geometry(op, x.shape(), N);
        const auto none = static_cast<Lanes<uint8_t, N>*>(nullptr);
        launch({output_grid(g), pool_threads}, max_pool_kernel<uint8_t, N>, g, lanes_of<float, N>(x), lanes_of<float, N>(y),
               none);
      },
      x, y);
}

void max_pool2d_backward(const MaxPool2d& op, const Tensor& x, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (!dx) return;
  if (op.kernel[0] * op.kernel[1] <= 256) {
    max_pool_backward_as<uint8_t>(op, x, dy, *dx);
  } else {
    max_pool_backward_as<int32_t>(op, x, dy, *dx);
  }
}

void avg_pool2d(const AvgPool2d& op, const Tensor& x, Tensor& y) {
  with_float_lanes(
      x.dim(3),
      [&](auto lanes) {
        constexpr int N = lanes;
        const Geometry g = device_geometry(op, x.shape(), N);
        launch({output_grid(g), pool_threads}, avg_pool_kernel<N>, g, op.count_include_pad, lanes_of<float, N>(x),
               lanes_of<float, N>(y));
      },
      x, y);
}

void avg_pool2d_backward(const AvgPool2d& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (!dx) return;
  with_float_lanes(
      dx->dim(3),
      [&](auto lanes) {
        constexpr int N = lanes;
        const Geometry g = device_geometry(op, dx->shape(), N);
        launch({input_grid(g), pool_threads}, avg_pool_backward_kernel<N>, g, op.count_include_pad, lanes_of<float, N>(dy),
               lanes_of<float, N>(*dx));
      },
      dy, *dx);
}

void global_avg_pool(const GlobalAvgPool&, const Tensor& x, Tensor& y) { mean(Mean{.axes = {1, 2}, .keepdim = true}, x, y); }
void global_avg_pool_backward(const GlobalAvgPool&, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx) {
  mean_backward(Mean{.axes = {1, 2}, .keepdim = true}, x, y, dy, dx);
}

}  // namespace glia::GPU_NS
