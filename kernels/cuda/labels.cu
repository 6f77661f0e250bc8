// Connected components by union-find (Komura 2015; Playne and Hawick 2018). A pixel's parent is a pixel of its component that comes
// no later in raster order, and a root is its own:
//   1. a pixel's first parent is where its run of equal pixels begins, within the 32 pixels of its warp;
//   2. where a run meets one of the row above (or the previous 32 pixels), the roots are joined: the later gets the earlier as its
//      parent, by atomicMin. Parents only ever decrease, so each thread ends without waiting for another, and the roots are the
//      components' first pixels whatever the order;
//   3. a prefix sum over the roots numbers them in raster order.
//
// Squared distance to the nearest outside pixel, in two passes: along rows from a bit mask of the row in shared memory; then along
// columns d2(y, x) = min over y' of (y - y')^2 + row(y', x)^2, going up and down from y until (y - y')^2 alone is too far. So a
// pixel costs about its own distance.
#include "kernels/labels.h"

#include "kernels/cuda/scan.cuh"

namespace glia::GPU_NS {
namespace {

constexpr int label_threads = 256;

// An image (h, w). Value: what `connectivity` and `by_value` make of it.
template <class T>
struct Image {
  const T* x;
  int h, w;
  bool by_value, diagonal;

  __device__ int value(int row, int column) const {  // 0 outside
    if (row < 0 || column < 0 || column >= w) return 0;
    const int v = int(x[int64_t(row) * w + column]);
    return by_value ? v : v != 0;
  }
};

// The running thread's pixel: a warp takes 32 pixels of one row.
struct Pixel {
  int row, column;
  template <class T>
  __device__ explicit Pixel(const Image<T>& image) {
    const unsigned warps = unsigned(image.w + 31) / 32, warp = blockIdx.x * (label_threads / 32) + threadIdx.x / 32;
    row = int(warp / warps);
    column = int(warp % warps * 32 + threadIdx.x % 32);
  }
};

template <class T>
__global__ void __launch_bounds__(label_threads) find_runs_kernel(Image<T> image, int* parent) {
  const Pixel p(image);
  const bool exists = p.row < image.h && p.column < image.w;
  const int value = exists ? image.value(p.row, p.column) : 0;
  const unsigned lane = threadIdx.x % 32;
  const int left = __shfl_up_sync(0xffffffffu, value, 1);
  const unsigned begins = __ballot_sync(0xffffffffu, lane == 0 || left != value);
  if (!exists) return;
  const int distance = __clz(int(begins << (31 - lane)));  // to the nearest beginning at or before this lane
  const int64_t at = int64_t(p.row) * image.w + p.column;
  parent[at] = value ? int(at) - distance : -1;
}

// The root of pixel i, while other threads join roots.
__device__ int find_root(int* parent, int i) {
  for (;;) {
    const int next = atomicAdd(&parent[i], 0);
    if (next == i) return i;
    i = next;
  }
}

__device__ void join(int* parent, int a, int b) {
  for (;;) {
    a = find_root(parent, a);
    b = find_root(parent, b);
    if (a == b) return;
    const int later = a > b ? a : b, earlier = a > b ? b : a;
    const int before = atomicMin(&parent[later], earlier);
    if (before == later) return;
    a = before;  // someone else gave it a parent meanwhile: that one and ours belong together
    b = earlier;
  }
}

template <class T>
__global__ void __launch_bounds__(label_threads) join_runs_kernel(Image<T> image, int* parent) {
  const Pixel p(image);
  if (p.row >= image.h || p.column >= image.w) return;
  const int value = image.value(p.row, p.column);
  if (value == 0) return;
  const int at = p.row * image.w + p.column;
  const bool left = image.value(p.row, p.column - 1) == value;
  if (left && p.column % 32 == 0) join(parent, at, at - 1);
  // Where the pixel to the left sees the run above as well, it joins the two.
  const int above = at - image.w;
  const bool up = image.value(p.row - 1, p.column) == value, up_left = image.value(p.row - 1, p.column - 1) == value;
  if (up) {
    if (!(left && up_left)) join(parent, at, above);
  } else if (image.diagonal) {
    if (up_left && !left) join(parent, at, above - 1);
    if (image.value(p.row - 1, p.column + 1) == value && image.value(p.row, p.column + 1) != value) join(parent, at, above + 1);
  }
}

__global__ void __launch_bounds__(label_threads) mark_roots_kernel(int count, const int* parent, int* is_root) {
  const unsigned i = blockIdx.x * label_threads + threadIdx.x;
  if (i < unsigned(count)) is_root[i] = parent[i] == int(i);
}

__global__ void __launch_bounds__(label_threads)
    number_kernel(int count, const int* parent, const int* roots_before, int* labels) {
  const unsigned i = blockIdx.x * label_threads + threadIdx.x;
  if (i >= unsigned(count)) return;
  int root = parent[i];
  if (root >= 0)
    while (parent[root] != root) root = parent[root];
  labels[i] = root < 0 ? 0 : roots_before[root] + 1;
}

// ---- distances ----------------------------------------------------------------------------------------------------------------

constexpr int longest_row = 46340, row_words = (longest_row + 31) / 32;

// One block a row: distance along the row to the nearest outside pixel, `none` without one.
__global__ void __launch_bounds__(label_threads) row_distance_kernel(int w, int none, const uint8_t* mask, int* distance) {
  GPU_SHARED(unsigned, outside, [row_words]);  // a bit for each pixel
  GPU_SHARED(int, left_of, [row_words]);       // the last outside pixel before the word's pixels
  GPU_SHARED(int, right_of, [row_words]);      // the first one after them
  const int t = int(threadIdx.x), words = (w + 31) / 32;
  const uint8_t* const row = mask + int64_t(blockIdx.x) * w;
  for (int x = t; x < words * 32; x += label_threads) {
    const unsigned bits = __ballot_sync(0xffffffffu, x < w && row[x] == 0);
    if (t % 32 == 0) outside[x / 32] = bits;
  }
  __syncthreads();
  for (int word = t; word < words; word += label_threads) {
    int i = word - 1;
    while (i >= 0 && outside[i] == 0) --i;
    left_of[word] = i >= 0 ? i * 32 + 31 - __clz(int(outside[i])) : -none;
    i = word + 1;
    while (i < words && outside[i] == 0) ++i;
    right_of[word] = i < words ? i * 32 + __ffs(int(outside[i])) - 1 : w + none;
  }
  __syncthreads();
  for (int x = t; x < w; x += label_threads) {
    const unsigned bits = outside[x / 32], before = bits << (31 - x % 32), after = bits >> (x % 32);
    const int left = before ? __clz(int(before)) : x - left_of[x / 32];
    const int right = after ? __ffs(int(after)) - 1 : right_of[x / 32] - x;
    distance[int64_t(blockIdx.x) * w + x] = min(min(left, right), none);
  }
}

// One block 32 columns and 64 rows: what they have of the least of each column's distances.
constexpr int minimum_rows = 64;

__global__ void __launch_bounds__(label_threads) column_minimum_kernel(int h, int w, const int* distance, int* least) {
  const int x = int(blockIdx.x) * 32 + int(threadIdx.x) % 32;
  if (x >= w) return;
  const int first = int(blockIdx.y) * minimum_rows + int(threadIdx.x) / 32, end = min((int(blockIdx.y) + 1) * minimum_rows, h);
  int smallest = INT32_MAX;
  for (int y = first; y < end; y += label_threads / 32) smallest = min(smallest, distance[int64_t(y) * w + x]);
  atomicMin(&least[x], smallest);
}

__global__ void __launch_bounds__(label_threads)
    column_distance_kernel(int h, int w, const int* distance, const int* least, int* squared) {
  const unsigned i = blockIdx.x * label_threads + threadIdx.x;
  if (i >= unsigned(h) * unsigned(w)) return;
  const int y = int(i / unsigned(w)), x = int(i % unsigned(w));
  const auto square = [](int d) { return unsigned(d) * unsigned(d); };  // two of them fit: (H + W)^2 < 2^31
  unsigned best = square(distance[i]);
  const unsigned nearest = square(least[x]);
  for (int d = 1; square(d) + nearest < best && (d <= y || y + d < h); ++d) {
    if (d <= y) best = min(best, square(d) + square(distance[i - unsigned(d) * unsigned(w)]));
    if (y + d < h) best = min(best, square(d) + square(distance[i + unsigned(d) * unsigned(w)]));
  }
  squared[i] = int(best);
}

// ---- launchers ----------------------------------------------------------------------------------------------------------------

template <class T>
void components(const ConnectedComponents& op, const Tensor& x, const T* data, const Tensor& labels) {
  const int h = int(x.dim(0)), w = int(x.dim(1)), count = int(x.size());
  const Image<T> image{data, h, w, op.by_value, op.connectivity == 8};
  const Tensor parents(x.shape(), DType::int32, x.device()), roots(x.shape(), DType::int32, x.device());
  int* const parent = parents.device_data<int32_t>();
  const int64_t by_rows = divide_up(divide_up(w, 32) * h, label_threads / 32), blocks = divide_up(count, label_threads);
  launch({by_rows, label_threads}, find_runs_kernel<T>, image, parent);
  launch({by_rows, label_threads}, join_runs_kernel<T>, image, parent);
  launch({blocks, label_threads}, mark_roots_kernel, count, parent, roots.device_data<int32_t>());
  exclusive_scan(roots);
  launch({blocks, label_threads}, number_kernel, count, parent, roots.device_data<int32_t>(), labels.device_data<int32_t>());
}

}  // namespace

void connected_components(const ConnectedComponents& op, const Tensor& x, Tensor& labels) {
  if (x.size() == 0) return;
  if (x.dtype() == DType::int32) {
    components(op, x, x.device_data<int32_t>(), labels);
  } else {  // uint8 and boolean are one byte
    components(op, x, reinterpret_cast<const uint8_t*>(x.raw()), labels);
  }
}

void squared_distance(const SquaredDistance&, const Tensor& mask, Tensor& squared) {
  if (mask.size() == 0) return;
  const int h = int(mask.dim(0)), w = int(mask.dim(1));
  const Tensor distance(mask.shape(), DType::int32, mask.device()), least = Tensor::full({w}, h + w, DType::int32, mask.device());
  int* const along_rows = distance.device_data<int32_t>();
  launch({h, label_threads}, row_distance_kernel, w, h + w, reinterpret_cast<const uint8_t*>(mask.raw()), along_rows);
  launch({dim3(unsigned(divide_up(w, 32)), unsigned(divide_up(h, minimum_rows))), label_threads}, column_minimum_kernel, h, w,
         along_rows, least.device_data<int32_t>());
  launch({divide_up(mask.size(), label_threads), label_threads}, column_distance_kernel, h, w, along_rows,
         least.device_data<int32_t>(), squared.device_data<int32_t>());
}

}  // namespace glia::GPU_NS
