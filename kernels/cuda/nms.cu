// NMS. Boxes are sorted by score. Then, for 64 x 64 pairs a block, bits say which later boxes each box would suppress; a last block
// goes through the boxes in order, 64 at a time: one thread settles those among themselves, then all threads mark what the
// kept ones suppress further on. Bits are kept for 4096 boxes at once, so memory grows with the number of boxes, not with its
// square. Bound by the pairs' arithmetic, and for few boxes by the last block's walk.
#include "kernels/nms.h"

#include "kernels/boxes.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/sort.h"

namespace glia::GPU_NS {
namespace {

using box::Corners;
using Bits = unsigned long long;

constexpr int tile = 64;
constexpr int sort_threads = 256, walk_threads = 256;
constexpr int64_t rows_at_once = 4096;

// The boxes, best first. `groups` is null where there is one.
struct Sorted {
  int count;
  const int64_t* order;
  const Corners<float>* boxes;
  const int64_t* groups;
};

__global__ void __launch_bounds__(sort_threads)
    put_in_order_kernel(int count, const int64_t* order, const float* boxes, const int64_t* groups, Corners<float>* sorted_boxes,
                        int64_t* sorted_groups) {
  const int i = int(blockIdx.x) * sort_threads + int(threadIdx.x);
  if (i >= count) return;
  sorted_boxes[i] = box::load(boxes + order[i] * 4);
  if (groups) sorted_groups[i] = groups[order[i]];
}

// bits[row - first_row][column tile]: which of the tile's boxes come after the row's, are of its group and have an IoU above the
// threshold. Tiles before the row's own are not written.
__global__ void __launch_bounds__(tile) suppress_pairs_kernel(Sorted s, float threshold, int first_row, int tiles, Bits* bits) {
  GPU_SHARED(Corners<float>, boxes, [tile]);
  GPU_SHARED(float, areas, [tile]);
  GPU_SHARED(int64_t, groups, [tile]);
  const int t = int(threadIdx.x), first_column = int(blockIdx.x) * tile, row = first_row + int(blockIdx.y) * tile + t;
  if (first_column + tile <= row - t) return;
  if (first_column + t < s.count) {
    boxes[t] = s.boxes[first_column + t];
    areas[t] = box::area(boxes[t]);
    groups[t] = s.groups ? s.groups[first_column + t] : 0;
  }
  __syncthreads();
  if (row >= s.count) return;
  const Corners<float> own = s.boxes[row];
  const float area = box::area(own);
  const int64_t group = s.groups ? s.groups[row] : 0;
  const int columns = min(tile, s.count - first_column);
  Bits found = 0;
  for (int c = max(0, row + 1 - first_column); c < columns; ++c)
    if (groups[c] == group && box::iou(own, area, boxes[c], areas[c]) > threshold) found |= Bits(1) << c;
  bits[int64_t(row - first_row) * tiles + blockIdx.x] = found;
}

// Walks rows [first_row, last_row) in order; `removed` (a bit for each box) and `count` go from one launch to the next.
__global__ void __launch_bounds__(walk_threads)
    keep_in_order_kernel(Sorted s, int first_row, int last_row, int tiles, const Bits* bits, int64_t most, Bits* removed,
                         int64_t* keep, int64_t* count) {
  GPU_SHARED(Bits, among, [tile]);  // what each of the tile's boxes suppresses in the tile
  GPU_SHARED(Bits, kept, [1]);
  GPU_SHARED(int64_t, so_far, [1]);
  const int t = int(threadIdx.x);
  for (int row = first_row; row < last_row; row += tile) {
    const int rows = min(tile, last_row - row), own = row / tile;
    const Bits* const of_rows = bits + int64_t(row - first_row) * tiles;
    if (t < rows) among[t] = of_rows[int64_t(t) * tiles + own];
    __syncthreads();
    if (t == 0) {
      Bits gone = removed[own], stay = 0;
      int64_t n = *count;
      for (int r = 0; r < rows && n < most; ++r) {
        if (gone >> r & 1) continue;
        stay |= Bits(1) << r;
        gone |= among[r];
        keep[n++] = s.order[row + r];
      }
      *count = n;
      kept[0] = stay;
      so_far[0] = n;
    }
    __syncthreads();
    if (so_far[0] >= most) return;
    for (int column = own + 1 + t; column < tiles; column += walk_threads) {
      Bits gone = removed[column];
      for (Bits rest = kept[0]; rest; rest &= rest - 1) gone |= of_rows[int64_t(__ffsll(int64_t(rest)) - 1) * tiles + column];
      removed[column] = gone;
    }
  }
}

// ---- launchers ----------------------------------------------------------------------------------------------------------------

Bits* bits_of(const Tensor& t) { return reinterpret_cast<Bits*>(t.raw()); }

}  // namespace

void nms(const Nms& op, const Tensor& boxes, const Tensor& scores, const Tensor& groups, Tensor& keep, Tensor& count) {
  keep.fill(-1);
  count.fill(0);
  const int64_t n = boxes.dim(0);
  if (keep.size() == 0) return;
  const Device device = boxes.device();
  Tensor values({n}, DType::float32, device), order({n}, DType::int64, device);
  sort(Sort{.axis = 0, .descending = true}, scores, values, order);

  const Tensor sorted_boxes({n, 4}, DType::float32, device), sorted_groups({groups ? n : 0}, DType::int64, device);
  const Sorted sorted{.count = int(n),
                      .order = order.device_data<int64_t>(),
                      .boxes = reinterpret_cast<const Corners<float>*>(sorted_boxes.raw()),
                      .groups = groups ? sorted_groups.device_data<int64_t>() : nullptr};
  launch({divide_up(n, sort_threads), sort_threads}, put_in_order_kernel, int(n), sorted.order, boxes.device_data<float>(),
         groups ? groups.device_data<int64_t>() : nullptr, reinterpret_cast<Corners<float>*>(sorted_boxes.raw()),
         groups ? sorted_groups.device_data<int64_t>() : nullptr);

  const int64_t tiles = divide_up(n, tile);
  const Tensor bits({std::min(n, rows_at_once), tiles}, DType::int64, device);
  const Tensor removed = Tensor::zeros({tiles}, DType::int64, device);
  for (int64_t first = 0; first < n; first += rows_at_once) {
    const int64_t last = std::min(first + rows_at_once, n);
    launch({dim3(unsigned(tiles), unsigned(divide_up(last - first, tile))), tile}, suppress_pairs_kernel, sorted,
           box::rounded_down(op.threshold), int(first), int(tiles), bits_of(bits));
    launch({1, walk_threads}, keep_in_order_kernel, sorted, int(first), int(last), int(tiles), bits_of(bits), keep.size(),
           bits_of(removed), keep.device_data<int64_t>(), count.device_data<int64_t>());
  }
}

}  // namespace glia::GPU_NS
