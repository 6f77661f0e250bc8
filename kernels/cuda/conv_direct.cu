// Convolutions by their definition, a thread for each element of the result: for every stride, pad, dilation and number of
// groups, and the choice where a group has so few channels that a matrix product would be mostly empty (depthwise). Neighbouring
// threads have neighbouring channels, so what they read is in a cache or in the same lines.
#include "kernels/cuda/conv_parts.cuh"

namespace glia::GPU_NS::direct_conv {
namespace {

constexpr int threads = 256;

struct Sizes {
  int h, w, c, k, r, s, p, q, stride_h, stride_w, before_h, before_w, dilation_h, dilation_w, c_group, k_group;
};

__global__ void __launch_bounds__(threads)
    direct_forward_kernel(Sizes g, ConvEpilogue e, int64_t count, const float* __restrict__ x, const float* __restrict__ filter,
                          float* y) {
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; at < count; at += stride) {
    const int64_t pixel = at / g.k;
    const int k = int(at - pixel * g.k), row = int(pixel) / g.q, q = int(pixel) - row * g.q, n = row / g.p, p = row - n * g.p;
    const float* image = x + int64_t(n) * g.h * g.w * g.c + k / g.k_group * g.c_group;
    const float* weights = filter + int64_t(k) * g.r * g.s * g.c_group;
    float sum = 0;
    for (int r = 0; r < g.r; ++r) {
      const int h = p * g.stride_h - g.before_h + r * g.dilation_h;
      if (h < 0 || h >= g.h) continue;
      for (int s = 0; s < g.s; ++s) {
        const int w = q * g.stride_w - g.before_w + s * g.dilation_w;
        if (w < 0 || w >= g.w) continue;
        const float* a = image + (int64_t(h) * g.w + w) * g.c;
        const float* b = weights + (r * g.s + s) * g.c_group;
        for (int c = 0; c < g.c_group; ++c) sum += a[c] * b[c];
      }
    }
    y[at] = finish(e, sum, k, at);
  }
}

// The result row that image row `at` meets through filter row `tap`, or -1.
__device__ int meeting(int at, int before, int tap, int dilation, int stride, int size) {
  const int reach = at + before - tap * dilation;
  return reach >= 0 && reach % stride == 0 && reach / stride < size ? reach / stride : -1;
}

__global__ void __launch_bounds__(threads)
    direct_data_kernel(Sizes g, ConvEpilogue e, int64_t count, const float* __restrict__ dy, const float* __restrict__ filter,
                       float* dx) {
  const int64_t stride = int64_t(gridDim.x) * blockDim.x;
  for (int64_t at = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; at < count; at += stride) {
    const int64_t pixel = at / g.c;
    const int c = int(at - pixel * g.c), row = int(pixel) / g.w, w = int(pixel) - row * g.w, n = row / g.h, h = row - n * g.h;
    const int group = c / g.c_group, first = group * g.k_group, filter_size = g.r * g.s * g.c_group;
    float sum = 0;
    for (int r = 0; r < g.r; ++r) {
      const int p = meeting(h, g.before_h, r, g.dilation_h, g.stride_h, g.p);
      if (p < 0) continue;
      for (int s = 0; s < g.s; ++s) {
        const int q = meeting(w, g.before_w, s, g.dilation_w, g.stride_w, g.q);
        if (q < 0) continue;
        const float* a = dy + (int64_t(n * g.p + p) * g.q + q) * g.k + first;
        const float* b = filter + int64_t(first) * filter_size + (r * g.s + s) * g.c_group + (c - group * g.c_group);
        for (int k = 0; k < g.k_group; ++k) sum += a[k] * b[int64_t(k) * filter_size];
      }
    }
    dx[at] = finish(e, sum, c, at);
  }
}

// Part blockIdx.y of the pixels, for all filter elements; the channels, then the filters are the fastest among neighbouring
// threads.
__global__ void __launch_bounds__(threads)
    direct_weight_kernel(Sizes g, int pixels, int pixels_of_part, const float* __restrict__ x, const float* __restrict__ dy,
                         float* dw) {
  const int64_t count = int64_t(g.k) * g.r * g.s * g.c_group, stride = int64_t(gridDim.x) * blockDim.x;
  const int begin = int(blockIdx.y) * pixels_of_part, end = min(begin + pixels_of_part, pixels);
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) {
    const int64_t filter = i / g.c_group, tap = filter / g.k;
    const int c = int(i - filter * g.c_group), k = int(filter - tap * g.k), r = int(tap / g.s), s = int(tap % g.s);
    const int dh = r * g.dilation_h - g.before_h, dv = s * g.dilation_w - g.before_w;
    const int channel = k / g.k_group * g.c_group + c;
    const int row = begin / g.q;
    int q = begin - row * g.q, n = row / g.p, p = row - n * g.p;
    float sum = 0;
    for (int pixel = begin; pixel < end; ++pixel) {
      const int h = p * g.stride_h + dh, w = q * g.stride_w + dv;
      if (h >= 0 && h < g.h && w >= 0 && w < g.w)
        sum += x[(int64_t(n * g.h + h) * g.w + w) * g.c + channel] * dy[int64_t(pixel) * g.k + k];
      if (++q == g.q) {
        q = 0;
        if (++p == g.p) p = 0, ++n;
      }
    }
    dw[blockIdx.y * count + (int64_t(k) * g.r * g.s + tap) * g.c_group + c] = sum;
  }
}

Sizes sizes(const ConvGeometry& g) {
  constexpr int64_t most = (int64_t{1} << 31) - 65536;
  GLIA_CHECK(g.n * g.h * g.w < most && g.n * g.p * g.q < most,
             "convolution: {} images of {} x {} pixels are too many for one launch", g.n, g.h, g.w);
  return {int(g.h),           int(g.w),           int(g.c),         int(g.k),         int(g.r),         int(g.s),
          int(g.p),           int(g.q),           int(g.stride[0]), int(g.stride[1]), int(g.before[0]), int(g.before[1]),
          int(g.dilation[0]), int(g.dilation[1]), int(g.c_group()), int(g.k_group())};
}

unsigned blocks(int64_t count) { return unsigned(std::min<int64_t>(divide_up(count, threads), multiprocessors * 64)); }

}  // namespace

bool applicable(const ConvGeometry&, ConvPass) { return true; }

void forward(const ConvGeometry& g, const Tensor& x, const Tensor& w, const ConvEpilogue& e, const Tensor& y) {
  launch({blocks(y.size()), threads}, direct_forward_kernel, sizes(g), e, y.size(), x.device_data<float>(),
         w.device_data<float>(), y.device_data<float>());
}

void data_gradient(const ConvGeometry& g, const Tensor& dy, const Tensor& w, const ConvEpilogue& e, const Tensor& dx) {
  launch({blocks(dx.size()), threads}, direct_data_kernel, sizes(g), e, dx.size(), dy.device_data<float>(),
         w.device_data<float>(), dx.device_data<float>());
}

// Each part of the pixels is summed by itself, then the parts in their order.
void weight_gradient(const ConvGeometry& g, const Tensor& x, const Tensor& dy, const Tensor& dw) {
  const int64_t pixels = g.n * g.p * g.q, count = dw.size();
  if (count == 0) return;
  const int64_t wanted = divide_up(multiprocessors * 2048, divide_up(count, threads) * threads);
  const int64_t parts = std::clamp<int64_t>(pixels / 64, 1, std::min<int64_t>(wanted, 65535));
  Tensor partial;
  if (parts > 1) partial = Tensor({parts, count}, DType::float32, dw.device());
  float* const to = (parts > 1 ? partial : dw).device_data<float>();
  launch({dim3(blocks(count), unsigned(parts)), threads}, direct_weight_kernel, sizes(g), int(pixels),
         int(divide_up(pixels, parts)), x.device_data<float>(), dy.device_data<float>(), to);
  if (parts > 1) sum_rows(to, parts, count, dw.device_data<float>());
}

}  // namespace glia::GPU_NS::direct_conv
