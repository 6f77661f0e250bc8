// Resampling, y = R x K, and its gradient, which gathers too: each input from the outputs it went to. One block per axis first
// writes the sparse matrices of taps as tables, in double; then a thread makes four channels of a pixel. Blocks are four lines of
// the output high, so that the input's lines that they share come from the first-level cache: bound by memory.
#include <bit>

#include "kernels/cuda/divide.cuh"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/resize.h"

namespace glia::GPU_NS {

constexpr int resize_threads = 256;

// One axis on the device.
struct Taps {
  int2* span;     // of each output: its first input, and how many
  float* weight;  // [output][stride]
  int stride;
  int2* origin;  // of each input: the first output made of it, and how many; null if not wanted
};

struct Matrices {
  ResizeAxis axis[2];  // rows, columns
  Taps taps[2];
};

// The first output of which `beyond` is true; it is of all that follow.
template <class F>
__device__ int first_output(int outputs, const F& beyond) {
  int low = 0, high = outputs;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (beyond(middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

__global__ void __launch_bounds__(resize_threads) taps_kernel(Matrices m) {
  const ResizeAxis axis = blockIdx.x == 0 ? m.axis[0] : m.axis[1];
  const Taps taps = blockIdx.x == 0 ? m.taps[0] : m.taps[1];
  const int outputs = int(axis.out), inputs = int(axis.in);
  for (int o = int(threadIdx.x); o < outputs; o += resize_threads) {
    const ResizeAxis::Span span = axis.span(o);
    taps.span[o] = make_int2(int(span.first), int(span.count));
    for (int k = 0; k < span.count; ++k) taps.weight[int64_t(o) * taps.stride + k] = float(axis.weight(span, k));
  }
  __syncthreads();
  if (!taps.origin) return;
  for (int i = int(threadIdx.x); i < inputs; i += resize_threads) {
    const int begin = first_output(outputs, [&](int o) { return taps.span[o].x + taps.span[o].y > i; });
    const int end = first_output(outputs, [&](int o) { return taps.span[o].x > i; });
    taps.origin[i] = make_int2(begin, end - begin);
  }
}

// What is written: `lines` of `packs`; what is read: images of rows times columns. Sizes in floats but where packs are named.
struct Pixels {
  uint32_t lines, packs;
  Divider lines_of_image, packs_of_pixel, blocks_across;
  int64_t image, row, pixel;  // of what is read
};

// Weight of the k-th source of element `at`.
template <bool backward>
__device__ float weight_of(const Taps& taps, int first, int k, int at) {
  if constexpr (backward) {
    const int o = first + k;
    return taps.weight[int64_t(o) * taps.stride + at - taps.span[o].x];
  } else {
    return taps.weight[int64_t(at) * taps.stride + k];
  }
}

// `batch` pixels of a row are under way together.
template <int width, int batch, bool backward>
__global__ void __launch_bounds__(resize_threads)
    resample_kernel(Pixels g, Taps rows, Taps columns, const float* __restrict__ from, float* __restrict__ to) {
  uint32_t image = blockIdx.x;
  const uint32_t pack = g.blocks_across.split(image) * blockDim.x + threadIdx.x, line = image * blockDim.y + threadIdx.y;
  if (pack >= g.packs || line >= g.lines) return;
  uint32_t pixel = pack;
  const uint32_t channel = g.packs_of_pixel.split(pixel);
  image = line;
  const int p = int(g.lines_of_image.split(image)), q = int(pixel);
  const int2 of_rows = backward ? rows.origin[p] : rows.span[p], of_columns = backward ? columns.origin[q] : columns.span[q];
  from += image * g.image + channel * width;
  Pack<width> sum = {};
  for (int i = 0; i < of_rows.y; ++i) {
    const float* row = from + (of_rows.x + i) * g.row;
    Pack<width> in_row = {};
    for (int first = 0; first < of_columns.y; first += batch) {
      Pack<width> v[batch];
      float weight[batch];
      GPU_UNROLL
      for (int b = 0; b < batch; ++b) {
        const int k = min(first + b, of_columns.y - 1);
        v[b] = load_pack<width>(row + (of_columns.x + k) * g.pixel);
        weight[b] = weight_of<backward>(columns, of_columns.x, k, q);
      }
      GPU_UNROLL
      for (int b = 0; b < batch; ++b) {
        if (first + b >= of_columns.y) continue;
        GPU_UNROLL
        for (int j = 0; j < width; ++j) in_row.at[j] += weight[b] * v[b].at[j];
      }
    }
    const float weight = weight_of<backward>(rows, of_rows.x, i, p);
    GPU_UNROLL
    for (int j = 0; j < width; ++j) sum.at[j] += weight * in_row.at[j];
  }
  store_pack(to + (int64_t(line) * g.packs + pack) * width, sum);
}

// ---- launchers ---------------------------------------------------------------------------------------------------------------

// Taps of both axes, filled by a launch.
class TapTables {
 public:
  TapTables(const Resize& op, const Shape& x, Device device, bool backward) {
    Matrices m;
    for (int i = 0; i < 2; ++i) {
      const ResizeAxis axis(op, i, x[i + 1]);
      const int64_t in = count31(axis.in), out = count31(axis.out);
      const int stride = int(axis.most_taps());
      spans_[i] = Tensor({out + (backward ? in : 0), 2}, DType::int32, device);
      weights_[i] = Tensor({out, stride}, DType::float32, device);
      auto* span = reinterpret_cast<int2*>(spans_[i].device_data<int32_t>());
      m.axis[i] = axis;
      m.taps[i] = taps_[i] = {span, weights_[i].device_data<float>(), stride, backward ? span + out : nullptr};
    }
    launch({2, resize_threads}, taps_kernel, m);
  }
  const Taps& rows() const { return taps_[0]; }
  const Taps& columns() const { return taps_[1]; }

 private:
  Tensor spans_[2], weights_[2];
  Taps taps_[2];
};

template <int width, bool backward>
void resample(const Resize& op, const TapTables& taps, const Tensor& from, const Tensor& to) {
  const int64_t c = to.dim(3);
  Pixels g;
  g.lines = count31(to.dim(0) * to.dim(1));
  g.packs = count31(to.dim(2) * c / width);
  const unsigned across = std::min(64u, std::bit_ceil(g.packs)), lines = resize_threads / across;
  g.lines_of_image = Divider(to.dim(1));
  g.packs_of_pixel = Divider(c / width);
  g.blocks_across = Divider(divide_up(g.packs, across));
  g.pixel = c;
  g.row = from.dim(2) * g.pixel;
  g.image = from.dim(1) * g.row;
  const bool linear = op.mode == ResizeMode::bilinear;
  constexpr int fewest = backward ? 2 : 1;
  const auto kernel = !linear                    ? resample_kernel<width, fewest, backward>
                      : backward || op.antialias ? resample_kernel<width, 4, backward>
                                                 : resample_kernel<width, 2, backward>;
  const uint32_t blocks = count31(g.blocks_across.divisor() * divide_up(g.lines, lines));
  launch({blocks, dim3(across, lines)}, kernel, g, taps.rows(), taps.columns(), from.device_data<const float>(),
         to.device_data<float>());
}

template <bool backward>
void resample(const Resize& op, const Shape& x, const Tensor& from, const Tensor& to) {
  if (to.size() == 0) return;
  const TapTables taps(op, x, to.device(), backward);
  const bool packs = to.dim(3) % 4 == 0 && aligned16(from.raw()) && aligned16(to.raw());
  packs ? resample<4, backward>(op, taps, from, to) : resample<1, backward>(op, taps, from, to);
}

void resize(const Resize& op, const Tensor& x, Tensor& y) { resample<false>(op, x.shape(), x, y); }
void resize_backward(const Resize& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (dx) resample<true>(op, dx->shape(), dy, *dx);
}

}  // namespace glia::GPU_NS
