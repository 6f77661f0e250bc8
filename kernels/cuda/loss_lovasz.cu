// Lovasz hinge loss (Berman 2018, algorithm 1): the errors of a region in descending order, each times the step that it makes in
// the Jaccard loss. With P positives, of which n and m negatives come before an element, the loss is 1 - (P - n) / (P + m), so
//   a positive makes the step 1 / (P + m), a negative (P - n) / ((P + m) (P + m + 1)), or 1 if it is the first and P is 0:
// no difference of nearly equal numbers. A sorting key holds the error's bits, the pixel's place and its target, so after the
// sort nothing is gathered: one pass counts the positives of each tile, a scan adds them up, one pass takes the steps and
// scatters the gradient. The sort (four rounds over the keys) is the cost.
#include "kernels/cuda/loss.cuh"
#include "kernels/cuda/scan.cuh"
#include "kernels/cuda/sort_radix.cuh"
#include "kernels/loss_region.h"

namespace glia::GPU_NS {
namespace {

constexpr int lovasz_threads = 256, lovasz_keys = 4;  // a thread's, neighbours
constexpr int lovasz_tile = lovasz_threads * lovasz_keys;

// Regions of `size` pixels, each in `tiles` tiles; block b works on tile b % tiles of region b / tiles.
struct LovaszRegions {
  int64_t count, size;
  unsigned tiles;
  __device__ int64_t region() const { return blockIdx.x / tiles; }
  // The thread's first pixel or key in its region.
  __device__ int64_t first() const { return int64_t(blockIdx.x % tiles) * lovasz_tile + int(threadIdx.x) * lovasz_keys; }
};

// Key of a pixel: the error's bits so turned that larger ones come first and NaN before all; the target; the place.
constexpr unsigned positive_bit = 0x80000000u;

__device__ Key lovasz_key(float error, bool positive, int64_t place) {
  const unsigned bits = __float_as_uint(error), ascending = bits >> 31 ? ~bits : bits | 0x80000000u;
  return make_key(error != error ? 0 : ~ascending, unsigned(place) | (positive ? positive_bit : 0));
}
__device__ float error_of(Key key) {
  const unsigned ascending = ~order_of(key);
  return __uint_as_float(ascending >> 31 ? ascending ^ 0x80000000u : ~ascending);
}
__device__ bool is_positive(Key key) { return place_of(key) & positive_bit; }

__global__ void __launch_bounds__(lovasz_threads)
    lovasz_keys_kernel(LovaszRegions regions, const float* x, const float* t, Key* keys) {
  const int64_t start = regions.region() * regions.size, first = regions.first();
  GPU_UNROLL
  for (int j = 0; j < lovasz_keys; ++j) {
    const int64_t place = first + j, i = start + place;
    if (place < regions.size) keys[i] = lovasz_key(1 - x[i] * (2 * t[i] - 1), t[i] > 0.5f, place);
  }
}

// A thread's sorted keys and how many there are.
struct SortedKeys {
  Key key[lovasz_keys];
  int count;

  __device__ SortedKeys(const LovaszRegions& regions, const Key* keys) {
    const Key* const from = keys + regions.region() * regions.size + regions.first();
    count = int(max(int64_t(0), min(int64_t(lovasz_keys), regions.size - regions.first())));
    GPU_UNROLL
    for (int j = 0; j < lovasz_keys; ++j) key[j] = j < count ? from[j] : 0;
  }
  __device__ unsigned positives() const {
    unsigned sum = 0;
    GPU_UNROLL
    for (int j = 0; j < lovasz_keys; ++j) sum += is_positive(key[j]);
    return sum;
  }
};

__global__ void __launch_bounds__(lovasz_threads)
    count_positives_kernel(LovaszRegions regions, const Key* keys, unsigned* counts) {
  GPU_SHARED(Total<unsigned>, parts, [32]);
  const Total<unsigned> all = merge_block(Total<unsigned>{SortedKeys(regions, keys).positives()}, parts);
  if (threadIdx.x != 0) return;
  counts[blockIdx.x] = all.sum;
  if (blockIdx.x == 0) counts[gridDim.x] = 0;  // the scan leaves the sum of all there
}

// before[b] counts the positives in front of tile b, those of earlier regions too.
__global__ void __launch_bounds__(lovasz_threads)
    lovasz_steps_kernel(LovaszRegions regions, const Key* keys, const unsigned* before, float* slope, WriteSum write,
                        DoubleSum* partials) {
  GPU_SHARED(DoubleSum, parts, [32]);
  const SortedKeys mine(regions, keys);
  const unsigned first_tile = unsigned(regions.region()) * regions.tiles, start = before[first_tile];
  const unsigned all = before[first_tile + regions.tiles] - start;
  unsigned positives = before[blockIdx.x] - start + block_exclusive_scan<lovasz_threads>(mine.positives());
  unsigned negatives = unsigned(regions.first()) - positives;
  float* const to = slope + regions.region() * regions.size;
  const float share = 1 / float(regions.count);
  DoubleSum sum = DoubleSum::none();
  GPU_UNROLL
  for (int j = 0; j < lovasz_keys; ++j) {
    if (j >= mine.count) break;
    const Key key = mine.key[j];
    const bool positive = is_positive(key);
    const float error = error_of(key), united = float(all + negatives), left = float(all - positives);
    const float step = positive ? 1 / united : all == 0 ? (negatives == 0 ? 1.0f : 0.0f) : left / united / (united + 1);
    positives += positive;
    negatives += !positive;
    const bool counts = !(error <= 0);
    if (counts) sum.sum += double(error) * double(step);
    to[place_of(key) & ~positive_bit] = !counts ? 0.0f : positive ? -step * share : step * share;
  }
  leave_partial(sum, parts, partials, write);
}

struct TimesScalar {
  const float* factor;
  __device__ float operator()(float v) const { return *factor * v; }
};

}  // namespace

void lovasz_hinge_loss(const LovaszHinge& op, const Tensor& x, const Tensor& t, Tensor& y, Tensor& slope) {
  const int64_t count = detail::regions_of(x, op.per), size = count ? x.size() / count : 0;
  GLIA_CHECK(x.size() <= INT32_MAX, "lovasz_hinge_loss: {} pixels, want fewer than 2^31 on devices", x.size());
  if (count == 0) return y.fill(0);
  const LovaszRegions regions{count, size, unsigned(divide_up(size, lovasz_tile))};
  const int blocks = int(count) * int(regions.tiles);
  const Tensor keys({count, size}, DType::int64, x.device()), before({blocks + 1}, DType::int32, x.device());
  launch({unsigned(blocks), lovasz_threads}, lovasz_keys_kernel, regions, x.device_data<float>(), t.device_data<float>(),
         keys_of(keys));
  const Tensor sorted = radix_sort(keys, 32);
  auto* const counts = reinterpret_cast<unsigned*>(before.device_data<int32_t>());
  launch({unsigned(blocks), lovasz_threads}, count_positives_kernel, regions, keys_of(sorted), counts);
  exclusive_scan(before);
  const LossPartials<DoubleSum> partials(blocks, x.device());
  const WriteSum write{1 / double(count), y.device_data<float>()};
  launch({unsigned(blocks), lovasz_threads}, lovasz_steps_kernel, regions, keys_of(sorted), counts, slope.device_data<float>(),
         write, partials.at());
  merge_partials(partials, write);
}

void lovasz_hinge_loss_backward(const LovaszHinge&, const Tensor&, const Tensor&, const Tensor&, const Tensor& slope,
                                const Tensor& dy, Tensor* dx, Tensor* dt) {
  GLIA_CHECK(!dt, "lovasz_hinge_loss: no gradient with respect to the target is defined");
  if (dx) map_elements(TimesScalar{dy.device_data<float>()}, *dx, slope);
}

}  // namespace glia::GPU_NS
