// RoiAlign over lists of taps (RoiAxis), which a first kernel writes, a thread for each bin of an axis of a roi. Forward, a thread makes
// four channels of a bin: bound by the second-level cache. Backward gathers: a block owns a tile of 8 x 8 pixels and some channels of a
// gradient, finds the rois that reach into it, in their order, and makes their weights for its rows and columns in shared memory, some
// rois at a time; then each thread adds up four pixels of a column. So nothing is written twice, and the order of sums is fixed.
#include <algorithm>

#include "kernels/cuda/divide.cuh"
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/index.cuh"
#include "kernels/cuda/scan.cuh"
#include "kernels/roi_align.h"

namespace glia::GPU_NS {
namespace {

constexpr int roi_threads = 256;
constexpr int tile = 8;                                 // pixels along a side
constexpr int tile_packs = 16;                          // of channels
constexpr int pixels_apart = roi_threads / tile_packs;  // a thread's pixels are every 16th of the tile
constexpr int pixels_of_thread = tile * tile / pixels_apart;
constexpr int most_weights = 8192;  // of a block, in shared memory

struct Tap {
  int pixel;
  float weight;
};

// The taps of all rois' bins: those of bin p of axis a of roi r are taps[r][span.x], span.y of them, pixels ascending.
struct Taps {
  int2* spans;  // [rois][2][bins]
  Tap* taps;    // [rois][of_roi]
  int of_rows, of_roi;
};

struct Rois {
  const float* rois;  // [count][5]
  const int64_t* levels;
  int count, images, bins;
  __device__ int level(int r) const { return levels ? int(levels[r]) : 0; }
  __device__ int image(int r) const { return int(rois[5 * r]); }
  __device__ void check(int r) const {
    if (levels) checked_index(levels[r], 4);
    const float image = rois[5 * r];
    checked_index(image >= 0 && image < float(images) ? int64_t(image) : -1, images);  // NaN and -0.5 are of no image
  }
};

// The map of a level; an absent one has no pixels.
struct Map {
  const float* data;
  int height, width;
  float scale;
};
struct Maps {
  Map of[4];
  // Without an index, which would put them all into local memory.
  __device__ Map at(int level) const { return level == 0 ? of[0] : level == 1 ? of[1] : level == 2 ? of[2] : of[3]; }
};

__device__ RoiAxis<float> rows_of(const RoiAlign& op, const float* roi, const Map& map) {
  return {op, map.scale, roi[2], roi[4], map.height};
}
__device__ RoiAxis<float> columns_of(const RoiAlign& op, const float* roi, const Map& map) {
  return {op, map.scale, roi[1], roi[3], map.width};
}

// Bins have room for their taps where their first pixel says (adaptive grids: the bins follow each other, and share at most the last
// two pixels; a rounded position may add one), or each room for two pixels a sample.
__global__ void __launch_bounds__(roi_threads) taps_kernel(RoiAlign op, Rois rois, Maps maps, bool forward, Taps to) {
  const int e = int(blockIdx.x * roi_threads + threadIdx.x), r = e / (2 * rois.bins);
  if (r >= rois.count) return;
  rois.check(r);
  const int axis = e / rois.bins % 2, p = e % rois.bins;
  const Map map = maps.at(rois.level(r));
  int2 span = make_int2(0, 0);
  if (map.height > 0) {
    const float* roi = rois.rois + 5 * r;
    const RoiAxis<float> rows = rows_of(op, roi, map), columns = columns_of(op, roi, map);
    const RoiAxis<float> chosen = axis == 0 ? rows : columns;
    const float count = float(rows.samples) * float(columns.samples);
    const float factor = axis == 0 && count > 1 ? 1 / count : 1;
    Tap* taps = to.taps + int64_t(r) * to.of_roi;
    chosen.for_each_tap(p, [&](int64_t pixel, float weight) {
      if (span.y == 0) span.x = (axis == 0 ? 0 : to.of_rows) + (op.sampling > 0 ? 2 * int(op.sampling) * p : int(pixel) + 4 * p);
      taps[span.x + span.y++] = {int(pixel), factor * weight};
    });
  } else if (forward) {
    refuse_index(rois.level(r), 0);  // a level without a map
  }
  to.spans[e] = span;
}

// Packs of y in order: roi, row and column of bins, channels.
struct Pooled {
  uint32_t packs;
  int channels;
  Divider packs_of_bin, bins;
};

template <int width>
__global__ void __launch_bounds__(roi_threads) pool_kernel(Pooled g, Rois rois, Maps maps, Taps of, float* __restrict__ y) {
  const uint32_t pack = blockIdx.x * roi_threads + threadIdx.x;
  if (pack >= g.packs) return;
  uint32_t rest = pack;
  const int channel = int(g.packs_of_bin.split(rest)) * width;
  const int q = int(g.bins.split(rest)), p = int(g.bins.split(rest)), r = int(rest);
  const Map map = maps.at(rois.level(r));
  const int2 rows = of.spans[(2 * r) * rois.bins + p], columns = of.spans[(2 * r + 1) * rois.bins + q];
  const Tap* taps = of.taps + int64_t(r) * of.of_roi;
  const int64_t row_size = int64_t(map.width) * g.channels;
  const float* __restrict__ image = map.data + rois.image(r) * map.height * row_size + channel;
  Pack<width> sum = {};
  for (int i = 0; i < rows.y; ++i) {
    const Tap row = taps[rows.x + i];
    const float* from = image + row.pixel * row_size;
    Pack<width> in_row = {};
    for (int j = 0; j < columns.y; ++j) {
      const Tap column = taps[columns.x + j];
      const Pack<width> v = load_pack<width>(from + int64_t(column.pixel) * g.channels);
      GPU_UNROLL
      for (int l = 0; l < width; ++l) in_row.at[l] += column.weight * v.at[l];
    }
    GPU_UNROLL
    for (int l = 0; l < width; ++l) sum.at[l] += row.weight * in_row.at[l];
  }
  store_pack(y + int64_t(pack) * width, sum);
}

// ---- backward -----------------------------------------------------------------------------------------------------------------

// A block's place in the gradient of one level: blocks in order of image, tiles, groups of channels.
struct Tiles {
  int level, channels, batch;  // batch: rois whose weights are in shared memory at a time
  Divider across, down, groups;
};

__device__ float weight_at(const Taps& of, int r, int2 span, int pixel) {
  if (span.y == 0) return 0;
  const Tap* taps = of.taps + int64_t(r) * of.of_roi + span.x;
  int k = min(pixel - taps[0].pixel, span.y - 1);
  while (k > 0 && taps[k].pixel > pixel) --k;
  return k >= 0 && taps[k].pixel == pixel ? taps[k].weight : 0;
}

// Whether a roi may read pixels [first, first + tile): generous, and false for NaN.
__device__ bool reaches(const RoiAxis<float>& axis, int bins, int first) {
  const float end = axis.start + float(bins) * axis.bin;
  return min(axis.start, end) - 2 <= float(first + tile) && max(axis.start, end) + 2 >= float(first);
}

template <int width>
__global__ void __launch_bounds__(roi_threads, 3)
    roi_gradient_kernel(RoiAlign op, Tiles g, Rois rois, Map map, Taps of, const float* __restrict__ dy, float* __restrict__ dx) {
  GPU_SHARED(int, found, [roi_threads]);
  GPU_SHARED(int2, bins_of, [2 * tile][2 * tile]);  // [roi of the batch][row or column]: from the first bin to behind the last
  auto& weights = gpu::dynamic_shared<float[]>();   // [roi of the batch][row or column][bin]
  const int t = int(threadIdx.x), bins = rois.bins;
  uint32_t rest = blockIdx.x;
  const int group = int(g.groups.split(rest)), x0 = int(g.across.split(rest)) * tile, y0 = int(g.down.split(rest)) * tile;
  const int image = int(rest);
  const int channel = (group * tile_packs + t % tile_packs) * width;
  const int column = t / tile_packs % tile, row = t / tile_packs / tile;
  Pack<width> sums[pixels_of_thread] = {};

  for (int base = 0; base < rois.count; base += roi_threads) {
    const int r = base + t;
    unsigned reached = 0;
    if (r < rois.count && rois.level(r) == g.level && rois.image(r) == image) {
      const float* roi = rois.rois + 5 * r;
      reached = reaches(rows_of(op, roi, map), bins, y0) && reaches(columns_of(op, roi, map), bins, x0);
    }
    unsigned count = 0;
    const unsigned place = block_exclusive_scan<roi_threads>(reached, &count);
    if (reached) found[place] = r;
    __syncthreads();
    for (int first = 0; first < int(count); first += g.batch) {
      const int batch = min(g.batch, int(count) - first);
      if (const int k = t / (2 * tile), a = t % (2 * tile); k < batch) {
        const int roi = found[first + k], pixel = a < tile ? y0 + a : x0 + a - tile;
        int2 range = make_int2(bins, 0);
        for (int p = 0; p < bins; ++p) {
          const float weight = weight_at(of, roi, of.spans[(2 * roi + (a < tile ? 0 : 1)) * bins + p], pixel);
          weights[(k * 2 * tile + a) * bins + p] = weight;
          if (weight != 0) range = make_int2(min(range.x, p), p + 1);
        }
        bins_of[k][a] = range;
      }
      __syncthreads();
      for (int k = 0; k < batch && channel < g.channels; ++k) {
        const float* from = dy + int64_t(found[first + k]) * bins * bins * g.channels + channel;
        const float* of_roi = weights + k * 2 * tile * bins;
        const int2 across = bins_of[k][tile + column];
        GPU_UNROLL
        for (int j = 0; j < pixels_of_thread; ++j) {
          const int line = row + j * (pixels_apart / tile);
          const int2 down = bins_of[k][line];
          for (int p = down.x; p < down.y; ++p) {
            const float weight = of_roi[line * bins + p];
            for (int q = across.x; q < across.y; ++q) {
              const Pack<width> v = load_pack<width>(from + (p * bins + q) * g.channels);
              const float product = weight * of_roi[(tile + column) * bins + q];
              GPU_UNROLL
              for (int l = 0; l < width; ++l) sums[j].at[l] += product * v.at[l];
            }
          }
        }
      }
      __syncthreads();
    }
  }
  if (channel >= g.channels || x0 + column >= map.width) return;
  GPU_UNROLL
  for (int j = 0; j < pixels_of_thread; ++j) {
    const int y = y0 + row + j * (pixels_apart / tile);
    if (y < map.height)
      store_pack(dx + ((int64_t(image) * map.height + y) * map.width + x0 + column) * g.channels + channel, sums[j]);
  }
}

// ---- boxes' levels ------------------------------------------------------------------------------------------------------------

__global__ void __launch_bounds__(roi_threads) level_kernel(FpnLevel op, uint32_t count, const float* boxes, int64_t* level) {
  const uint32_t i = blockIdx.x * roi_threads + threadIdx.x;
  if (i >= count) return;
  const float* box = boxes + 4 * int64_t(i);
  level[i] = op.level(box[0], box[1], box[2], box[3]);
}

// ---- launchers ----------------------------------------------------------------------------------------------------------------

// The lists of taps, filled by a launch.
class TapTables {
 public:
  TapTables(const RoiAlign& op, const Rois& rois, const Maps& maps, bool forward, Device device) {
    int height = 0, width = 0;
    for (const Map& map : maps.of) height = std::max(height, map.height), width = std::max(width, map.width);
    const int64_t room = 2 * op.size * op.sampling, more = 4 * op.size;
    const int64_t rows = room ? room : height + more, columns = room ? room : width + more;
    spans_ = Tensor({rois.count, 2, op.size, 2}, DType::int32, device);
    taps_ = Tensor({rois.count, rows + columns, 2}, DType::int32, device);
    view_ = {reinterpret_cast<int2*>(spans_.device_data<int32_t>()), reinterpret_cast<Tap*>(taps_.device_data<int32_t>()),
             int(rows), int(rows + columns)};
    launch({divide_up(count31(rois.count * 2 * op.size), roi_threads), roi_threads}, taps_kernel, op, rois, maps, forward, view_);
  }
  const Taps& view() const { return view_; }

 private:
  Tensor spans_, taps_;
  Taps view_;
};

Maps maps_of(const RoiAlign& op, const std::array<const Tensor*, 4>& tensors) {
  Maps maps{};
  for (size_t i = 0; i < 4; ++i) {
    const Tensor* x = tensors[i];
    if (!x || !*x) continue;
    maps.of[i] = {x->device_data<const float>(), int(count31(x->dim(1))), int(count31(x->dim(2))), float(op.scales[i])};
  }
  return maps;
}

Rois rois_of(const RoiAlign& op, const Tensor& rois, const Tensor& levels, int64_t images) {
  GLIA_CHECK(op.size * 2 * tile <= most_weights, "roi_align: {} bins along an axis, want at most {} on devices", op.size,
             most_weights / (2 * tile));
  return {rois.device_data<const float>(), levels ? levels.device_data<const int64_t>() : nullptr, int(count31(rois.dim(0))),
          int(count31(images)), int(op.size)};
}

bool in_packs(int64_t channels, const Tensor& a) { return channels % 4 == 0 && aligned16(a.raw()); }

template <int width>
void pool(const RoiAlign& op, const Rois& rois, const Maps& maps, const Taps& taps, const Tensor& y) {
  const int64_t channels = y.dim(3);
  const Pooled g{count31(y.size() / width), int(channels), Divider(channels / width), Divider(op.size)};
  launch({divide_up(g.packs, roi_threads), roi_threads}, pool_kernel<width>, g, rois, maps, taps, y.device_data<float>());
}

template <int width>
void spread(const RoiAlign& op, int level, const Rois& rois, const Map& map, const Taps& taps, const Tensor& dy,
            const Tensor& dx) {
  const int64_t channels = dx.dim(3), across = divide_up(dx.dim(2), tile), down = divide_up(dx.dim(1), tile);
  const int64_t groups = divide_up(channels, tile_packs * width);
  const int batch = std::min<int>(2 * tile, most_weights / int(2 * tile * op.size));
  count31(op.size * op.size * channels);  // a roi's, which the kernel counts in 31 bits
  const Tiles g{level, int(channels), batch, Divider(across), Divider(down), Divider(groups)};
  const size_t shared_bytes = size_t(batch) * 2 * tile * size_t(op.size) * sizeof(float);
  launch({count31(dx.dim(0) * down * across * groups), roi_threads, shared_bytes}, roi_gradient_kernel<width>, op, g, rois, map,
         taps, dy.device_data<const float>(), dx.device_data<float>());
}

}  // namespace

void roi_align(const RoiAlign& op, const Tensor& x0, const Tensor& x1, const Tensor& x2, const Tensor& x3, const Tensor& rois,
               const Tensor& levels, Tensor& y) {
  if (y.size() == 0) return;
  const std::array<const Tensor*, 4> tensors{&x0, &x1, &x2, &x3};
  const Maps maps = maps_of(op, tensors);
  const Rois of = rois_of(op, rois, levels, x0.dim(0));
  const TapTables taps(op, of, maps, true, y.device());
  bool packs = in_packs(y.dim(3), y);
  for (const Tensor* x : tensors) packs = packs && in_packs(y.dim(3), *x);
  (packs ? pool<4> : pool<1>)(op, of, maps, taps.view(), y);
}

void roi_align_backward(const RoiAlign& op, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor& rois,
                        const Tensor& levels, const Tensor&, const Tensor& dy, Tensor* dx0, Tensor* dx1, Tensor* dx2, Tensor* dx3,
                        Tensor* drois, Tensor*) {
  if (drois) drois->fill(0);
  const std::array<const Tensor*, 4> gradients{dx0, dx1, dx2, dx3};
  const auto first = std::find_if(gradients.begin(), gradients.end(), [](const Tensor* dx) { return dx; });
  if (first == gradients.end() || (*first)->dim(0) == 0 || (*first)->dim(3) == 0) return;
  const Maps maps = maps_of(op, gradients);
  const Rois of = rois_of(op, rois, levels, (*first)->dim(0));
  const TapTables taps(op, of, maps, false, dy.device());
  for (size_t i = 0; i < 4; ++i) {
    if (!gradients[i]) continue;
    const Tensor& dx = *gradients[i];
    const bool packs = in_packs(dx.dim(3), dx) && in_packs(dx.dim(3), dy);
    (packs ? spread<4> : spread<1>)(op, int(i), of, maps.of[i], taps.view(), dy, dx);
  }
}

void fpn_level(const FpnLevel& op, const Tensor& boxes, Tensor& level) {
  const uint32_t count = count31(boxes.dim(0));
  launch({divide_up(count, roi_threads), roi_threads}, level_kernel, op, count, boxes.device_data<const float>(),
         level.device_data<int64_t>());
}

}  // namespace glia::GPU_NS
