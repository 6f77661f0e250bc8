// What both gradients of a convolution start from: dy behind the activation and the scale, and its sums over the pixels, which
// are the bias' gradient. One pass over dy (and y), bound by memory: a block takes a range of rows for a range of channels, four
// channels a thread where addresses allow; the blocks' partial sums are added in their order by a second kernel.
#include "kernels/cuda/conv_parts.cuh"

namespace glia::GPU_NS {
namespace {

constexpr int threads = 256;

template <int V>
struct alignas(4 * V) Values {
  float v[V];
};

// Pointers that may be null: y (no activation), scale, and those outputs that are not wanted. partial: (chunks, columns V).
struct OutputGradient {
  int64_t rows = 0, rows_of_chunk = 0;
  int columns = 0;  // vectors in a row
  const float* scale = nullptr;
  float* partial = nullptr;
};

template <int V>
__global__ void __launch_bounds__(threads)
    output_gradient_kernel(OutputGradient g, const float* __restrict__ dy, const float* __restrict__ y,
                           float* __restrict__ masked, float* __restrict__ scaled) {
  using Vector = Values<V>;
  GPU_SHARED(Vector, sums, [threads]);
  const int column = int(blockIdx.x * blockDim.x + threadIdx.x);
  const int64_t first = blockIdx.y * g.rows_of_chunk;
  const int64_t end = first + g.rows_of_chunk < g.rows ? first + g.rows_of_chunk : g.rows;
  Vector sum{}, factor{};
  if (column < g.columns) {
    if (scaled) factor = reinterpret_cast<const Vector*>(g.scale)[column];
    GLIA_UNROLL_4
    for (int64_t row = first + threadIdx.y; row < end; row += blockDim.y) {
      const int64_t at = row * g.columns + column;
      Vector d = reinterpret_cast<const Vector*>(dy)[at];
      if (y) {
        const Vector value = reinterpret_cast<const Vector*>(y)[at];
        GPU_UNROLL
        for (int i = 0; i < V; ++i) d.v[i] = value.v[i] > 0 ? d.v[i] : 0.0f;
      }
      GPU_UNROLL
      for (int i = 0; i < V; ++i) sum.v[i] += d.v[i];
      if (masked) reinterpret_cast<Vector*>(masked)[at] = d;
      GPU_UNROLL
      for (int i = 0; i < V; ++i) d.v[i] *= factor.v[i];
      if (scaled) reinterpret_cast<Vector*>(scaled)[at] = d;
    }
  }
  if (!g.partial) return;
  const unsigned at = threadIdx.y * blockDim.x + threadIdx.x;
  sums[at] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= g.columns) return;
  for (unsigned other = at + blockDim.x; other < unsigned(threads); other += blockDim.x)
    for (int i = 0; i < V; ++i) sum.v[i] += sums[other].v[i];
  reinterpret_cast<Vector*>(g.partial)[int64_t(blockIdx.y) * g.columns + column] = sum;
}

constexpr int sum_columns = 32, sum_threads = 256;

// A block sums 32 columns: each of its 8 warps every 8th row, then one warp the warps' sums.
__global__ void __launch_bounds__(sum_threads)
    sum_rows_kernel(const float* __restrict__ in, int64_t rows, int64_t columns, float* out) {
  GPU_SHARED(float, sums, [sum_threads / sum_columns][sum_columns]);
  const int64_t column = int64_t(blockIdx.x) * sum_columns + threadIdx.x;
  float sum = 0;
  if (column < columns) {
    GLIA_UNROLL_4
    for (int64_t row = threadIdx.y; row < rows; row += blockDim.y) sum += in[row * columns + column];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  for (unsigned i = 1; i < blockDim.y; ++i) sum += sums[i][threadIdx.x];
  out[column] = sum;
}

bool aligned(const float* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

template <int V>
void run_output_gradient(OutputGradient g, int64_t channels, const float* dy, const float* y, float* masked, float* scaled,
                         Tensor* dbias, Device device) {
  g.columns = int(channels / V);
  unsigned width = 1;  // threads along a row: a power of two
  while (width < 64 && int(width) < g.columns) width *= 2;
  const unsigned height = threads / width, blocks_x = unsigned(divide_up(g.columns, width));
  const int64_t wanted = divide_up(multiprocessors * 8, std::max(blocks_x, 1u));
  const int64_t chunks = std::clamp<int64_t>(g.rows / (height * 8), 1, wanted);
  g.rows_of_chunk = divide_up(g.rows, chunks);
  Tensor partial;
  if (dbias) partial = Tensor({chunks, channels}, DType::float32, device), g.partial = partial.device_data<float>();
  launch({dim3(blocks_x, unsigned(chunks)), dim3(width, height)}, output_gradient_kernel<V>, g, dy, y, masked, scaled);
  if (dbias) sum_rows(g.partial, chunks, channels, dbias->device_data<float>());
}

}  // namespace

void sum_rows(const float* in, int64_t rows, int64_t columns, float* out) {
  const unsigned blocks = unsigned(divide_up(columns, sum_columns));
  launch({blocks, dim3(sum_columns, sum_threads / sum_columns)}, sum_rows_kernel, in, rows, columns, out);
}

Tensor output_gradient(Activation activation, const Tensor& y, const Tensor& scale, const Tensor& dy, Tensor* dbias,
                       Tensor* dresidual) {
  const bool masks = activation == Activation::relu;
  OutputGradient g{.rows = dy.shape().product(0, 3), .scale = scale ? scale.device_data<float>() : nullptr};
  Tensor result = dy;
  float* masked = dresidual ? dresidual->device_data<float>() : nullptr;
  float* scaled = nullptr;
  if (scale) {
    result = Tensor(dy.shape(), DType::float32, dy.device());
    scaled = result.device_data<float>();
  } else if (masks) {
    result = dresidual ? *dresidual : Tensor(dy.shape(), DType::float32, dy.device());
    masked = result.device_data<float>();
  }
  if (!masked && !scaled && !dbias) return result;
  const float* const from = dy.device_data<float>();
  const float* const mask = masks ? y.device_data<float>() : nullptr;
  const bool vectors =
      dy.dim(3) % 4 == 0 && aligned(from) && aligned(mask) && aligned(g.scale) && aligned(masked) && aligned(scaled);
  (vectors ? run_output_gradient<4> : run_output_gradient<1>)(g, dy.dim(3), from, mask, masked, scaled, dbias, dy.device());
  return result;
}

}  // namespace glia::GPU_NS
