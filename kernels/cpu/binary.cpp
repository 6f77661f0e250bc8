// Element-wise functions of two tensors with broadcasting. Axes that behave alike are merged, so that equal shapes are one line, a
// scalar is a line of step 0, and a vector of channels a matrix whose second operand does not advance by row.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/binary.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <vector>

#include "kernels/binary.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace glia::cpu::HWY_NAMESPACE {
namespace {

template <class Op>
struct Math;
HWY_INLINE Vector half_or_one(Vector winner, Vector loser, Vector g) {  // gradient of the winner's side of max or min
  const Vector half = hn::Mul(g, splat(0.5));
  return hn::IfThenElse(hn::Gt(winner, loser), g, hn::IfThenElseZero(hn::Eq(winner, loser), half));
}
template <>
struct Math<Add> {
  static HWY_INLINE Vector value(Vector a, Vector b) { return hn::Add(a, b); }
  static HWY_INLINE Vector pull_a(Vector g, Vector, Vector) { return g; }
  static HWY_INLINE Vector pull_b(Vector g, Vector, Vector) { return g; }
};
template <>
struct Math<Sub> {
  static HWY_INLINE Vector value(Vector a, Vector b) { return hn::Sub(a, b); }
  static HWY_INLINE Vector pull_a(Vector g, Vector, Vector) { return g; }
  static HWY_INLINE Vector pull_b(Vector g, Vector, Vector) { return hn::Neg(g); }
};
template <>
struct Math<Mul> {
  static HWY_INLINE Vector value(Vector a, Vector b) { return hn::Mul(a, b); }
  static HWY_INLINE Vector pull_a(Vector g, Vector, Vector b) { return hn::Mul(g, b); }
  static HWY_INLINE Vector pull_b(Vector g, Vector a, Vector) { return hn::Mul(g, a); }
};
template <>
struct Math<Div> {
  static HWY_INLINE Vector value(Vector a, Vector b) { return hn::Div(a, b); }
  static HWY_INLINE Vector pull_a(Vector g, Vector, Vector b) { return hn::Div(g, b); }
  static HWY_INLINE Vector pull_b(Vector g, Vector a, Vector b) { return hn::Neg(hn::Mul(g, hn::Div(a, hn::Mul(b, b)))); }
};
template <>
struct Math<Maximum> {
  static HWY_INLINE Vector value(Vector a, Vector b) { return hn::IfThenElse(hn::Or(hn::Gt(a, b), hn::IsNaN(a)), a, b); }
  static HWY_INLINE Vector pull_a(Vector g, Vector a, Vector b) { return half_or_one(a, b, g); }
  static HWY_INLINE Vector pull_b(Vector g, Vector a, Vector b) { return half_or_one(b, a, g); }
};
template <>
struct Math<Minimum> {
  static HWY_INLINE Vector value(Vector a, Vector b) { return hn::IfThenElse(hn::Or(hn::Lt(a, b), hn::IsNaN(a)), a, b); }
  static HWY_INLINE Vector pull_a(Vector g, Vector a, Vector b) { return half_or_one(b, a, g); }
  static HWY_INLINE Vector pull_b(Vector g, Vector a, Vector b) { return half_or_one(a, b, g); }
};

constexpr size_t max_rank = Shape::max_rank;
using Strides = std::array<int64_t, max_rank>;

// The walk over an output: merged axes, the last one the line; steps of the operands along each. `parts` may be any operands.
template <size_t parts>
struct Walk {
  int rank = 0;
  std::array<int64_t, max_rank> dims{};
  std::array<Strides, parts> steps{};

  Walk(const Shape& whole, const std::array<const Shape*, parts>& shapes) {
    std::array<Strides, parts> all;
    for (size_t k = 0; k < parts; ++k) all[k] = broadcast_strides(*shapes[k], whole);
    for (size_t axis = 0; axis < size_t(whole.rank()); ++axis) {
      const int64_t n = whole.dims()[axis];
      if (n == 1) continue;
      const auto last = size_t(rank - 1);
      bool merges = rank > 0;  // advancing the axis before by one equals advancing this one by n
      for (size_t k = 0; k < parts && merges; ++k) merges = steps[k][last] == all[k][axis] * n;
      const size_t at = merges ? last : size_t(rank++);
      dims[at] = merges ? dims[at] * n : n;
      for (size_t k = 0; k < parts; ++k) steps[k][at] = all[k][axis];
    }
    if (rank == 0) dims[size_t(rank++)] = 1;
  }
  int64_t line() const { return dims[size_t(rank - 1)]; }
  int64_t lines() const {
    int64_t n = 1;
    for (int i = 0; i + 1 < rank; ++i) n *= dims[size_t(i)];
    return n;
  }
  bool advances(size_t k) const { return steps[k][size_t(rank - 1)] != 0; }  // along the line
  // Offsets of the operands at the start of line `i`.
  std::array<int64_t, parts> offsets(int64_t i) const {
    std::array<int64_t, parts> at{};
    for (int axis = rank - 2; axis >= 0; --axis) {
      const int64_t index = i % dims[size_t(axis)];
      i /= dims[size_t(axis)];
      for (size_t k = 0; k < parts; ++k) at[k] += index * steps[k][size_t(axis)];
    }
    return at;
  }
};

// Calls body(line, begin, end) for pieces of lines of at most 32768 elements, in parallel.
template <class W, class F>
void for_each_piece(const W& walk, F&& body) {
  constexpr int64_t piece = 32768;
  if (walk.line() == 0 || walk.lines() == 0) return;
  const int64_t pieces = num_chunks(walk.line(), piece);
  parallel_for(walk.lines() * pieces, std::max<int64_t>(piece / walk.line(), 1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % pieces * piece;
      body(i / pieces, first, std::min(first + piece, walk.line()));
    }
  });
}

// to[i] = f(a[i] or a[0], b[i] or b[0]) on a span.
template <class F>
HWY_INLINE void map_pair(int64_t n, float* to, const F& f, const float* a, bool a_advances, const float* b, bool b_advances) {
  if (a_advances && b_advances) return map_span<false>(n, to, f, a, b);
  if (a_advances) {
    const Vector same = splat(*b);
    return map_span<false>(
        n, to, [&](Vector v) HWY_ATTR { return f(v, same); }, a);
  }
  const Vector same = splat(*a);
  if (b_advances)
    return map_span<false>(
        n, to, [&](Vector v) HWY_ATTR { return f(same, v); }, b);
  const Vector result = f(same, splat(*b));
  map_span<false>(
      n, to, [&](Vector) HWY_ATTR { return result; }, to);
}

template <class Op>
void forward(const Tensor& a, const Tensor& b, Tensor& y) {
  const auto f = [](Vector u, Vector v) HWY_ATTR { return Math<Op>::value(u, v); };
  const float *pa = a.data<float>(), *pb = b.data<float>();
  float* to = y.data<float>();
  if (same_shape(a, b)) return map(y.size(), to, f, pa, pb);
  const Walk<2> walk(y.shape(), {&a.shape(), &b.shape()});
  for_each_piece(walk, [&](int64_t line, int64_t begin, int64_t end) {
    const auto at = walk.offsets(line);
    const int64_t ia = at[0] + (walk.advances(0) ? begin : 0), ib = at[1] + (walk.advances(1) ? begin : 0);
    map_pair(end - begin, to + line * walk.line() + begin, f, pa + ia, walk.advances(0), pb + ib, walk.advances(1));
  });
}

// Gradient of one side, summed over the axes along which that side repeats. `f` maps (g, a, b); absent operands do not matter to f.
template <class F>
void pull(const F& f, const Tensor& a, const Tensor& b, const Tensor& dy, const Tensor& into) {
  const float *g = dy.data<float>(), *pa = a ? a.data<float>() : g, *pb = b ? b.data<float>() : g;
  const Shape &sa = a ? a.shape() : dy.shape(), &sb = b ? b.shape() : dy.shape();
  float* to = into.data<float>();
  if (same_shape(into, dy) && sa == dy.shape() && sb == dy.shape()) return map(dy.size(), to, f, g, pa, pb);

  const Walk<3> walk(dy.shape(), {&sa, &sb, &into.shape()});
  const auto piece_of_line = [&](int64_t line, int64_t begin, int64_t end, float* result) {  // f on a piece, no sums yet
    const auto at = walk.offsets(line);
    const float* gradient = g + line * walk.line() + begin;
    const float *la = pa + at[0] + (walk.advances(0) ? begin : 0), *lb = pb + at[1] + (walk.advances(1) ? begin : 0);
    const int64_t n = end - begin;
    if (walk.advances(0) && walk.advances(1)) return map_span<false>(n, result, f, gradient, la, lb);
    const Vector a0 = splat(*la), b0 = splat(*lb);
    if (walk.advances(0))
      return map_span<false>(
          n, result, [&](Vector u, Vector v) HWY_ATTR { return f(u, v, b0); }, gradient, la);
    if (walk.advances(1))
      return map_span<false>(
          n, result, [&](Vector u, Vector v) HWY_ATTR { return f(u, a0, v); }, gradient, lb);
    map_span<false>(
        n, result, [&](Vector u) HWY_ATTR { return f(u, a0, b0); }, gradient);
  };
  if (same_shape(into, dy))
    return for_each_piece(walk, [&](int64_t line, int64_t begin, int64_t end) {
      piece_of_line(line, begin, end, to + line * walk.line() + begin);
    });

  // Sums: blocks of lines, each with sums of its own in double, added up in order. Their number depends on the shapes alone.
  constexpr int64_t piece = 4096;
  const auto size = size_t(into.size());
  const int64_t lines = walk.line() ? walk.lines() : 0;
  const int64_t work = std::max<int64_t>({65536, 4 * into.size(), dy.size() / 64}) / std::max<int64_t>(walk.line(), 1);
  const int64_t grain = std::max<int64_t>(work, 1), blocks = num_chunks(lines, grain);
  std::vector<double> sums(size_t(blocks) * size);
  parallel_for(lines, grain, [&](int64_t first, int64_t last) {
    double* sum = sums.data() + size_t(first / grain) * size;
    HWY_ALIGN float values[piece];
    for (int64_t line = first; line < last; ++line)
      for (int64_t begin = 0; begin < walk.line(); begin += piece) {
        const int64_t end = std::min(begin + piece, walk.line());
        piece_of_line(line, begin, end, values);
        double* target = sum + walk.offsets(line)[2];
        if (walk.advances(2)) {
          for (int64_t i = begin; i < end; ++i) target[i] += double(values[i - begin]);
        } else {
          *target += double(sum_span(
              end - begin, [](Vector v) HWY_ATTR { return v; }, static_cast<const float*>(values)));
        }
      }
  });
  for (size_t i = 0; i < size; ++i) {
    double total = 0;
    for (size_t at = i; at < sums.size(); at += size) total += sums[at];
    to[i] = float(total);
  }
}

template <class Op>
void backward(const Tensor& a, const Tensor& b, const Tensor& dy, Tensor* da, Tensor* db) {
  if (da) pull([](Vector g, Vector u, Vector v) HWY_ATTR { return Math<Op>::pull_a(g, u, v); }, a, b, dy, *da);
  if (db) pull([](Vector g, Vector u, Vector v) HWY_ATTR { return Math<Op>::pull_b(g, u, v); }, a, b, dy, *db);
}

#define GLIA_DEFINE_BINARY(function, Op, Saves, Y, DYDA, DYDB)                                                       \
  void function(const Op&, const Tensor& a, const Tensor& b, Tensor& y) { forward<Op>(a, b, y); }                    \
  void function##_backward(const Op&, const Tensor& a, const Tensor& b, const Tensor&, const Tensor& dy, Tensor* da, \
                           Tensor* db) {                                                                             \
    backward<Op>(a, b, dy, da, db);                                                                                  \
  }
GLIA_BINARY_OPS(GLIA_DEFINE_BINARY)
#undef GLIA_DEFINE_BINARY

}  // namespace
}  // namespace glia::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace glia::cpu {

#define GLIA_EXPORT_BINARY(function, Op, Saves, Y, DYDA, DYDB)                                                              \
  HWY_EXPORT(function);                                                                                                     \
  HWY_EXPORT(function##_backward);                                                                                          \
  void function(const Op& op, const Tensor& a, const Tensor& b, Tensor& y) { HWY_DYNAMIC_DISPATCH(function)(op, a, b, y); } \
  void function##_backward(const Op& op, const Tensor& a, const Tensor& b, const Tensor& y, const Tensor& dy, Tensor* da,   \
                           Tensor* db) {                                                                                    \
    HWY_DYNAMIC_DISPATCH(function##_backward)(op, a, b, y, dy, da, db);                                                     \
  }
GLIA_BINARY_OPS(GLIA_EXPORT_BINARY)
#undef GLIA_EXPORT_BINARY

}  // namespace glia::cpu
#endif
