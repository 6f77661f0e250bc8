// Exclusive prefix sum of an array: sums of tiles of 1024, their prefix sums (the same again, while they are many), then each tile
// with its start. Two reads and a write of each element; no block waits for another, and integers give the same bits in any order.
#include "kernels/cuda/scan.cuh"

namespace glia::GPU_NS {
namespace {

constexpr int scan_threads = 256, scan_tile = 4 * scan_threads;

// A thread's four neighbouring elements, 0 behind the end.
__device__ uint4 load_four(const unsigned* counts, int64_t n, int64_t i) {
  if (i + 4 <= n) return *reinterpret_cast<const uint4*>(counts + i);
  return {i < n ? counts[i] : 0u, i + 1 < n ? counts[i + 1] : 0u, i + 2 < n ? counts[i + 2] : 0u, 0u};
}

__global__ void __launch_bounds__(scan_threads) tile_sums_kernel(const unsigned* counts, int64_t n, unsigned* sums) {
  const uint4 v = load_four(counts, n, int64_t(blockIdx.x) * scan_tile + 4 * threadIdx.x);
  unsigned total;
  block_exclusive_scan<scan_threads>(v.x + v.y + v.z + v.w, &total);
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

__global__ void __launch_bounds__(scan_threads) scan_tiles_kernel(unsigned* counts, int64_t n, const unsigned* starts) {
  const int64_t i = int64_t(blockIdx.x) * scan_tile + 4 * threadIdx.x;
  const uint4 v = load_four(counts, n, i);
  const unsigned start = starts ? starts[blockIdx.x] : 0u;
  const unsigned a = start + block_exclusive_scan<scan_threads>(v.x + v.y + v.z + v.w), b = a + v.x, c = b + v.y;
  if (i + 4 <= n) {
    *reinterpret_cast<uint4*>(counts + i) = {a, b, c, c + v.z};
    return;
  }
  if (i < n) counts[i] = a;
  if (i + 1 < n) counts[i + 1] = b;
  if (i + 2 < n) counts[i + 2] = c;
}

}  // namespace

void exclusive_scan(const Tensor& counts) {
  const int64_t n = counts.size(), tiles = divide_up(n, scan_tile);
  auto* const data = reinterpret_cast<unsigned*>(counts.device_data<int32_t>());
  if (tiles <= 1) {
    launch({tiles, scan_threads}, scan_tiles_kernel, data, n, nullptr);
    return;
  }
  const Tensor sums({tiles}, DType::int32, counts.device());
  auto* const starts = reinterpret_cast<unsigned*>(sums.device_data<int32_t>());
  launch({tiles, scan_threads}, tile_sums_kernel, data, n, starts);
  exclusive_scan(sums);
  launch({tiles, scan_threads}, scan_tiles_kernel, data, n, starts);
}

}  // namespace glia::GPU_NS
