// A product as calls of BLAS.
#include "kernels/gemm.h"

#include <algorithm>

namespace glia {
namespace {

constexpr size_t most_calls = 64;

// How an operand lies in memory: along the inner index (else along the rows), lines `ld` apart.
struct Lines {
  bool along_inner = false;
  int64_t ld = 0;  // 0: neither
};

Lines lines_of(const GemmOperand& o, int64_t rows, int64_t k) {
  if ((o.inner == 1 || k == 1) && (o.row >= k || rows == 1)) return {true, rows == 1 ? k : o.row};
  if ((o.row == 1 || rows == 1) && (o.inner >= rows || k == 1)) return {false, k == 1 ? rows : o.inner};
  return {};
}

struct Axis {
  int64_t size, a, b, c;
};

// Axes of more than one matrix, those that advance as one merged; c: what the result advances along the innermost.
std::vector<Axis> merged(const GemmBatch& batch, int64_t c) {
  std::vector<Axis> axes;  // innermost first
  for (int i = batch.count - 1; i >= 0; --i) {
    const Axis axis{batch.size[i], batch.a[i], batch.b[i], c};
    c *= axis.size;
    if (axis.size == 1) continue;
    if (!axes.empty() && axis.a == axes.back().a * axes.back().size && axis.b == axes.back().b * axes.back().size) {
      axes.back().size *= axis.size;
    } else {
      axes.push_back(axis);
    }
  }
  return axes;
}

// Each call once for every place along the axis; places behind the first add to it where the results are the same.
std::vector<BlasCall> repeated(const std::vector<BlasCall>& calls, const Axis& axis) {
  std::vector<BlasCall> all;
  for (int64_t i = 0; i < axis.size && all.size() <= most_calls; ++i)
    for (BlasCall call : calls) {
      call.a += i * axis.b, call.b += i * axis.a, call.c += i * axis.c;  // operands are swapped
      call.accumulate = call.accumulate || (axis.c == 0 && i > 0);
      all.push_back(call);
    }
  return all;
}

}  // namespace

std::vector<BlasCall> blas_calls(const Gemm& given) {
  Gemm g = given;
  if (g.c_column != 1) g.transpose();
  std::vector<Axis> batch = merged(g.batch, g.m * g.n), summed = merged(g.summed, 0);
  if (!summed.empty() && summed[0].a == g.k * g.a.inner &&
      summed[0].b == g.k * g.b.inner) {  // it may only lengthen the inner index
    const int64_t longer = g.k * summed[0].size;
    if (lines_of(g.a, g.m, longer).ld && lines_of(g.b, g.n, longer).ld) {
      g.k = longer;
      summed.erase(summed.begin());
    }
  }
  const Lines a = lines_of(g.a, g.m, g.k), b = lines_of(g.b, g.n, g.k);
  if (a.ld == 0 || b.ld == 0 || g.c_column != 1) return {};
  BlasCall call{.m = g.n,
                .n = g.m,
                .k = g.k,
                .transpose_a = b.along_inner,
                .transpose_b = !a.along_inner,
                .a = g.b.data,
                .b = g.a.data,
                .c = g.c,
                .lda = b.ld,
                .ldb = a.ld,
                .ldc = g.m == 1 ? g.n : g.c_row};
  if (!batch.empty()) {
    call.batch = batch[0].size, call.step_a = batch[0].b, call.step_b = batch[0].a, call.step_c = batch[0].c;
    batch.erase(batch.begin());
  }
  std::vector<BlasCall> calls{call};
  for (const std::vector<Axis>* axes : {&batch, &summed})
    for (const Axis& axis : *axes) calls = repeated(calls, axis);
  if (calls.size() > most_calls) calls.clear();
  return calls;
}

}  // namespace glia
