// A convolution's passes as the products of conv_parts.cuh: operands brought into the form that the kernels copy 16 bytes at a
// time (copied only where the channels of a group are no multiple of 4, or an address is none of 16), and filters turned round
// for the data gradient.
#include "gpu/runtime.h"
#include "kernels/cuda/conv_parts.cuh"

namespace glia::GPU_NS {
namespace {

constexpr int threads = 256;

// out (rows, groups, padded) from in (rows, groups, channels), zeros behind.
__global__ void __launch_bounds__(threads)
    pad_channels_kernel(int64_t count, int channels, int padded, const float* __restrict__ in, float* out) {
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    const int64_t row = i / padded;
    const int c = int(i - row * padded);
    out[i] = c < channels ? in[row * channels + c] : 0.0f;
  }
}

constexpr int side = 32;

// For each class of the data gradient: out (groups, classes, c, taps of the class, k padded) from w (groups, k, r, s, c). A block
// turns 32 filters x 32 channels of one tap through shared memory, so that both sides are read and written in lines.
__global__ void __launch_bounds__(side * 8) turn_filter_kernel(const TapProduct p, const ConvGeometry g, int k_group, int c_group,
                                                               const float* __restrict__ w, float* __restrict__ out) {
  GPU_SHARED(float, tile, [side][side + 1]);
  const int taps = int(g.r * g.s), tap = int(blockIdx.z) % taps, group = int(blockIdx.z) / taps;
  const int r = tap / int(g.s), s = tap % int(g.s), c0 = int(blockIdx.x) * side, k0 = int(blockIdx.y) * side;
  // The class whose pixels this tap meets: phase + before = r dilation, up to multiples of the stride.
  const auto phase = [](int reach, int stride) { return (reach % stride + stride) % stride; };
  const int i = phase(r * int(g.dilation[0]) - int(g.before[0]), int(g.stride[0]));
  const int j = phase(s * int(g.dilation[1]) - int(g.before[1]), int(g.stride[1]));
  int of = 0;
  while (p.grids[of].phase_h != i || p.grids[of].phase_w != j) ++of;
  const TapGrid& grid = p.grids[of];
  const int place =
      (r - grid.rows.filter) / grid.rows.filter_step * grid.columns.count + (s - grid.columns.filter) / grid.columns.filter_step;

  for (int y = int(threadIdx.y); y < side; y += 8) {
    const int k = k0 + y, c = c0 + int(threadIdx.x);
    const bool inside = k < k_group && c < c_group;
    tile[y][threadIdx.x] = inside ? w[(int64_t(group * k_group + k) * taps + tap) * c_group + c] : 0.0f;
  }
  __syncthreads();
  float* const to = out + int64_t(group) * p.b_group + int64_t(grid.filter_at) * c_group * p.inner;
  for (int y = int(threadIdx.y); y < side; y += 8) {
    const int c = c0 + y, k = k0 + int(threadIdx.x);
    if (c < c_group && k < p.inner) to[(int64_t(c) * grid.taps() + place) * p.inner + k] = tile[threadIdx.x][y];
  }
}

bool aligned(const float* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// A tensor whose groups have a multiple of 4 channels, at an address that is a multiple of 16.
struct Chunked {
  Tensor storage;
  const float* data = nullptr;
  int channels = 0;
};

Chunked chunked(const Tensor& t, int64_t channels) {
  const float* const data = t.device_data<float>();
  const int64_t padded = divide_up(channels, 4) * 4;
  if (channels == padded && aligned(data)) return {t, data, int(channels)};
  const Tensor copy({channels ? t.size() / channels * padded : 0}, DType::float32, t.device());
  const int64_t blocks = std::min<int64_t>(divide_up(copy.size(), threads), multiprocessors * 64);
  launch({unsigned(blocks), threads}, pad_channels_kernel, copy.size(), int(channels), int(padded), data,
         copy.device_data<float>());
  return {copy, copy.device_data<float>(), int(padded)};
}

// A matrix product of all pixels: they are one row then.
ConvGeometry flattened(ConvGeometry g) {
  const bool pointwise = g.r == 1 && g.s == 1 && g.stride == std::array<int64_t, 2>{1, 1} && g.p == g.h && g.q == g.w &&
                         g.before == std::array<int64_t, 2>{};
  if (pointwise) g.w = g.q = g.n * g.h * g.w, g.n = g.h = g.p = 1;
  return g;
}

void set_result(TapProduct& p, const ConvEpilogue& e, const Tensor& d, int64_t channels) {
  p.epilogue = e;
  p.d = d.device_data<float>();
  p.vectors = channels % 4 == 0 && aligned(p.d);
  p.channels = int(channels);
}

// Filters as large as the stride and side by side: every pixel of the image meets one result pixel through one tap.
bool is_pixel_shuffle(const ConvGeometry& g) {
  return g.r == g.stride[0] && g.s == g.stride[1] && g.h == g.p * g.r && g.w == g.q * g.s && g.r * g.s > 1 &&
         g.dilation == std::array<int64_t, 2>{1, 1} && g.before == std::array<int64_t, 2>{};
}

}  // namespace

size_t shared_limit(Device device) {
  static const size_t bytes = [&] {  // of the process's one device
    gpu::Properties properties;
    check(runtime_of(device).properties(device.index, properties), device);
    return properties.shared_per_block;
  }();
  return bytes;
}

// Sizes that 32-bit indices reach even for padded channels, taps that the masks hold; and groups that fill some of a tile.
bool products_apply(const ConvGeometry& g) {
  constexpr int64_t most = int64_t{1} << 31;
  const auto padded = [&](int64_t channels) { return g.groups * divide_up(channels, 4) * 4; };
  const int64_t classes = g.stride[0] * g.stride[1], c = padded(g.c_group()), k = padded(g.k_group());
  return g.n * g.h * g.w * c < most && g.n * g.p * g.q * k < most &&
         std::max(g.k, k) * g.r * g.s * std::max(g.c, c) / g.groups < most && g.r <= most_taps && g.s <= most_taps &&
         classes <= most_classes && g.groups * std::max(g.r * g.s, classes) <= 65535 &&
         (g.groups == 1 || (g.c_group() >= 4 && g.k_group() >= 4));
}

void product_forward(const Products& by, const ConvGeometry& geometry, const Tensor& x, const Tensor& w, const ConvEpilogue& e,
                     const Tensor& y) {
  const ConvGeometry g = flattened(geometry);
  const Chunked image = chunked(x, g.c_group()), filter = chunked(w, g.c_group());
  TapProduct p{.a = image.data,
               .b = filter.data,
               .images = int(g.n),
               .h = int(g.h),
               .w = int(g.w),
               .inner = image.channels,
               .groups = int(g.groups),
               .step_h = int(g.stride[0]),
               .step_w = int(g.stride[1]),
               .columns = int(g.k_group()),
               .b_group = int(g.k_group() * g.r * g.s) * image.channels,
               .out_h = int(g.p),
               .out_w = int(g.q)};
  p.grids[0] = forward_grid(g);
  set_result(p, e, y, g.k_group());
  by.taps(p, y.device());
}

void product_data_gradient(const Products& by, const ConvGeometry& geometry, const Tensor& dy, const Tensor& w,
                           const ConvEpilogue& e, const Tensor& dx) {
  const ConvGeometry g = flattened(geometry);
  const Chunked result = chunked(dy, g.k_group());
  TapProduct p{.a = result.data,
               .images = int(g.n),
               .h = int(g.p),
               .w = int(g.q),
               .inner = result.channels,
               .groups = int(g.groups),
               .columns = int(g.c_group()),
               .b_group = int(g.c_group() * g.r * g.s) * result.channels,
               .out_h = int(g.h),
               .out_w = int(g.w),
               .out_step_h = int(g.stride[0]),
               .out_step_w = int(g.stride[1])};
  set_result(p, e, dx, g.c_group());
  const std::vector<TapGrid> grids = gradient_grids(g);
  p.classes = int(grids.size());
  std::copy(grids.begin(), grids.end(), p.grids);

  const Tensor filter({g.groups * p.b_group}, DType::float32, w.device());
  p.b = filter.device_data<float>();
  const dim3 blocks(unsigned(divide_up(g.c_group(), side)), unsigned(divide_up(p.inner, side)), unsigned(g.r * g.s * g.groups));
  launch({blocks, dim3(side, 8)}, turn_filter_kernel, p, g, int(g.k_group()), int(g.c_group()), w.device_data<float>(),
         filter.device_data<float>());
  if (is_pixel_shuffle(g)) {  // the classes, all of one tap and in the order of their phases, become columns of one product
    p.columns *= p.classes;
    p.classes = 1;
  }
  by.taps(p, dx.device());
}

void product_weight_gradient(const Products& by, const ConvGeometry& geometry, const Tensor& x, const Tensor& dy,
                             const Tensor& dw) {
  const ConvGeometry g = flattened(geometry);
  const Chunked image = chunked(x, g.c_group()), result = chunked(dy, g.k_group());
  by.pixels({.x = image.data,
             .dy = result.data,
             .h = int(g.h),
             .w = int(g.w),
             .inner = image.channels,
             .rows_padded = result.channels,
             .groups = int(g.groups),
             .pixels = int(g.n * g.p * g.q),
             .order = {g.p, g.q},
             .down = forward_taps(g, 0),
             .across = forward_taps(g, 1),
             .step_h = int(g.stride[0]),
             .step_w = int(g.stride[1]),
             .rows = int(g.k_group()),
             .channels = int(g.c_group())},
            dw);
}

}  // namespace glia::GPU_NS
