// Adding at indices, of which any may be the same: y[index[i]] += src[i], summed in an order that depends on the indices alone.
//   few indices (up to 16 on the axis)   each element of y looks through all of them
//   more                                 keys (place in y, place in src) are sorted (sort_radix.cuh): equal places in y become
//                                        neighbours, in the order of src, and the thread of the first adds them up
// So that an index that occurs a million times does not keep one thread busy, sums end at every 64th place of the sorted list; what
// is left of a run behind that goes to a scratch row, and a second kernel adds these up. An index for each element is the same with y
// and src seen as lists of elements.
#include "kernels/cuda/index.cuh"
#include "kernels/cuda/lanes.cuh"
#include "kernels/cuda/sort_radix.cuh"

namespace glia::GPU_NS {
namespace {

constexpr unsigned few_indices = 16;
constexpr unsigned piece = 64;

// src (outer, m, units) to y (outer, size, units); units are groups of lanes.
struct Add {
  unsigned outer, m, size, units;
};

template <int N>
__device__ void add_lanes(Lanes<float, N>& sum, const Lanes<float, N>& value) {
  GPU_UNROLL
  for (int l = 0; l < N; ++l) sum.v[l] += value.v[l];
}

template <int N>
__global__ void __launch_bounds__(index_threads)
    add_few_kernel(Add g, bool per_element, const int64_t* index, const Lanes<float, N>* src, const Lanes<float, N>* base,
                   Lanes<float, N>* y) {
  const unsigned e = index_thread();
  if (e >= g.outer * g.size * g.units) return;
  const unsigned row = e / g.units, u = e % g.units, o = row / g.size, k = row % g.size;
  Lanes<float, N> sum = filled<N>(0.0f);
  for (unsigned i = 0; i < g.m; ++i) {
    const int64_t from = int64_t(o * g.m + i) * g.units + u;
    if (checked_index(index[per_element ? from : i], g.size) == k) add_lanes(sum, src[from]);
  }
  if (base) add_lanes(sum, base[e]);
  y[e] = sum;
}

__global__ void __launch_bounds__(index_threads) element_keys_kernel(Add g, const int64_t* index, Key* keys) {
  const unsigned e = index_thread();
  if (e >= g.outer * g.m * g.units) return;
  const unsigned o = e / (g.m * g.units), u = e % g.units;
  keys[e] = make_key((o * g.size + unsigned(checked_index(index[e], g.size))) * g.units + u, e);
}

__global__ void __launch_bounds__(index_threads) list_keys_kernel(unsigned m, unsigned size, const int64_t* index, Key* keys) {
  const unsigned i = index_thread();
  if (i < m) keys[i] = make_key(unsigned(checked_index(index[i], size)), i);
}

// Thread (o, p, unit) adds the run that begins at place p of the sorted list, or the rest of a run that begins earlier where p begins
// a piece; to the piece's end.
template <int N>
__global__ void __launch_bounds__(index_threads)
    add_pieces_kernel(Add g, const Key* keys, const Lanes<float, N>* src, Lanes<float, N>* rests, Lanes<float, N>* y) {
  const unsigned e = index_thread();
  if (e >= g.outer * g.m * g.units) return;
  const unsigned row = e / g.units, u = e % g.units, o = row / g.m, p = row % g.m, at = order_of(keys[p]);
  const bool begins = p == 0 || order_of(keys[p - 1]) != at;
  if (!begins && p % piece) return;
  const unsigned end = min((p / piece + 1) * piece, g.m);
  Lanes<float, N> sum = filled<N>(0.0f);
  for (unsigned q = p; q < end; ++q) {
    const Key key = keys[q];
    if (order_of(key) != at) break;
    add_lanes(sum, src[(int64_t(o) * g.m + place_of(key)) * g.units + u]);
  }
  if (begins) {
    auto* const to = y + (int64_t(o) * g.size + at) * g.units + u;
    add_lanes(sum, *to);
    *to = sum;
  } else {
    const unsigned pieces = (g.m + piece - 1) / piece;
    rests[(int64_t(o) * pieces + p / piece) * g.units + u] = sum;
  }
}

// Thread (o, b, unit) where piece b begins with the first rest of a run: adds that and the following ones.
template <int N>
__global__ void __launch_bounds__(index_threads)
    add_rests_kernel(Add g, const Key* keys, const Lanes<float, N>* rests, Lanes<float, N>* y) {
  const unsigned e = index_thread(), pieces = (g.m + piece - 1) / piece;
  if (e >= g.outer * pieces * g.units) return;
  const unsigned row = e / g.units, u = e % g.units, o = row / pieces, b = row % pieces, p = b * piece, at = order_of(keys[p]);
  const auto begins_with_rest = [&](unsigned q) { return q > 0 && order_of(keys[q]) == at && order_of(keys[q - 1]) == at; };
  if (!begins_with_rest(p) || begins_with_rest(p - piece)) return;
  auto* const to = y + (int64_t(o) * g.size + at) * g.units + u;
  Lanes<float, N> sum = *to;
  for (unsigned q = b; q < pieces && order_of(keys[q * piece]) == at; ++q)
    add_lanes(sum, rests[(int64_t(o) * pieces + q) * g.units + u]);
  *to = sum;
}

// ---- launchers ----------------------------------------------------------------------------------------------------------------

int64_t elements(const Add& g) { return int64_t(g.outer) * g.m * g.units; }

// Keys in order of (place on the axis, place in the list).
Tensor sorted_keys(const Add& g, const Tensor& index, bool per_element) {
  const Tensor keys({1, index.size()}, DType::int64, index.device());
  const int64_t places = per_element ? int64_t(g.outer) * g.size * g.units : g.size;
  if (per_element) {
    launch({index_grid(elements(g)), index_threads}, element_keys_kernel, g, index.device_data<int64_t>(), keys_of(keys));
  } else {
    launch({index_grid(g.m), index_threads}, list_keys_kernel, g.m, g.size, index.device_data<int64_t>(), keys_of(keys));
  }
  int bits = 0;
  while ((places - 1) >> bits) ++bits;
  return radix_sort(keys, bits);
}

template <int N>
void add_sorted(const Add& g, const Tensor& keys, const Tensor& src, const Tensor& y) {
  const int64_t pieces = divide_up(g.m, piece);
  const Tensor rests({g.outer * pieces * g.units * N}, DType::float32, y.device());
  launch({index_grid(elements(g)), index_threads}, add_pieces_kernel<N>, g, keys_of(keys), lanes_of<float, N>(src),
         lanes_of<float, N>(rests), lanes_of<float, N>(y));
  if (pieces > 1)
    launch({index_grid(g.outer * pieces * g.units), index_threads}, add_rests_kernel<N>, g, keys_of(keys),
           lanes_of<float, N>(rests), lanes_of<float, N>(y));
}

}  // namespace

void add_at(const AxisView& axis, const Tensor& index, bool per_element, const Tensor& src, const Tensor& base, const Tensor& y) {
  GLIA_CHECK(std::max(y.size(), src.size()) <= INT32_MAX, "index: {} and {}, want fewer than 2^31 elements on devices",
             src.shape(), y.shape());
  const int64_t m = src.size() == 0 ? 0 : per_element ? src.size() / (axis.outer * axis.inner) : index.size();
  const bool few = m > 0 && m <= few_indices;
  if (!few && base) y.copy_from(base);
  if (!few && !base) y.fill(0);
  if (m == 0 || y.size() == 0) return;
  const auto add = [&](int64_t lanes) {
    return Add{unsigned(axis.outer), unsigned(m), unsigned(axis.size), unsigned(axis.inner / lanes)};
  };
  if (!few && per_element) {
    const Add elementwise{1, unsigned(src.size()), unsigned(y.size()), 1};
    return add_sorted<1>(elementwise, sorted_keys(add(1), index, true), src, y);
  }
  const Tensor& start = base ? base : y;
  with_float_lanes(
      per_element ? 1 : axis.inner,
      [&](auto lanes) {
        constexpr int N = lanes;
        const Add g = add(N);
        if (!few) return add_sorted<N>(g, sorted_keys(g, index, false), src, y);
        launch({index_grid(y.size() / N), index_threads}, add_few_kernel<N>, g, per_element, index.device_data<int64_t>(),
               lanes_of<float, N>(src), base ? lanes_of<float, N>(base) : nullptr, lanes_of<float, N>(y));
      },
      src, start, y);
}

}  // namespace glia::GPU_NS
