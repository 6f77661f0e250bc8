// Cellpose's dynamics. Diffusion: first what box and mean each label has, by atomics on whole numbers; then one block a cell,
// which goes over its box for all its steps, between two images of heat (a pixel belongs to one cell, so cells share them).
// Points: one thread follows one, in registers, until it stands still. Seeds: one thread a pixel of the grid; a pixel's owner is
// the maximum of (points of the seed, its place), so that the order of the threads does not count.
#include "kernels/flow.h"

#include "kernels/cuda/index.cuh"
#include "kernels/flow_math.h"

namespace glia::GPU_NS {
namespace {

constexpr int cell_threads = 256;

// What is known of a label. Sums of coordinates of up to 2^30 pixels.
struct CellFacts {
  int y0, x0, y1, x1;
  unsigned long long pixels, sum_y, sum_x;
};

__global__ void __launch_bounds__(index_threads) clear_facts_kernel(int64_t count, CellFacts* facts) {
  const int64_t i = index_thread();
  if (i < count) facts[i] = {INT32_MAX, INT32_MAX, -1, -1, 0, 0, 0};
}

__global__ void __launch_bounds__(index_threads)
    cell_facts_kernel(int64_t size, int w, int64_t count, const int32_t* labels, CellFacts* facts) {
  const int64_t i = index_thread();
  if (i >= size || labels[i] == 0) return;
  CellFacts* const cell = facts + checked_index(labels[i], count);
  const int y = int(i / w), x = int(i % w);
  atomicMin(&cell->y0, y);
  atomicMin(&cell->x0, x);
  atomicMax(&cell->y1, y);
  atomicMax(&cell->x1, x);
  atomicAdd(&cell->pixels, 1ull);
  atomicAdd(&cell->sum_y, (unsigned long long)(y));
  atomicAdd(&cell->sum_x, (unsigned long long)(x));
}

// The running block's cell in the image.
struct CellImage {
  int h, w, label;
  const int32_t* labels;

  __device__ bool holds(int y, int x) const { return y >= 0 && y < h && x >= 0 && x < w && labels[int64_t(y) * w + x] == label; }
  __device__ double at(const double* heat, int y, int x) const { return holds(y, x) ? heat[int64_t(y) * w + x] : 0; }
  __device__ double row(const double* heat, int y, int x) const {
    return flow::sum3(at(heat, y, x - 1), at(heat, y, x), at(heat, y, x + 1));
  }
};

// Of the pixel (its number in the cell's box) nearest to the mean, first of equals. All threads get it.
__device__ int centre_of(const CellImage& image, const CellFacts& cell) {
  GPU_SHARED(double, distances, [cell_threads]);
  GPU_SHARED(int, places, [cell_threads]);
  const int width = cell.x1 - cell.x0 + 1, size = (cell.y1 - cell.y0 + 1) * width, t = int(threadIdx.x);
  const double pixels = double(cell.pixels);
  const double mean_y = double((long long)(cell.sum_y) - (long long)(cell.pixels) * (cell.y0 - 1)) / pixels;
  const double mean_x = double((long long)(cell.sum_x) - (long long)(cell.pixels) * (cell.x0 - 1)) / pixels;
  double nearest = 1e300;
  int place = size;
  for (int i = t; i < size; i += cell_threads) {
    const int y = i / width, x = i % width;
    if (!image.holds(cell.y0 + y, cell.x0 + x)) continue;
    const double distance = flow::squared_distance(double(y + 1), double(x + 1), mean_y, mean_x);
    if (distance < nearest) nearest = distance, place = i;
  }
  distances[t] = nearest;
  places[t] = place;
  __syncthreads();
  for (int half = cell_threads / 2; half > 0; half /= 2) {
    if (t < half &&
        (distances[t + half] < distances[t] || (distances[t + half] == distances[t] && places[t + half] < places[t]))) {
      distances[t] = distances[t + half];
      places[t] = places[t + half];
    }
    __syncthreads();
  }
  return places[0];
}

__global__ void __launch_bounds__(cell_threads)
    diffusion_kernel(int h, int w, const CellFacts* facts, const int32_t* labels, double* heat, double* next, float* arrows) {
  const int label = int(blockIdx.x) + 1;
  const CellFacts cell = facts[label];
  if (cell.pixels == 0) return;
  const CellImage image{h, w, label, labels};
  const int centre = centre_of(image, cell);
  const int height = cell.y1 - cell.y0 + 1, width = cell.x1 - cell.x0 + 1, size = height * width;
  const int64_t steps = flow::diffusion_steps(height, width);
  // The heat that is fed into the centre before the next step is added where this step has written it.
  for (int64_t step = -1; step < steps; ++step) {
    for (int i = int(threadIdx.x); i < size; i += cell_threads) {
      const int y = cell.y0 + i / width, x = cell.x0 + i % width;
      if (!image.holds(y, x)) continue;
      double warmth = 0;
      if (step >= 0)
        warmth = flow::rounded_product(flow::sum3(image.row(heat, y - 1, x), image.row(heat, y, x), image.row(heat, y + 1, x)),
                                       flow::ninth);
      if (i == centre && step + 1 < steps) warmth += 1;
      next[int64_t(y) * w + x] = warmth;
    }
    __syncthreads();
    double* const read = heat;
    heat = next;
    next = read;
  }
  for (int i = int(threadIdx.x); i < size; i += cell_threads) {
    const int y = cell.y0 + i / width, x = cell.x0 + i % width;
    if (!image.holds(y, x)) continue;
    const auto arrow =
        flow::arrow(image.at(heat, y - 1, x), image.at(heat, y + 1, x), image.at(heat, y, x - 1), image.at(heat, y, x + 1));
    arrows[2 * (int64_t(y) * w + x)] = arrow.y;
    arrows[2 * (int64_t(y) * w + x) + 1] = arrow.x;
  }
}

__global__ void __launch_bounds__(index_threads)
    follow_kernel(int64_t count, int64_t h, int64_t w, int64_t steps, bool interpolate, const float* flow, const float* points,
                  float* moved) {
  const int64_t i = index_thread();
  if (i >= count) return;
  flow::Point<float> p{flow::keep_inside(points[2 * i], float(h - 1)), flow::keep_inside(points[2 * i + 1], float(w - 1))};
  for (int64_t step = 0; step < steps; ++step) {
    const flow::Point<float> next = flow::step(flow, h, w, interpolate, p);
    const bool still = flow::same(next, p);
    p = next;
    if (still) break;
  }
  moved[2 * i] = p.y;
  moved[2 * i + 1] = p.x;
}

__global__ void __launch_bounds__(index_threads)
    count_points_kernel(int64_t points, int64_t h, int64_t w, const float* at, int32_t* counts) {
  const int64_t i = index_thread();
  if (i < points) atomicAdd(&counts[flow::grid_index(at[2 * i], at[2 * i + 1], h, w, FlowSeeds::margin)], 1);
}

using Key = unsigned long long;

__global__ void __launch_bounds__(index_threads) seeds_kernel(int64_t size, int64_t columns, const int32_t* counts, Key* keys) {
  const int64_t i = index_thread();
  if (i >= size || counts[i] <= flow::seed_points || !flow::is_peak(counts + i, columns)) return;
  const flow::Grown grown = flow::grow(counts + i, columns);
  const Key key = Key(counts[i]) << 32 | Key(i + 1);
  for (int r = 0; r < flow::grow_size; ++r)
    for (int c = 0; c < flow::grow_size; ++c)
      if (grown.rows[r] >> c & 1) atomicMax(&keys[i + (r - flow::grow_radius) * columns + c - flow::grow_radius], key);
}

__global__ void __launch_bounds__(index_threads) owner_kernel(int64_t size, const Key* keys, int32_t* owner) {
  const int64_t i = index_thread();
  if (i < size) owner[i] = int32_t(keys[i] & 0xffffffffull);
}

}  // namespace

void flow_targets(const FlowTargets& op, const Tensor& labels, Tensor& flow) {
  flow.fill(0);
  if (labels.size() == 0 || op.count == 0) return;
  const int h = int(labels.dim(0)), w = int(labels.dim(1));
  const int64_t count = op.count + 1;
  const Tensor facts({count, int64_t(sizeof(CellFacts))}, DType::uint8, labels.device());
  const Tensor heat({2, h, w}, DType::float64, labels.device());
  auto* const cells = reinterpret_cast<CellFacts*>(facts.raw());
  launch({index_grid(count), index_threads}, clear_facts_kernel, count, cells);
  launch({index_grid(labels.size()), index_threads}, cell_facts_kernel, labels.size(), w, count, labels.device_data<int32_t>(),
         cells);
  double* const first = heat.device_data<double>();
  launch({op.count, cell_threads}, diffusion_kernel, h, w, cells, labels.device_data<int32_t>(), first, first + labels.size(),
         flow.device_data<float>());
}

void follow_flow(const FollowFlow& op, const Tensor& flow, const Tensor& points, Tensor& moved) {
  launch({index_grid(points.dim(0)), index_threads}, follow_kernel, points.dim(0), flow.dim(0), flow.dim(1), op.steps,
         op.interpolate, flow.device_data<float>(), points.device_data<float>(), moved.device_data<float>());
}

void flow_seeds(const FlowSeeds& op, const Tensor& points, Tensor& counts, Tensor& owner) {
  counts.fill(0);
  const Tensor keys = Tensor::zeros(counts.shape(), DType::int64, counts.device());
  auto* const key = reinterpret_cast<Key*>(keys.raw());
  const int64_t size = counts.size();
  launch({index_grid(points.dim(0)), index_threads}, count_points_kernel, points.dim(0), op.height, op.width,
         points.device_data<float>(), counts.device_data<int32_t>());
  launch({index_grid(size), index_threads}, seeds_kernel, size, counts.dim(1), counts.device_data<int32_t>(), key);
  launch({index_grid(size), index_threads}, owner_kernel, size, key, owner.device_data<int32_t>());
}

}  // namespace glia::GPU_NS
