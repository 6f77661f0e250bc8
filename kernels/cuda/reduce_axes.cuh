#pragma once
// Reductions of a tensor over some of its axes, and maps whose terms are constant along those axes: kernels over (outputs, n),
// where output o has n elements at base(o) + offset(r). Blocks have 256 threads: `across` outputs times a `team` of threads for
// each. If the innermost axis is reduced, a team are neighbouring threads; if it is kept, neighbouring outputs are; so either way
// a warp reads neighbouring addresses. Few outputs of many elements are cut into chunks, which leave partial results
// [chunk][output] that a second launch merges. Bound by memory: up to 64 bytes of a thread's loads are under way at a time.
//
// What is done to the elements is a source: source.line(base, o) gives what is constant for an output (read once a thread), with
//   Value load(int64_t at) const;                           the element at that address
//   void add(Accumulator&, Value, int64_t r) const;         of a reduction, r growing
//   void store(int64_t at, Value, int64_t r) const;         of a map
#include "kernels/cuda/reduce.cuh"

namespace glia::GPU_NS {

constexpr int axes_threads = 256;
constexpr int max_runs = 3;  // of 6 axes, neighbours of one kind counting as one

// Offsets of an index over up to three axes, outermost first.
struct Runs {
  int count = 0;
  int64_t size[max_runs] = {1, 1, 1}, stride[max_runs] = {0, 0, 0};

  void push_back(int64_t axis_size, int64_t axis_stride) {
    size[count] = axis_size, stride[count] = axis_stride;
    ++count;
  }
  int64_t total() const { return size[0] * size[1] * size[2]; }
  __device__ int64_t offset(int64_t i) const {
    int64_t at = 0;
    GPU_UNROLL
    for (int k = max_runs - 1; k > 0; --k) {
      if (k >= count) continue;
      const int64_t rest = i / size[k];
      at += (i - rest * size[k]) * stride[k];
      i = rest;
    }
    return at + i * stride[0];
  }
};

// Outputs and the elements of each.
struct Extent {
  Runs kept, reduced;
  int64_t outputs() const { return kept.total(); }
  int64_t n() const { return reduced.total(); }
  bool reduced_innermost() const { return kept.count == 0 || (reduced.count > 0 && reduced.stride[reduced.count - 1] == 1); }
};

// How an extent is cut into blocks and chunks, from its sizes alone.
struct Split {
  int across = 1, team = axes_threads;
  bool neighbours_reduce = false;
  int64_t chunk = 0, chunks = 1;

  // `each` elements a thread at least, where there are so many.
  Split(const Extent& e, int64_t each, bool may_chunk) : neighbours_reduce(e.reduced_innermost()) {
    const int64_t n = std::max<int64_t>(e.n(), 1), wanted = std::clamp<int64_t>(divide_up(n, each), 1, axes_threads);
    if (neighbours_reduce) {
      for (team = 1; team < wanted; team *= 2) {
      }
      across = axes_threads / team;
    } else {
      const int64_t inner = e.kept.size[e.kept.count - 1];
      across = int(std::max<int64_t>(1, std::min(inner, std::max<int64_t>(axes_threads / wanted, 32))));
      team = int(std::min<int64_t>(axes_threads / across, wanted));
    }
    if (may_chunk) {
      const int64_t blocks = std::max<int64_t>(1, divide_up(e.outputs(), across));
      chunks = std::clamp<int64_t>(132 * 8 / blocks, 1, divide_up(n, team * each));
    }
    chunk = divide_up(divide_up(n, chunks), team) * team;
    chunks = divide_up(n, chunk);
  }
  gpu::LaunchShape shape(const Extent& e) const {
    return {dim3(unsigned(divide_up(e.outputs(), across)), unsigned(chunks)), axes_threads};
  }
};

// The running thread's output, and its first element and the end of its chunk.
struct Place {
  int column, lane;
  int64_t o, begin, end;
  bool active;
  __device__ Place(const Extent& e, const Split& s) {
    const int tid = int(threadIdx.x);
    column = s.neighbours_reduce ? tid / s.team : tid % s.across;
    lane = s.neighbours_reduce ? tid % s.team : tid / s.across;
    o = int64_t(blockIdx.x) * s.across + column;
    const int64_t n = e.reduced.size[0] * e.reduced.size[1] * e.reduced.size[2], first = int64_t(blockIdx.y) * s.chunk;
    begin = first + lane;
    end = first + s.chunk < n ? first + s.chunk : n;
    active = lane < s.team && o < e.kept.size[0] * e.kept.size[1] * e.kept.size[2];
  }
};

// use(at, value, r) for the elements begin, begin + step ... of a line, in this order.
template <class Line, class Use>
__device__ void for_each_element(const Line& line, int64_t base, const Runs& runs, int64_t begin, int64_t end, int step,
                                 const Use& use) {
  using Value = decltype(line.load(base));
  constexpr int batch = sizeof(Value) >= 32 ? 2 : sizeof(Value) >= 16 ? 4 : 8;
  const auto walk = [&](const auto& offset) {
    int64_t r = begin;
    for (; r + (batch - 1) * step < end; r += batch * step) {
      Value values[batch];
      GPU_UNROLL
      for (int j = 0; j < batch; ++j) values[j] = line.load(base + offset(r + j * step));
      GPU_UNROLL
      for (int j = 0; j < batch; ++j) use(base + offset(r + j * step), values[j], r + j * step);
    }
    for (; r < end; r += step) use(base + offset(r), line.load(base + offset(r)), r);
  };
  if (runs.count <= 1) {
    walk([stride = runs.stride[0]](int64_t r) { return r * stride; });
  } else {
    walk([&runs](int64_t r) { return runs.offset(r); });
  }
}

// Merges a column of a block's (team, across) accumulators into lane 0, whose threads are `across` apart.
template <class A>
__device__ A merge_strided(A mine, int column, int lane, int across, int team, A (&parts)[axes_threads]) {
  const bool member = lane < team;
  int half = 1;
  while (half < team) half *= 2;
  for (half /= 2; half > 0; half /= 2) {
    if (member && lane >= half && lane < 2 * half) parts[lane * across + column] = mine;
    __syncthreads();
    if (lane < half && lane + half < team) mine.merge(parts[(lane + half) * across + column]);
  }
  return mine;
}

template <class Source, class Finish>
__global__ void __launch_bounds__(axes_threads, 3) reduce_axes_kernel(Source source, Extent extent, Split split, Finish finish) {
  using A = typename Source::Accumulator;
  GPU_SHARED(A, of_warps, [32]);
  GPU_SHARED(A, of_threads, [axes_threads]);
  const Place p(extent, split);
  A mine = A::none();
  if (p.active) {
    const int64_t base = extent.kept.offset(p.o);
    const auto line = source.line(base, p.o);
    for_each_element(line, base, extent.reduced, p.begin, p.end, split.team,
                     [&](int64_t, const auto& value, int64_t r) { line.add(mine, value, r); });
  }
  mine = split.neighbours_reduce ? merge_team(mine, split.team, of_warps)
                                 : merge_strided(mine, p.column, p.lane, split.across, split.team, of_threads);
  if (p.active && p.lane == 0)
    finish(int64_t(blockIdx.y) * extent.kept.size[0] * extent.kept.size[1] * extent.kept.size[2] + p.o, mine);
}

template <class Source>
__global__ void __launch_bounds__(axes_threads, 3) map_axes_kernel(Source source, Extent extent, Split split) {
  const Place p(extent, split);
  if (!p.active) return;
  const int64_t base = extent.kept.offset(p.o);
  const auto line = source.line(base, p.o);
  for_each_element(line, base, extent.reduced, p.begin, p.end, split.team,
                   [&](int64_t at, const auto& value, int64_t r) { line.store(at, value, r); });
}

// ---- launchers ---------------------------------------------------------------------------------------------------------------

template <class A>
struct StorePartial {
  A* to;
  __device__ void operator()(int64_t i, const A& a) const { to[i] = a; }
};

// Merges accumulators.
template <class A>
struct PartialSource {
  using Accumulator = A;
  const A* from;
  __device__ PartialSource line(int64_t, int64_t) const { return *this; }
  __device__ A load(int64_t at) const { return from[at]; }
  __device__ void add(A& to, const A& a, int64_t) const { to.merge(a); }
};

// Partial results [chunk][output] of a reduction, for a second one.
template <class A>
struct Partials {
  Tensor memory;
  int64_t chunks, outputs;
  const A* data() const { return reinterpret_cast<const A*>(memory.raw()); }
};

template <class Source>
Partials<typename Source::Accumulator> partial_reductions(const Source& source, const Extent& e, Device device) {
  using A = typename Source::Accumulator;
  const Split split(e, 8, true);
  Partials<A> p{Tensor({split.chunks * e.outputs() * int64_t(sizeof(A))}, DType::uint8, device), split.chunks, e.outputs()};
  launch(split.shape(e), reduce_axes_kernel<Source, StorePartial<A>>, source, e, split,
         StorePartial<A>{reinterpret_cast<A*>(p.memory.raw())});
  return p;
}

// A reduction in one launch, for lines that are short or many.
template <class Source, class Finish>
void reduce_lines(const Source& source, const Extent& e, const Finish& finish) {
  const Split split(e, 8, false);
  launch(split.shape(e), reduce_axes_kernel<Source, Finish>, source, e, split, finish);
}

// finish(o, accumulator) for every output o.
template <class Source, class Finish>
void reduce_axes(const Source& source, const Extent& e, const Finish& finish, Device device) {
  using A = typename Source::Accumulator;
  if (Split(e, 8, true).chunks == 1) return reduce_lines(source, e, finish);
  const Partials<A> p = partial_reductions(source, e, device);
  Extent merge;
  merge.kept.push_back(p.outputs, 1);
  merge.reduced.push_back(p.chunks, p.outputs);
  reduce_lines(PartialSource<A>{p.data()}, merge, finish);
}

template <class Source>
void map_axes(const Source& source, const Extent& e) {
  if (e.n() == 0) return;
  const Split split(e, e.n() < 128 ? 1 : 4, true);
  launch(split.shape(e), map_axes_kernel<Source>, source, e, split);
}

// (rows, columns), row-major, reduced over the rows or over the columns.
inline Extent over_rows(int64_t rows, int64_t columns) {
  Extent e;
  e.kept.push_back(columns, 1);
  e.reduced.push_back(rows, columns);
  return e;
}
inline Extent over_columns(int64_t rows, int64_t columns) {
  Extent e;
  e.kept.push_back(rows, columns);
  e.reduced.push_back(columns, 1);
  return e;
}

// ---- sources and finishes of several files ------------------------------------------------------------------------------------

// Of tensors that may be absent.
inline float* data_or_null(const Tensor& t) { return t ? t.device_data<float>() : nullptr; }
inline float* data_or_null(const Tensor* t) { return t ? t->device_data<float>() : nullptr; }

// The elements of x as they are, summed in double.
struct Values {
  using Accumulator = Total<double>;
  const float* x;
  __device__ Values line(int64_t, int64_t) const { return *this; }
  __device__ float load(int64_t at) const { return x[at]; }
  __device__ void add(Accumulator& a, float v, int64_t) const { a.sum += double(v); }
};

struct StoreScaled {
  float* y;
  double factor;
  __device__ void operator()(int64_t o, const Total<double>& a) const { y[o] = float(factor * a.sum); }
};

// Sums of d and d^2, d = x - k with k the line's first element: (sum d^2 - (sum d)^2 / n) loses no digits that x has.
struct Deviations {
  using Accumulator = Both<Total<double>, Total<double>>;
  const float* x;
  bool empty;  // lines without elements
  double shift;
  __device__ Deviations line(int64_t base, int64_t) const { return {x, empty, empty ? 0.0 : double(x[base])}; }
  __device__ float load(int64_t at) const { return x[at]; }
  __device__ void add(Accumulator& a, float v, int64_t) const {
    const double d = double(v) - shift;
    a.first.sum += d;
    a.second.sum += d * d;
  }
};

// Sum of squared distances from the mean.
__device__ inline double squares_of(const Deviations::Accumulator& a, double n) {
  const double squares = a.second.sum - a.first.sum * a.first.sum / n;
  return squares < 0 ? 0 : squares;
}

// y (columns) = sums over the rows of x (rows, columns) (reduce.cu).
void column_sums(const float* x, int64_t rows, int64_t columns, float* y, Device device);

}  // namespace glia::GPU_NS
