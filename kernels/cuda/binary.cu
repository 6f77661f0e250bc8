// y = f(a, b) with broadcasting, and its gradients. Axes along which all operands advance alike are merged, so equal shapes are
// one line, and a vector of channels a matrix over whose rows the second operand stands still.
//
// The gradient of an input that repeats is a sum over the repetitions: a block has neighbouring threads along the contiguous
// axis, whether that one is kept or summed, and adds up its part in a fixed order; what many blocks leave, a second launch adds.
// Bound by memory: each operand is read once, four packs of a thread are under way.
#include <algorithm>
#include <bit>

#include "kernels/binary.h"
#include "kernels/cuda/divide.cuh"
#include "kernels/cuda/elementwise.cuh"

namespace glia::GPU_NS {

constexpr int binary_threads = 256, binary_batch = 4;

// Merged axes, the innermost first, and how far one step along each takes the operands.
template <int operands>
struct Walk {
  int rank = 0;
  Divider size[Shape::max_rank];
  int64_t step[Shape::max_rank][operands] = {};

  // Offsets of the operands at each of the indices.
  template <int batch>
  __device__ void offsets(uint32_t (&index)[batch], int64_t (&at)[batch][operands]) const {
    for (int d = 0; d < rank; ++d) {
      GPU_UNROLL
      for (int b = 0; b < batch; ++b) {
        const int64_t i = d + 1 < rank ? size[d].split(index[b]) : index[b];
        GPU_UNROLL
        for (int k = 0; k < operands; ++k) at[b][k] += i * step[d][k];
      }
    }
  }
};

template <int operands>
struct Operands {
  const float* p[operands];
  bool splat[operands];  // stands still along the packs
};

template <int width, int operands>
__device__ void load_operands(const Operands<operands>& in, const int64_t (&at)[operands], Pack<width> (&v)[operands]) {
  GPU_UNROLL
  for (int k = 0; k < operands; ++k) {
    if (width > 1 && in.splat[k]) {
      const float same = in.p[k][at[k]];
      GPU_UNROLL
      for (int j = 0; j < width; ++j) v[k].at[j] = same;
    } else {
      v[k] = load_pack<width>(in.p[k] + at[k]);
    }
  }
}

template <class F, int width, int operands>
__device__ Pack<width> apply_to(const F& f, const Pack<width> (&v)[operands]) {
  Pack<width> result;
  GPU_UNROLL
  for (int j = 0; j < width; ++j) {
    if constexpr (operands == 2) {
      result.at[j] = f(v[0].at[j], v[1].at[j]);
    } else {
      result.at[j] = f(v[0].at[j], v[1].at[j], v[2].at[j]);
    }
  }
  return result;
}

// Pack i of out = f(operands there).
template <int width, class F, int operands>
__global__ void __launch_bounds__(binary_threads)
    broadcast_kernel(F f, uint32_t packs, Walk<operands> walk, Operands<operands> in, float* __restrict__ out) {
  const uint32_t first = blockIdx.x * (binary_threads * binary_batch) + threadIdx.x;
  uint32_t index[binary_batch];
  int64_t at[binary_batch][operands] = {};
  Pack<width> v[binary_batch][operands];
  GPU_UNROLL
  for (int b = 0; b < binary_batch; ++b) index[b] = min(first + b * binary_threads, packs - 1);
  walk.offsets(index, at);
  GPU_UNROLL
  for (int b = 0; b < binary_batch; ++b) load_operands(in, at[b], v[b]);
  GPU_UNROLL
  for (int b = 0; b < binary_batch; ++b) {
    const uint32_t i = first + b * binary_threads;
    if (i < packs) store_pack(out + int64_t(i) * width, apply_to(f, v[b]));
  }
}

// A sum over the repetitions. `lanes` threads of a block share a result (a power of two); they are neighbours where
// `inner_summed`, else those with neighbouring results are. Blocks along y have `chunk` repetitions each. Counts are of packs on
// the contiguous axis.
struct Repetitions {
  Walk<3> kept, summed;
  uint32_t results, terms, chunk;
  int lanes;
  bool inner_summed;
};

template <int width, class F>
__global__ void __launch_bounds__(binary_threads)
    sum_repetitions_kernel(F f, Repetitions r, Operands<3> in, float* __restrict__ out) {
  GPU_SHARED(Pack<width>, sums, [binary_threads]);
  const int tid = int(threadIdx.x), across = binary_threads / r.lanes;
  const int lane = r.inner_summed ? tid % r.lanes : tid / across;
  const uint32_t result = blockIdx.x * across + (r.inner_summed ? tid / r.lanes : tid % across);
  const int stride = r.inner_summed ? 1 : across;  // to the thread of the next lane
  Pack<width> sum = {};
  if (result < r.results) {
    uint32_t place[1] = {result};
    int64_t base[1][3] = {};
    r.kept.offsets(place, base);
    const uint32_t begin = blockIdx.y * r.chunk, end = min(r.terms, begin + r.chunk);
    for (uint32_t first = begin + lane; first < end; first += r.lanes * binary_batch) {
      uint32_t index[binary_batch];
      int64_t at[binary_batch][3];
      Pack<width> v[binary_batch][3];
      GPU_UNROLL
      for (int b = 0; b < binary_batch; ++b) {
        index[b] = min(first + b * r.lanes, end - 1);
        GPU_UNROLL
        for (int k = 0; k < 3; ++k) at[b][k] = base[0][k];
      }
      r.summed.offsets(index, at);
      GPU_UNROLL
      for (int b = 0; b < binary_batch; ++b) load_operands(in, at[b], v[b]);
      GPU_UNROLL
      for (int b = 0; b < binary_batch; ++b) {
        if (first + b * r.lanes >= end) continue;
        const Pack<width> term = apply_to(f, v[b]);
        GPU_UNROLL
        for (int j = 0; j < width; ++j) sum.at[j] += term.at[j];
      }
    }
  }
  sums[tid] = sum;
  for (int half = r.lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (lane >= half) continue;
    GPU_UNROLL
    for (int j = 0; j < width; ++j) sums[tid].at[j] += sums[tid + half * stride].at[j];
  }
  if (lane > 0 || result >= r.results) return;
  sum = sums[tid];
  const int64_t to = int64_t(blockIdx.y) * r.results + result;
  if (r.inner_summed) {
    float total = 0;
    GPU_UNROLL
    for (int j = 0; j < width; ++j) total += sum.at[j];
    out[to] = total;
  } else {
    store_pack(out + to * width, sum);
  }
}

// ---- launchers ---------------------------------------------------------------------------------------------------------------

// Of each operand along each axis of the whole shape (broadcast_strides).
template <int operands>
struct Steps {
  std::array<int64_t, Shape::max_rank> of[operands];
};

// The axes of `whole` that `wanted` says, merged.
template <int operands, class Wanted>
struct Merged {
  int rank = 0;
  int64_t size[Shape::max_rank] = {};
  int64_t step[Shape::max_rank][operands] = {};

  Merged(const Shape& whole, const Steps<operands>& steps, const Wanted& wanted) {
    int before = whole.rank();  // the axis taken last; merging needs neighbours
    for (int axis = whole.rank() - 1; axis >= 0; --axis) {
      if (whole[axis] == 1) {
        if (before == axis + 1) before = axis;
        continue;
      }
      if (!wanted(axis)) continue;
      bool merges = rank > 0 && before == axis + 1;
      for (int k = 0; k < operands && merges; ++k) merges = steps.of[k][size_t(axis)] == step[rank - 1][k] * size[rank - 1];
      if (merges) {
        size[rank - 1] *= whole[axis];
      } else {
        size[rank] = whole[axis];
        for (int k = 0; k < operands; ++k) step[rank][k] = steps.of[k][size_t(axis)];
        ++rank;
      }
      before = axis;
    }
  }
  int64_t count() const {
    int64_t n = 1;
    for (int d = 0; d < rank; ++d) n *= size[d];
    return n;
  }
  // Whether 4 neighbours along the innermost axis are one access or one value, wherever the other axes stand.
  bool in_packs() const {
    if (rank == 0 || size[0] % 4 != 0) return false;
    for (int k = 0; k < operands; ++k)
      if (step[0][k] > 1) return false;
    return true;
  }
  // Whether steps along the axes from `first` on keep an operand that advances along the packs at multiples of 16 bytes.
  bool keeps_packs(int first, const bool (&splat)[operands]) const {
    for (int d = first; d < rank; ++d)
      for (int k = 0; k < operands; ++k)
        if (!splat[k] && step[d][k] % 4 != 0) return false;
    return true;
  }
  Walk<operands> walk(int width) const {  // in packs along the innermost axis
    Walk<operands> w;
    w.rank = rank;
    for (int d = 0; d < rank; ++d) {
      const int unit = d == 0 ? width : 1;
      w.size[d] = Divider(size[d] / unit);
      for (int k = 0; k < operands; ++k) w.step[d][k] = step[d][k] * unit;
    }
    return w;
  }
};

template <int operands, class Wanted>
Merged<operands, Wanted> merge_axes(const Shape& whole, const Steps<operands>& steps, const Wanted& wanted) {
  return {whole, steps, wanted};
}

template <int operands>
bool may_pack(const Operands<operands>& in) {
  bool aligned = true;
  for (int k = 0; k < operands; ++k) aligned = aligned && (in.splat[k] || aligned16(in.p[k]));
  return aligned;
}

template <int width, class F, int operands, class Axes>
void launch_broadcast(const F& f, const Axes& axes, const Operands<operands>& in, float* out) {
  const uint32_t packs = count31(axes.count() / width);
  launch({unsigned(divide_up(packs, binary_threads * binary_batch)), binary_threads}, broadcast_kernel<width, F, operands>, f,
         packs, axes.walk(width), in, out);
}

// out = f(operands), element by element of `out`'s shape.
template <class F, int operands>
void broadcast(const F& f, Operands<operands> in, const Steps<operands>& steps, const Tensor& out) {
  if (out.size() == 0) return;
  const auto axes = merge_axes(out.shape(), steps, [](int) { return true; });
  for (int k = 0; k < operands; ++k) in.splat[k] = axes.rank == 0 || axes.step[0][k] == 0;
  float* const to = out.device_data<float>();
  if (axes.in_packs() && axes.keeps_packs(1, in.splat) && may_pack(in) && aligned16(to)) {
    launch_broadcast<4>(f, axes, in, to);
  } else {
    launch_broadcast<1>(f, axes, in, to);
  }
}

struct First {
  __device__ float operator()(float g, float, float) const { return g; }
};

// Fills in the geometry, from the counts alone, and adds: in one launch, or leaves chunks' sums that a second one adds.
template <int width, class F>
void launch_sum(const F& f, Repetitions r, const Operands<3>& in, const Tensor& out, bool may_cut = true) {
  const uint32_t neighbours = std::bit_ceil(std::min<uint32_t>(r.results, may_cut ? 32 : 8));
  r.lanes = int(std::bit_ceil(std::clamp<uint32_t>(r.terms, 1, r.inner_summed ? binary_threads : binary_threads / neighbours)));
  const int64_t blocks = divide_up(r.results, binary_threads / r.lanes), each = int64_t(r.lanes) * binary_batch * 4;
  const int64_t chunks = may_cut ? std::clamp<int64_t>(132 * 4 / blocks, 1, std::max<int64_t>(r.terms / each, 1)) : 1;
  r.chunk = uint32_t(divide_up(divide_up(r.terms, chunks), r.lanes) * r.lanes);
  const auto parts = r.terms > 0 ? unsigned(divide_up(r.terms, r.chunk)) : 1u;
  const gpu::LaunchShape shape(dim3(unsigned(blocks), parts), binary_threads);
  if (parts == 1) return launch(shape, sum_repetitions_kernel<width, F>, f, r, in, out.device_data<float>());

  const Tensor partial({int64_t(parts), out.size()}, DType::float32, out.device());
  const float* p = partial.device_data<float>();
  launch(shape, sum_repetitions_kernel<width, F>, f, r, in, partial.device_data<float>());
  Repetitions rest;
  rest.results = count31(out.size());
  rest.terms = parts;
  rest.inner_summed = out.size() == 1;
  rest.kept.rank = rest.summed.rank = 1;
  rest.kept.step[0][0] = 1;
  rest.summed.step[0][0] = out.size();
  launch_sum<1>(First{}, rest, {{p, p, p}, {}}, out, false);
}

// out = the sum over the axes of `whole` along which out repeats of f(operands); `steps` of the operands.
template <class F>
void sum_repetitions(const F& f, Operands<3> in, const Steps<3>& steps, const Shape& whole, const Tensor& out) {
  if (out.size() == 0) return;
  const auto own = broadcast_strides(out.shape(), whole);
  const auto kept = merge_axes(whole, steps, [&](int axis) { return own[size_t(axis)] != 0; });
  const auto summed = merge_axes(whole, steps, [&](int axis) { return own[size_t(axis)] == 0; });
  Repetitions r;
  r.inner_summed = kept.rank == 0 || (summed.rank > 0 && summed.step[0][0] == 1);  // operand 0 is dy, which is dense
  const auto plan = [&](const auto& inner, const auto& outer) {
    for (int k = 0; k < 3; ++k) in.splat[k] = inner.rank == 0 || inner.step[0][k] == 0;
    return inner.in_packs() && inner.keeps_packs(1, in.splat) && outer.keeps_packs(0, in.splat) && may_pack(in);
  };
  const bool packs = r.inner_summed ? plan(summed, kept) : plan(kept, summed) && aligned16(out.device_data<float>());
  const int width = packs ? 4 : 1, of_kept = r.inner_summed ? 1 : width, of_summed = r.inner_summed ? width : 1;
  r.results = count31(kept.count() / of_kept);
  r.terms = count31(summed.count() / of_summed);
  if (r.terms > 0) r.kept = kept.walk(of_kept), r.summed = summed.walk(of_summed);
  packs ? launch_sum<4>(f, r, in, out) : launch_sum<1>(f, r, in, out);
}

// Gradient of one side. Absent operands do not matter to f; dy stands in for them.
template <class F>
void pull(const F& f, const Tensor& a, const Tensor& b, const Tensor& dy, Tensor* into) {
  if (!into) return;
  const Shape& whole = dy.shape();
  const float* g = dy.device_data<float>();
  Steps<3> steps{};
  steps.of[0] = broadcast_strides(whole, whole);
  if (a) steps.of[1] = broadcast_strides(a.shape(), whole);
  if (b) steps.of[2] = broadcast_strides(b.shape(), whole);
  const Operands<3> in{{g, a ? a.device_data<float>() : g, b ? b.device_data<float>() : g}, {}};
  if (same_shape(*into, dy)) return broadcast(f, in, steps, *into);
  sum_repetitions(f, in, steps, whole, *into);
}

#define GLIA_DEFINE_BINARY(function, Op, Saves, Y, DYDA, DYDB)                                                            \
  struct Op##Value {                                                                                                      \
    using T = float;                                                                                                      \
    __device__ float operator()(float a, float b) const { return Y; }                                                     \
  };                                                                                                                      \
  struct Op##PullA {                                                                                                      \
    using T = float;                                                                                                      \
    __device__ float operator()(float g, [[maybe_unused]] float a, [[maybe_unused]] float b) const { return g * (DYDA); } \
  };                                                                                                                      \
  struct Op##PullB {                                                                                                      \
    using T = float;                                                                                                      \
    __device__ float operator()(float g, [[maybe_unused]] float a, [[maybe_unused]] float b) const { return g * (DYDB); } \
  };                                                                                                                      \
  void function(const Op&, const Tensor& a, const Tensor& b, Tensor& y) {                                                 \
    const Steps<2> steps{{broadcast_strides(a.shape(), y.shape()), broadcast_strides(b.shape(), y.shape())}};             \
    broadcast(Op##Value{}, Operands<2>{{a.device_data<float>(), b.device_data<float>()}, {}}, steps, y);                  \
  }                                                                                                                       \
  void function##_backward(const Op&, const Tensor& a, const Tensor& b, const Tensor&, const Tensor& dy, Tensor* da,      \
                           Tensor* db) {                                                                                  \
    pull(Op##PullA{}, a, b, dy, da);                                                                                      \
    pull(Op##PullB{}, a, b, dy, db);                                                                                      \
  }
GLIA_BINARY_OPS(GLIA_DEFINE_BINARY)
#undef GLIA_DEFINE_BINARY

}  // namespace glia::GPU_NS
