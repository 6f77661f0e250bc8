// One thread a bin of a crop, one block a row of a pasted mask: both read little, mostly from caches, and write each value once.
#include "kernels/cuda/index.cuh"
#include "kernels/masks.h"
#include "kernels/paste_axis.h"

namespace glia::GPU_NS {
namespace {

using detail::MaskWindow;

// The samples of a bin along one axis that may meet the window: those further than a pixel from it see only zeros.
struct BinSamples {
  float from, bin, samples;  // of the bin: its start and length in pixels, how many samples
  int64_t begin, end;

  __device__ BinSamples(float low, float high, int64_t bins, int64_t i, int64_t origin, int64_t length) {
    const float start = low - .5f;
    bin = (high - .5f - start) / float(bins);
    samples = ceilf(bin);
    from = start + float(i) * bin;
    const float step = bin / samples;
    const float a = (float(origin - 1) - from) / step - 2, b = (float(origin + length) - from) / step + 2;
    begin = int64_t(fminf(fmaxf(a, 0), samples));
    end = int64_t(fminf(fmaxf(b, 0), samples));
  }
  __device__ float at(int64_t i) const { return from + (float(i) + .5f) * bin / samples; }
};

// Where a sample falls: pixel `low` of the window (it may be outside) and the one after it, the second with weight `share`.
struct SamplePlace {
  bool inside;
  int64_t low;
  float share;
  __device__ SamplePlace(float at, int64_t image, int64_t origin) {
    inside = at >= -1 && at <= float(image);
    at = fminf(fmaxf(at, 0), float(image - 1));
    const float below = floorf(at);
    low = int64_t(below) - origin;
    share = at - below;
  }
};

__device__ float pixel(const MaskWindow& w, const uint8_t* bits, int64_t row, int64_t column) {
  const bool inside = row >= 0 && row < w.height && column >= 0 && column < w.width;
  return inside ? float(bits[w.first + row * w.width + column]) : 0.0f;
}

__device__ bool usable(const float* box) {
  for (int i = 0; i < 4; ++i)
    if (!(fabsf(box[i]) < float(1 << 24))) return false;
  return box[2] > box[0] && box[3] > box[1];
}

__device__ float bin_mean(const MaskWindow& w, const uint8_t* bits, const float* box, int64_t size, int64_t i, int64_t j) {
  if (!usable(box) || w.height == 0 || w.width == 0) return 0;
  const BinSamples ys(box[1], box[3], size, i, w.y0, w.height), xs(box[0], box[2], size, j, w.x0, w.width);
  float sum = 0;
  for (int64_t a = ys.begin; a < ys.end; ++a) {
    const SamplePlace y(ys.at(a), w.image_height, w.y0);
    if (!y.inside) continue;
    for (int64_t b = xs.begin; b < xs.end; ++b) {
      const SamplePlace x(xs.at(b), w.image_width, w.x0);
      if (!x.inside) continue;
      const float above = (1 - x.share) * pixel(w, bits, y.low, x.low) + x.share * pixel(w, bits, y.low, x.low + 1);
      const float below = (1 - x.share) * pixel(w, bits, y.low + 1, x.low) + x.share * pixel(w, bits, y.low + 1, x.low + 1);
      sum += (1 - y.share) * above + y.share * below;
    }
  }
  return sum / fmaxf(ys.samples * xs.samples, 1);
}

__global__ void __launch_bounds__(index_threads)
    mask_crop_kernel(int64_t count, int64_t size, int64_t instances, int64_t pixels, const uint8_t* bits,
                     const MaskWindow* windows, const float* boxes, const int64_t* instance, float* soft) {
  const int64_t at = index_thread();
  if (at >= count) return;
  const int64_t r = at / (size * size), i = at / size % size, j = at % size;
  const MaskWindow w = windows[checked_index(instance[r], instances)];
  if (!w.valid(pixels)) refuse_index(w.first, pixels);
  soft[at] = bin_mean(w, bits, boxes + 4 * r, size, i, j);
}

struct Stretched {
  int64_t low;
  float share;
  bool reaches;
  __device__ Stretched(int64_t at, float low_end, float high_end, int64_t m) {
    const float length = high_end - low_end, place = paste_place(float(at), low_end, length, m);
    reaches = length > 0 && isfinite(length) && place > -1 && place < float(m);
    const float below = floorf(place);
    low = reaches ? int64_t(below) : 0;
    share = place - below;
  }
};

__global__ void __launch_bounds__(index_threads)
    paste_masks_kernel(int64_t m, int64_t height, int64_t width, const float* masks, const float* boxes, float* soft) {
  const int64_t n = int64_t(blockIdx.x) / height, row = int64_t(blockIdx.x) % height;
  const float* const box = boxes + 4 * n;
  const float* const map = masks + n * m * m;
  float* const to = soft + int64_t(blockIdx.x) * width;
  const Stretched y(row, box[1], box[3], m);
  for (int64_t column = threadIdx.x; column < width; column += index_threads) {
    const Stretched x(column, box[0], box[2], m);
    float value = 0;
    if (y.reaches && x.reaches) {
      const auto at = [&](int64_t v, int64_t u) { return v >= 0 && v < m && u >= 0 && u < m ? map[v * m + u] : 0.0f; };
      value = (1 - x.share) * ((1 - y.share) * at(y.low, x.low) + y.share * at(y.low + 1, x.low)) +
              x.share * ((1 - y.share) * at(y.low, x.low + 1) + y.share * at(y.low + 1, x.low + 1));
    }
    to[column] = value;
  }
}

}  // namespace

void mask_crop(const MaskCrop& op, const Tensor& bits, const Tensor& windows, const Tensor& boxes, const Tensor& instance,
               Tensor& soft) {
  const int64_t grid = index_grid(soft.size());
  launch({unsigned(grid), index_threads}, mask_crop_kernel, soft.size(), op.size, windows.dim(0), bits.size(),
         bits.device_data<uint8_t>(), reinterpret_cast<const MaskWindow*>(windows.device_data<int64_t>()),
         boxes.device_data<float>(), instance.device_data<int64_t>(), soft.device_data<float>());
}

void paste_masks(const PasteMasks& op, const Tensor& masks, const Tensor& boxes, Tensor& soft) {
  const int64_t rows = masks.dim(0) * op.height;
  GLIA_CHECK(rows <= INT32_MAX, "{} rows of masks, want fewer than 2^31 in one launch", rows);
  if (soft.size() == 0) return;
  launch({unsigned(rows), index_threads}, paste_masks_kernel, masks.dim(1), op.height, op.width, masks.device_data<float>(),
         boxes.device_data<float>(), soft.device_data<float>());
}

}  // namespace glia::GPU_NS
