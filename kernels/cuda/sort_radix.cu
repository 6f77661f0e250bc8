// Least significant digit first, 8 bits a pass, each pass stable:
//   1. how often each digit occurs in each tile of 2048 keys, stored digit-major;
//   2. an exclusive scan of these counts: where each tile's keys of each digit begin;
//   3. each tile ranks its keys, gathers them by digit in shared memory and writes them in runs.
// The rank of a key among the equal digits before it comes from its warp: lanes of one digit find each other (__match_any_sync),
// their first adds them to the warp's counter. Warps hold consecutive keys, so the order of warps, rounds and lanes is that of the keys.
// A pass reads each key twice and writes it once.
#include "kernels/cuda/scan.cuh"
#include "kernels/cuda/sort_radix.cuh"

namespace glia::GPU_NS {
namespace {

constexpr int digits = 256, radix_threads = 256, warps = radix_threads / 32;
constexpr int rounds = 8, radix_tile = rounds * radix_threads;
static_assert(digits == radix_threads, "a thread for each digit");

// Rows of n keys in `tiles` tiles; block b has tile b % tiles of row b / tiles.
struct Rows {
  int n, tiles;
};

__device__ unsigned digit_of(Key key, int shift) { return unsigned(key >> shift) % digits; }

// Where a row's counts of a digit begin.
__device__ int64_t counts_place(const Rows& rows, unsigned digit) {
  const unsigned row = blockIdx.x / unsigned(rows.tiles), tile = blockIdx.x % unsigned(rows.tiles);
  return (int64_t(row) * digits + digit) * rows.tiles + tile;
}

__global__ void __launch_bounds__(radix_threads) count_digits_kernel(Rows rows, int shift, const Key* keys, unsigned* counts) {
  GPU_SHARED(unsigned, found, [digits]);
  found[threadIdx.x] = 0;
  __syncthreads();
  const unsigned row = blockIdx.x / unsigned(rows.tiles), tile = blockIdx.x % unsigned(rows.tiles);
  const Key* const from = keys + int64_t(row) * rows.n;
  GPU_UNROLL
  for (int round = 0; round < rounds; ++round) {
    const int i = int(tile) * radix_tile + round * radix_threads + int(threadIdx.x);
    if (i < rows.n) atomicAdd(&found[digit_of(from[i], shift)], 1u);
  }
  __syncthreads();
  counts[counts_place(rows, threadIdx.x)] = found[threadIdx.x];
}

__global__ void __launch_bounds__(radix_threads)
    move_keys_kernel(Rows rows, int shift, const Key* keys, const unsigned* starts, Key* to) {
  GPU_SHARED(Key, gathered, [radix_tile]);
  GPU_SHARED(unsigned, before, [warps][digits + 1]);  // keys of a digit in the warps, then before them; the last is for no key
  GPU_SHARED(unsigned, shift_of, [digits]);           // from a place in the tile to one in the output
  const unsigned row = blockIdx.x / unsigned(rows.tiles), tile = blockIdx.x % unsigned(rows.tiles);
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int first = int(tile) * radix_tile + int(warp) * rounds * 32 + int(lane);
  const Key* const from = keys + int64_t(row) * rows.n;
  for (unsigned w = 0; w < warps; ++w) before[w][threadIdx.x] = 0;
  if (lane == 0) before[warp][digits] = 0;
  __syncthreads();

  Key mine[rounds];
  unsigned rank[rounds];
  GPU_UNROLL
  for (int round = 0; round < rounds; ++round) {
    const int i = first + round * 32;
    mine[round] = i < rows.n ? from[i] : 0;
  }
  GPU_UNROLL
  for (int round = 0; round < rounds; ++round) {
    const unsigned digit = first + round * 32 < rows.n ? digit_of(mine[round], shift) : unsigned(digits);
    const unsigned peers = __match_any_sync(0xffffffffu, digit);
    const int leader = __ffs(int(peers)) - 1;
    unsigned counted = 0;
    if (int(lane) == leader) counted = atomicAdd(&before[warp][digit], unsigned(__popc(peers)));
    counted = __shfl_sync(0xffffffffu, counted, leader);
    rank[round] = counted + unsigned(__popc(peers & ((1u << lane) - 1)));
  }
  __syncthreads();

  const unsigned digit = threadIdx.x;
  unsigned count = 0;
  for (unsigned w = 0; w < warps; ++w) count += before[w][digit];
  unsigned place = block_exclusive_scan<radix_threads>(count);
  shift_of[digit] = starts[counts_place(rows, digit)] - place;
  for (unsigned w = 0; w < warps; ++w) {
    const unsigned of_warp = before[w][digit];
    before[w][digit] = place;
    place += of_warp;
  }
  __syncthreads();

  GPU_UNROLL
  for (int round = 0; round < rounds; ++round)
    if (first + round * 32 < rows.n) gathered[before[warp][digit_of(mine[round], shift)] + rank[round]] = mine[round];
  __syncthreads();
  for (int i = int(threadIdx.x); i < radix_tile && int(tile) * radix_tile + i < rows.n; i += radix_threads) {
    const Key key = gathered[i];
    to[shift_of[digit_of(key, shift)] + unsigned(i)] = key;
  }
}

}  // namespace

Tensor radix_sort(const Tensor& keys, int order_bits) {
  const int64_t count = keys.dim(0), n = keys.dim(1), tiles = divide_up(n, radix_tile);
  GLIA_CHECK(count * n <= INT32_MAX - radix_tile, "sort: {} elements, want fewer than 2^31 on devices", count * n);
  if (keys.size() == 0 || n == 1) return keys;
  const Rows rows{int(n), int(tiles)};
  const int64_t grid = count * tiles;
  const Tensor counts({count * digits * tiles}, DType::int32, keys.device());
  auto* const starts = reinterpret_cast<unsigned*>(counts.device_data<int32_t>());
  Tensor from = keys, to(keys.shape(), DType::int64, keys.device());
  for (int shift = 32; shift < 32 + order_bits; shift += 8) {
    launch({grid, radix_threads}, count_digits_kernel, rows, shift, keys_of(from), starts);
    exclusive_scan(counts);
    launch({grid, radix_threads}, move_keys_kernel, rows, shift, keys_of(from), starts, keys_of(to));
    std::swap(from, to);
  }
  return from;
}

}  // namespace glia::GPU_NS
