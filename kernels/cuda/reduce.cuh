#pragma once
// Reductions in a fixed order: of a warp's lanes, of a block's threads, of teams of neighbouring threads, and of a whole index
// range. What is gathered is an accumulator: a trivially copyable struct with
//   static A none();                the neutral element
//   void merge(const A& later);     what comes behind is taken in
// so that several sums, a maximum and its position, or mean and variance are gathered in one pass:
//
//   struct Dice { float both, sum;  static Dice none() { return {0, 0}; }  void merge(const Dice& o) { both += o.both, ... } };
//
// Lanes merge by shuffles, left operand first, so every lane ends with the same bits; warps merge in their order through shared
// memory; blocks leave partial results that one block of a second launch merges. No atomics: the same bits in every run.
#include <algorithm>

#include "kernels/cuda/launch.cuh"

namespace glia::GPU_NS {

// ---- accumulators ------------------------------------------------------------------------------------------------------------

template <class T>
struct Total {
  T sum;
  __device__ static Total none() { return {T(0)}; }
  __device__ void merge(const Total& later) { sum += later.sum; }
};

// Of floats; numbers win over NaN, as with fmaxf.
struct Largest {
  float value;
  __device__ static Largest none() { return {-INFINITY}; }
  __device__ void merge(const Largest& later) { value = fmaxf(value, later.value); }
};

template <class A, class B>
struct Both {
  A first;
  B second;
  __device__ static Both none() { return {A::none(), B::none()}; }
  __device__ void merge(const Both& later) { first.merge(later.first), second.merge(later.second); }
};

// Mean and sum of squared distances from it (Welford 1962; merging: Chan, Golub and LeVeque 1979).
struct Welford {
  float count, mean, squares;
  __device__ static Welford none() { return {0, 0, 0}; }
  __device__ void add(float x) {
    count += 1;
    const float d = x - mean;
    mean += d / count;
    squares += d * (x - mean);
  }
  __device__ void merge(const Welford& later) {
    const float n = count + later.count, share = n > 0 ? later.count / n : 0.0f, d = later.mean - mean;
    mean += d * share;
    squares += later.squares + d * d * count * share;
    count = n;
  }
};

// ---- lanes and threads -------------------------------------------------------------------------------------------------------

constexpr unsigned all_lanes = 0xffffffffu;

// The value of the lane whose number differs in the bits of `lanes`: any trivially copyable type, word by word.
template <class T>
__device__ T shuffle_xor(const T& value, int lanes) {
  static_assert(sizeof(T) % 4 == 0);
  unsigned words[sizeof(T) / 4];
  memcpy(words, &value, sizeof(T));
  GPU_UNROLL
  for (unsigned& word : words) word = __shfl_xor_sync(all_lanes, word, lanes);
  T other;
  memcpy(&other, words, sizeof(T));
  return other;
}

// Merges over `team` neighbouring threads of a block, a power of two; all get the result. Every thread of the block calls it.
// `parts` is shared memory that teams of more than a warp use: a second call needs another array, or a barrier before it.
template <class A>
__device__ A merge_team(A mine, int team, A (&parts)[32]) {
  const int tid = int(threadIdx.x), lane = tid % 32, warp = tid / 32;
  const int within = team < 32 ? team : 32;
  for (int d = 1; d < within; d *= 2) {
    A other = shuffle_xor(mine, d);
    if (lane & d) {
      other.merge(mine);
      mine = other;
    } else {
      mine.merge(other);
    }
  }
  if (team <= 32) return mine;
  if (lane == 0) parts[warp] = mine;
  __syncthreads();
  const int warps = team / 32, first = warp / warps * warps;
  mine = parts[first];
  for (int i = 1; i < warps; ++i) mine.merge(parts[first + i]);
  return mine;
}

template <class A>
__device__ A merge_warp(A mine) {
  GPU_UNROLL
  for (int d = 1; d < 32; d *= 2) {
    A other = shuffle_xor(mine, d);
    if (threadIdx.x & unsigned(d)) {
      other.merge(mine);
      mine = other;
    } else {
      mine.merge(other);
    }
  }
  return mine;
}

// Over the whole block, whose size is a multiple of 32; all threads get the result. `parts` as in merge_team.
template <class A>
__device__ A merge_block(A mine, A (&parts)[32]) {
  mine = merge_warp(mine);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = mine;
  __syncthreads();
  mine = parts[0];
  for (unsigned i = 1; i < blockDim.x / 32; ++i) mine.merge(parts[i]);
  return mine;
}

// ---- an index range ----------------------------------------------------------------------------------------------------------

constexpr int reduce_threads = 256;

// Blocks that gather [0, n), from n alone: 8 elements a thread, and enough to fill any device.
inline int reduce_blocks(int64_t n) { return int(std::clamp<int64_t>(divide_up(n, reduce_threads * 8), 1, 132 * 8)); }

// Block b of reduce_blocks gathers its indices by add(accumulator, i). A single block finishes, several leave partial results.
template <class A, class Add, class Finish>
__global__ void __launch_bounds__(reduce_threads) gather_kernel(Add add, int64_t n, Finish finish, A* partials) {
  GPU_SHARED(A, parts, [32]);
  A mine = A::none();
  const int64_t step = int64_t(gridDim.x) * reduce_threads;
  int64_t i = int64_t(blockIdx.x) * reduce_threads + threadIdx.x;
  for (; i + 3 * step < n; i += 4 * step) {  // the loads of four indices are under way together
    A four[4] = {A::none(), A::none(), A::none(), A::none()};
    GPU_UNROLL
    for (int j = 0; j < 4; ++j) add(four[j], i + j * step);
    GPU_UNROLL
    for (int j = 0; j < 4; ++j) mine.merge(four[j]);
  }
  for (; i < n; i += step) add(mine, i);
  mine = merge_block(mine, parts);
  if (threadIdx.x != 0) return;
  if (gridDim.x == 1) {
    finish(mine);
  } else {
    partials[blockIdx.x] = mine;
  }
}

template <class A, class Finish>
__global__ void __launch_bounds__(reduce_threads) merge_partials_kernel(const A* partials, int count, Finish finish) {
  GPU_SHARED(A, parts, [32]);
  A mine = A::none();
  for (int i = int(threadIdx.x); i < count; i += reduce_threads) mine.merge(partials[i]);
  mine = merge_block(mine, parts);
  if (threadIdx.x == 0) finish(mine);
}

// Gathers [0, n) by add(A& accumulator, int64_t i) and hands the result to finish(A), which one thread runs: both are functors
// with a __device__ operator() const. For kernels that do more per element, merge_block, reduce_blocks and merge_partials_kernel
// are there.
template <class A, class Add, class Finish>
void reduce_range(int64_t n, const Add& add, const Finish& finish, Device device) {
  const int blocks = reduce_blocks(n);
  const Tensor partials({blocks * int64_t(sizeof(A))}, DType::uint8, device);
  A* const at = reinterpret_cast<A*>(partials.raw());
  launch({unsigned(blocks), reduce_threads}, gather_kernel<A, Add, Finish>, add, n, finish, at);
  if (blocks > 1) launch({1, reduce_threads}, merge_partials_kernel<A, Finish>, at, blocks, finish);
}

}  // namespace glia::GPU_NS
