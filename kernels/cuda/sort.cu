// Sort and top-k along an axis. A value becomes a 64-bit key, its order in the high half and its place on the axis in the low one, so
// keys are unique, a sort of keys is a stable sort of values, and no step's result depends on which thread came first.
//   columns up to 2048 long        bitonic sort in a block's shared memory, several short columns a block
//   longer                         radix sort (sort_radix.cu)
//   longer, up to 2048 wanted      radix select: a pass over the column for each 8 bits of the k-th key, from the top, counts the digits
//                                  of the keys that agree with it so far; it ends early when the whole bucket is wanted. Then the k
//                                  keys up to it are collected in any order, and sorted by a block. Four reads of x for values
//                                  without ties, one or two more with them.
#include "kernels/sort.h"

#include <algorithm>

#include "kernels/cuda/ordered.cuh"
#include "kernels/cuda/scan.cuh"
#include "kernels/cuda/sort_radix.cuh"

namespace glia::GPU_NS {
namespace {

constexpr int sort_threads = 256;
constexpr int block_keys = 2048;  // that a block sorts

// x (outer, n, inner) of which the first k of each column are wanted. A column is (o, c), number o inner + c.
struct Columns {
  int count, n, inner, k;
  bool descending;
  __device__ int64_t place(int column, int i, int length) const {  // of element i in a tensor (outer, length, inner)
    const int o = column / inner, c = column - o * inner;
    return (int64_t(o) * length + i) * inner + c;
  }
};

// Keys of x.
struct KeysOfValues {
  Columns columns;
  const float* x;
  __device__ Key operator()(int column, int i) const {
    const unsigned order = ordered_bits(x[columns.place(column, i, columns.n)]);
    return make_key(columns.descending ? ~order : order, unsigned(i));
  }
};

// Keys that were collected before, n a column.
struct KeysAsTheyAre {
  int n;
  const Key* keys;
  __device__ Key operator()(int column, int i) const { return keys[int64_t(column) * n + i]; }
};

__device__ void write_sorted(const Columns& columns, int column, int i, Key key, const float* x, float* values,
                             int64_t* indices) {
  const int64_t to = columns.place(column, i, columns.k);
  values[to] = x[columns.place(column, int(place_of(key)), columns.n)];
  indices[to] = place_of(key);
}

// Bitonic sort of `size` keys (a power of two) a column, of which `n` exist; a block takes as many columns as it has room for.
template <class Source>
__global__ void __launch_bounds__(sort_threads)
    sort_in_block_kernel(Columns columns, Source source, int n, int size, const float* x, float* values, int64_t* indices) {
  GPU_SHARED(Key, keys, [block_keys]);
  const int in_block = min(block_keys / size, columns.count), first = int(blockIdx.x) * in_block, all = in_block * size;
  for (int j = int(threadIdx.x); j < all; j += sort_threads) {
    // Neighbouring threads take neighbouring addresses: along the column, or across columns.
    const int column = columns.inner == 1 ? j / size : j % in_block, i = columns.inner == 1 ? j % size : j / in_block;
    keys[column * size + i] = i < n && first + column < columns.count ? source(first + column, i) : ~Key(0);
  }
  for (int run = 2; run <= size; run *= 2) {
    for (int step = run / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int pair = int(threadIdx.x); pair < all / 2; pair += sort_threads) {
        const int i = 2 * pair - (pair & (step - 1)), j = i + step;
        const bool up = (i & (size - 1) & run) == 0;
        const Key a = keys[i], b = keys[j];
        if ((a > b) == up) {
          keys[i] = b;
          keys[j] = a;
        }
      }
    }
  }
  __syncthreads();
  for (int j = int(threadIdx.x); j < in_block * columns.k; j += sort_threads) {
    const int column = columns.inner == 1 ? j / columns.k : j % in_block, i = columns.inner == 1 ? j % columns.k : j / in_block;
    if (first + column < columns.count) write_sorted(columns, first + column, i, keys[column * size + i], x, values, indices);
  }
}

__global__ void __launch_bounds__(sort_threads) make_keys_kernel(KeysOfValues source, Key* keys) {
  const unsigned at = blockIdx.x * sort_threads + threadIdx.x, n = unsigned(source.columns.n);
  if (at < unsigned(source.columns.count) * n) keys[at] = source(int(at / n), int(at % n));
}

__global__ void __launch_bounds__(sort_threads)
    write_sorted_kernel(Columns columns, const Key* keys, const float* x, float* values, int64_t* indices) {
  const unsigned at = blockIdx.x * sort_threads + threadIdx.x, k = unsigned(columns.k);
  if (at >= unsigned(columns.count) * k) return;
  const int column = int(at / k), i = int(at % k);
  write_sorted(columns, column, i, keys[int64_t(column) * columns.n + i], x, values, indices);
}

// ---- radix select -------------------------------------------------------------------------------------------------------------

constexpr int digits = 256;
static_assert(digits == sort_threads, "a thread for each digit");

// What is known of a column's k-th key: its digits so far, and how many of the keys that share them are wanted. Once that is all of
// them, `wanted` is 0 and the key the largest of them. 16 bytes, zero before the first pass.
struct Threshold {
  Key key;
  unsigned wanted, found;
};

// Zero before each pass: how often each digit was counted; blocks that have finished; keys collected.
struct Counters {
  unsigned digit[digits];
  unsigned finished, collected;
};

// Pass over the digit at `shift`; `blocks` a column. The last block of a column to finish picks the digit.
__global__ void __launch_bounds__(sort_threads)
    select_digit_kernel(KeysOfValues source, int blocks, int shift, const Threshold* before, Threshold* after,
                        Counters* counters) {
  GPU_SHARED(unsigned, found, [digits]);
  GPU_SHARED(bool, last, [1]);
  const int column = int(blockIdx.x) / blocks, part = int(blockIdx.x) % blocks, digit = int(threadIdx.x);
  const bool at_top = shift == 56;
  Threshold known = before[column];
  if (at_top) known.wanted = unsigned(source.columns.k);
  if (known.wanted == 0) {
    if (part == 0 && digit == 0) after[column] = known;
    return;
  }
  found[digit] = 0;
  __syncthreads();
  for (int i = part * sort_threads + digit; i < source.columns.n; i += blocks * sort_threads) {
    const Key key = source(column, i);
    if (at_top || key >> (shift + 8) == known.key >> (shift + 8)) atomicAdd(&found[key >> shift & 255], 1u);
  }
  __syncthreads();
  Counters& of_column = counters[column];
  if (found[digit]) atomicAdd(&of_column.digit[digit], found[digit]);
  __threadfence();
  __syncthreads();
  if (digit == 0) last[0] = atomicAdd(&of_column.finished, 1u) == unsigned(blocks - 1);
  __syncthreads();
  if (!last[0]) return;
  __threadfence();

  const unsigned count = __ldcg(&of_column.digit[digit]), below = block_exclusive_scan<sort_threads>(count);
  of_column.digit[digit] = 0;
  if (digit == 0) atomicExch(&of_column.finished, 0u);
  if (below < known.wanted && known.wanted <= below + count) {
    known.key |= Key(digit) << shift;
    known.wanted -= below;
    if (known.wanted == count) {
      known.key |= (Key(1) << shift) - 1;
      known.wanted = 0;
    }
    after[column] = known;
  }
}

__global__ void __launch_bounds__(sort_threads)
    collect_kernel(KeysOfValues source, int blocks, const Threshold* thresholds, Counters* counters, Key* selected) {
  const int column = int(blockIdx.x) / blocks, part = int(blockIdx.x) % blocks;
  const Key threshold = thresholds[column].key;
  for (int i = part * sort_threads + int(threadIdx.x); i < source.columns.n; i += blocks * sort_threads) {
    const Key key = source(column, i);
    if (key <= threshold) selected[int64_t(column) * source.columns.k + atomicAdd(&counters[column].collected, 1u)] = key;
  }
}

// ---- gradients ----------------------------------------------------------------------------------------------------------------

// dx (outer, n, inner) at the indices (outer, k, inner): no two are the same.
__global__ void __launch_bounds__(sort_threads)
    put_back_kernel(int count, int n, int k, int inner, const int64_t* indices, const float* dvalues, float* dx) {
  const unsigned i = blockIdx.x * sort_threads + threadIdx.x;
  if (i >= unsigned(count)) return;
  const unsigned o = i / unsigned(k * inner), c = i % unsigned(inner);
  dx[(int64_t(o) * n + indices[i]) * inner + c] = dvalues[i];
}

// ---- launchers ----------------------------------------------------------------------------------------------------------------

int64_t blocks_for(int64_t threads) { return divide_up(threads, sort_threads); }

int bits_of(int64_t largest) {
  int bits = 0;
  while (largest >> bits) ++bits;
  return bits;
}

// Sorts the k smallest keys of each column, wherever they come from, n a column.
template <class Source>
void sort_in_blocks(const Columns& columns, const Source& source, int n, const float* x, float* values, int64_t* indices) {
  int size = 1;
  while (size < n) size *= 2;
  const int in_block = std::min(block_keys / size, columns.count);
  launch({divide_up(columns.count, in_block), sort_threads}, sort_in_block_kernel<Source>, columns, source, n, size, x, values,
         indices);
}

// The k smallest keys of each column, in no order: (columns, k).
Tensor select_keys(const KeysOfValues& source, Device device) {
  const Columns& columns = source.columns;
  const int parts = int(std::clamp<int64_t>(132 * 8 / columns.count, 1, divide_up(columns.n, 4 * sort_threads)));
  const int grid = columns.count * parts;
  const Tensor thresholds = Tensor::zeros({2, columns.count, int64_t(sizeof(Threshold))}, DType::uint8, device);
  const Tensor counts = Tensor::zeros({columns.count, int64_t(sizeof(Counters))}, DType::uint8, device);
  const Tensor selected({columns.count, columns.k}, DType::int64, device);
  auto* before = reinterpret_cast<Threshold*>(thresholds.raw());
  auto* after = before + columns.count;
  auto* const counters = reinterpret_cast<Counters*>(counts.raw());
  const int place_bytes = int(divide_up(bits_of(columns.n - 1), 8));
  for (int shift = 56; shift >= 0; shift -= 8) {
    if (shift < 32 && shift >= 8 * place_bytes) continue;  // zero in every place
    launch({grid, sort_threads}, select_digit_kernel, source, parts, shift, before, after, counters);
    std::swap(before, after);
  }
  launch({grid, sort_threads}, collect_kernel, source, parts, before, counters, keys_of(selected));
  return selected;
}

void sorted(const Tensor& x, int given_axis, int64_t k, bool descending, const Tensor& values, const Tensor& indices) {
  const int axis = normalize_axis(given_axis, x.rank(), "sort");
  if (indices.size() == 0) return;
  GLIA_CHECK(x.size() <= INT32_MAX - block_keys, "sort: x is {}, want fewer elements than 2^31 on devices", x.shape());
  const int n = int(x.dim(axis));
  const Columns columns{.count = int(x.size() / n),
                        .n = n,
                        .inner = int(x.shape().product(axis + 1, x.rank())),
                        .k = int(k),
                        .descending = descending};
  const float* const from = x.device_data<float>();
  float* const to = values.device_data<float>();
  int64_t* const at = indices.device_data<int64_t>();
  const KeysOfValues source{columns, from};
  if (n <= block_keys) return sort_in_blocks(columns, source, n, from, to, at);
  if (k <= block_keys) {
    const Tensor selected = select_keys(source, x.device());
    return sort_in_blocks(columns, KeysAsTheyAre{columns.k, keys_of(selected)}, columns.k, from, to, at);
  }
  const Tensor keys({columns.count, n}, DType::int64, x.device());
  launch({blocks_for(x.size()), sort_threads}, make_keys_kernel, source, keys_of(keys));
  const Tensor in_order = radix_sort(keys, 32);
  launch({blocks_for(indices.size()), sort_threads}, write_sorted_kernel, columns, keys_of(in_order), from, to, at);
}

void sorted_backward(int given_axis, const Tensor& indices, const Tensor& dvalues, const Tensor& dx) {
  const int axis = normalize_axis(given_axis, dx.rank(), "sort");
  const int64_t n = dx.dim(axis), k = indices.dim(axis), inner = dx.shape().product(axis + 1, dx.rank());
  if (k < n) dx.fill(0);
  if (indices.size() == 0) return;
  GLIA_CHECK(dx.size() <= INT32_MAX, "sort_backward: x is {}, want fewer elements than 2^31 on devices", dx.shape());
  launch({blocks_for(indices.size()), sort_threads}, put_back_kernel, int(indices.size()), int(n), int(k), int(inner),
         indices.device_data<int64_t>(), dvalues.device_data<float>(), dx.device_data<float>());
}

}  // namespace

void sort(const Sort& op, const Tensor& x, Tensor& values, Tensor& indices) {
  sorted(x, op.axis, x.dim(normalize_axis(op.axis, x.rank(), "sort")), op.descending, values, indices);
}
void sort_backward(const Sort& op, const Tensor&, const Tensor&, const Tensor& indices, const Tensor& dvalues, Tensor* dx) {
  if (dx) sorted_backward(op.axis, indices, dvalues, *dx);
}

void topk(const TopK& op, const Tensor& x, Tensor& values, Tensor& indices) {
  sorted(x, op.axis, op.k, op.largest, values, indices);
}
void topk_backward(const TopK& op, const Tensor&, const Tensor&, const Tensor& indices, const Tensor& dvalues, Tensor* dx) {
  if (dx) sorted_backward(op.axis, indices, dvalues, *dx);
}

}  // namespace glia::GPU_NS
