// Watershed with markers. A pixel's key (kernels/flood.h) is the least that its neighbours give it, which is found by relaxation: a
// block takes a tile and what is around it into shared memory, and repeats until the tile stands still; the next launch does so with
// what the tiles around have become. Each round reads one image of keys and writes the other, so blocks do not meet. A tile rests
// while it and its neighbours stand still, and the flood is over when all do, which the host looks at every few rounds: so a flood
// costs about as many rounds as its longest path crosses borders of tiles.
// With all keys known, the pixel each was flooded from is that of its neighbours' least key, and the markers at the ends of these
// chains are found by doubling: in n rounds a pixel's link leads up to 2^n pixels further.
#include <utility>

#include "kernels/cuda/index.cuh"
#include "kernels/cuda/ordered.cuh"
#include "kernels/flood.h"
#include "kernels/labels.h"

namespace glia::GPU_NS {
namespace {

constexpr int flood_threads = 256, tile = 32, rows_at_once = flood_threads / tile, pixels_each = tile / rows_at_once;
constexpr int rounds_per_look = 8;
static_assert(rounds_per_look % 2 == 0, "the last round's keys are where the first round found them");

struct FloodImage {
  int h, w;
  bool diagonal;
  const uint32_t* level;
  __device__ bool holds(int y, int x) const { return y >= 0 && y < h && x >= 0 && x < w; }
  __device__ int64_t at(int y, int x) const { return int64_t(y) * w + x; }
};

__global__ void __launch_bounds__(index_threads)
    begin_kernel(int64_t count, const float* x, const int32_t* markers, const uint8_t* mask, uint32_t* level, uint64_t* keys) {
  const int64_t i = index_thread();
  if (i >= count) return;
  const bool inside = !mask || mask[i] != 0;
  const uint32_t own = inside ? flood::level_of(ordered_bits(x[i])) : flood::closed;
  level[i] = own;
  keys[i] = inside && markers[i] != 0 ? flood::marker_key(own) : flood::unreached;
}

// Whether this tile or one beside it changed in the round before.
__device__ bool is_awake(const int* was_lowered) {
  for (int y = max(0, int(blockIdx.y) - 1); y <= min(int(gridDim.y) - 1, int(blockIdx.y) + 1); ++y)
    for (int x = max(0, int(blockIdx.x) - 1); x <= min(int(gridDim.x) - 1, int(blockIdx.x) + 1); ++x)
      if (was_lowered[y * int(gridDim.x) + x]) return true;
  return false;
}

__global__ void __launch_bounds__(flood_threads) flood_kernel(FloodImage image, const uint64_t* from, uint64_t* to,
                                                              const int* was_lowered, int* lowered, int round, int* last_round) {
  GPU_SHARED(uint64_t, keys, [tile + 2][tile + 2]);
  const int t = int(threadIdx.x), own_tile = int(blockIdx.y * gridDim.x + blockIdx.x);
  if (!is_awake(was_lowered)) {  // `to` has this tile already, from two rounds before
    if (t == 0) lowered[own_tile] = 0;
    return;
  }
  const int y0 = int(blockIdx.y) * tile, x0 = int(blockIdx.x) * tile, column = t % tile, first_row = t / tile;
  for (int i = t; i < (tile + 2) * (tile + 2); i += flood_threads) {
    const int row = i / (tile + 2), y = y0 + row - 1, x = x0 + i % (tile + 2) - 1;
    keys[row][i % (tile + 2)] = image.holds(y, x) ? from[image.at(y, x)] : flood::unreached;
  }
  uint32_t level[pixels_each];
  GPU_UNROLL
  for (int k = 0; k < pixels_each; ++k) {
    const int y = y0 + first_row + k * rows_at_once, x = x0 + column;
    level[k] = image.holds(y, x) ? image.level[image.at(y, x)] : flood::closed;
  }
  __syncthreads();
  bool any = false;
  for (;;) {
    uint64_t next[pixels_each];
    bool lower = false;
    GPU_UNROLL
    for (int k = 0; k < pixels_each; ++k) {
      const int row = first_row + k * rows_at_once + 1, c = column + 1;
      uint64_t least = flood::unreached;
      const auto see = [&](int dy, int dx) {
        const uint64_t key = keys[row + dy][c + dx];
        least = key < least ? key : least;
      };
      see(-1, 0), see(0, -1), see(0, 1), see(1, 0);
      if (image.diagonal) see(-1, -1), see(-1, 1), see(1, -1), see(1, 1);
      const uint64_t own = keys[row][c];
      const bool open = least != flood::unreached && level[k] != flood::closed;
      const uint64_t offered = open ? flood::flooded_key(least, level[k]) : flood::unreached;
      next[k] = offered < own ? offered : own;
      lower = lower || offered < own;
    }
    if (!__syncthreads_or(lower)) break;
    any = true;
    GPU_UNROLL
    for (int k = 0; k < pixels_each; ++k) keys[first_row + k * rows_at_once + 1][column + 1] = next[k];
    __syncthreads();
  }
  GPU_UNROLL
  for (int k = 0; k < pixels_each; ++k) {
    const int row = first_row + k * rows_at_once;
    if (image.holds(y0 + row, x0 + column)) to[image.at(y0 + row, x0 + column)] = keys[row + 1][column + 1];
  }
  if (t == 0) {
    lowered[own_tile] = any;
    if (any) atomicMax(last_round, round);
  }
}

// The pixel that each was flooded from: the first in raster order of its neighbours with the least key. Markers and pixels without a
// flood have themselves.
__global__ void __launch_bounds__(index_threads) link_kernel(FloodImage image, const uint64_t* keys, int* link) {
  const int64_t i = index_thread();
  if (i >= int64_t(image.h) * image.w) return;
  const int y = int(i / image.w), x = int(i % image.w);
  uint64_t least = keys[i];
  int64_t found = i;
  if (least != flood::unreached && !flood::is_marker(least))
    for (int dy = -1; dy <= 1; ++dy)
      for (int dx = -1; dx <= 1; ++dx) {
        if ((!image.diagonal && dy != 0 && dx != 0) || !image.holds(y + dy, x + dx)) continue;
        const int64_t q = image.at(y + dy, x + dx);
        if (keys[q] < least) least = keys[q], found = q;
      }
  link[i] = int(found);
}

__global__ void __launch_bounds__(index_threads) double_links_kernel(int64_t count, const int* from, int* to) {
  const int64_t i = index_thread();
  if (i < count) to[i] = from[from[i]];
}

__global__ void __launch_bounds__(index_threads)
    take_labels_kernel(int64_t count, const uint64_t* keys, const int* link, const int32_t* markers, int32_t* labels) {
  const int64_t i = index_thread();
  if (i < count) labels[i] = keys[i] == flood::unreached ? 0 : markers[link[i]];
}

// Fills keys (2, h, w), whose first half has the markers, until nothing changes; the result is in the first half.
void flood_keys(const FloodImage& image, uint64_t* keys, Device device) {
  const int64_t count = int64_t(image.h) * image.w, rows = divide_up(image.h, tile), columns = divide_up(image.w, tile);
  const Tensor lowered = Tensor::full({2, rows * columns}, 1, DType::int32, device);
  const Tensor last_round = Tensor::zeros({1}, DType::int32, device);
  int* const flags = lowered.device_data<int32_t>();
  for (int round = 0;;) {
    for (int i = 0; i < rounds_per_look; ++i, ++round) {
      const int64_t from = round % 2, to = 1 - from;
      launch({dim3(unsigned(columns), unsigned(rows)), flood_threads}, flood_kernel, image, keys + from * count,
             keys + to * count, flags + from * rows * columns, flags + to * rows * columns, round,
             last_round.device_data<int32_t>());
    }
    if (last_round.to(Device{}).data<int32_t>()[0] < round - 1) return;
  }
}

}  // namespace

void watershed(const Watershed& op, const Tensor& x, const Tensor& markers, const Tensor& mask, Tensor& labels) {
  if (x.size() == 0) return;
  const int64_t count = x.size(), blocks = index_grid(count);
  const Device device = x.device();
  const Tensor levels(x.shape(), DType::int32, device), both({2, x.dim(0), x.dim(1)}, DType::int64, device);
  auto* const level = reinterpret_cast<uint32_t*>(levels.raw());
  auto* const keys = reinterpret_cast<uint64_t*>(both.raw());
  const FloodImage image{int(x.dim(0)), int(x.dim(1)), op.connectivity == 8, level};
  launch({blocks, index_threads}, begin_kernel, count, x.device_data<float>(), markers.device_data<int32_t>(),
         mask ? reinterpret_cast<const uint8_t*>(mask.raw()) : nullptr, level, keys);
  flood_keys(image, keys, device);

  const Tensor links({2, count}, DType::int32, device);
  int* link = links.device_data<int32_t>();
  int* other = link + count;
  launch({blocks, index_threads}, link_kernel, image, keys, link);
  for (int64_t reach = 1; reach < count; reach *= 2) {  // the longest chain has count - 1 links
    launch({blocks, index_threads}, double_links_kernel, count, link, other);
    std::swap(link, other);
  }
  launch({blocks, index_threads}, take_labels_kernel, count, keys, link, markers.device_data<int32_t>(),
         labels.device_data<int32_t>());
}

}  // namespace glia::GPU_NS
