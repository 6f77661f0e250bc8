#pragma once
// How a reduction is laid out: x seen as (outer, n, inner), and where the work on it is cut. A set of axes that isn't one run is
// first permuted so that the reduced ones come last.
#include <algorithm>
#include <vector>

#include "kernels/shape.h"
#include "tensor/parallel.h"

namespace glia::cpu {

struct ReductionExtent {
  int64_t outer = 1, n = 1, inner = 1;
};

constexpr int64_t elements_per_chunk = 1 << 14;
constexpr int64_t block = 512;  // columns whose double sums stay in the first cache

// Where the work is cut: `rows` of n per chunk, `columns` of inner; tasks are (outer, chunk of rows, block of columns).
struct ReductionCut {
  int64_t rows, row_chunks, column_blocks, tasks, grain;
  explicit ReductionCut(const ReductionExtent& e)
      : rows(e.inner == 1 ? elements_per_chunk : std::max<int64_t>(64, elements_per_chunk / std::min(e.inner, block))),
        row_chunks(num_chunks(e.n, rows)),
        column_blocks(num_chunks(e.inner, block)),
        tasks(e.outer * row_chunks * column_blocks),
        grain(std::max<int64_t>(1, elements_per_chunk / (std::min(rows, std::max<int64_t>(1, e.n)) * std::min(e.inner, block)))) {
  }
};

// How a set of axes is reduced: as (outer, n, inner) of x as it is, or of x permuted by `order`, the reduced axes last.
struct ReductionPlan {
  ReductionExtent extent;
  std::vector<int> order;  // empty: x as it is

  ReductionPlan(const Shape& x, unsigned axes) {
    int runs = 0;
    bool inside = false;
    for (int d = 0; d < x.rank(); ++d) {
      if (x[d] == 1) continue;  // belongs to either side
      const bool reduced = axes >> d & 1u;
      runs += reduced && !inside;
      inside = reduced;
    }
    int64_t kept = 1;
    for (int d = 0; d < x.rank(); ++d) {
      if (axes >> d & 1u) {
        extent.n *= x[d];
      } else {
        kept *= x[d];
        (extent.n == 1 && !seen_reduced(x, axes, d) ? extent.outer : extent.inner) *= x[d];
      }
    }
    if (runs <= 1) return;
    extent.outer = kept;
    extent.inner = 1;
    for (int pass = 0; pass < 2; ++pass)
      for (int d = 0; d < x.rank(); ++d)
        if ((axes >> d & 1u) == static_cast<unsigned>(pass)) order.push_back(d);
  }
  // x in the order that the extent is of.
  Tensor arrange(const Tensor& x) const {
    if (order.empty()) return x;
    const Permute op{order};
    Tensor y(op.infer(x).shape, x.dtype());
    cpu::permute(op, x, y);
    return y;
  }
  // Calls f with a tensor to write in that order, and puts it into dx.
  template <class F>
  void scatter(Tensor& dx, F f) const {
    if (order.empty()) return f(dx);
    const Permute op{order};
    Tensor arranged(op.infer(dx).shape, dx.dtype());
    f(arranged);
    cpu::permute(op.inverse(), arranged, dx);
  }

 private:
  // Whether an axis of more than one element before d is reduced (an empty one makes n 0, not 1).
  static bool seen_reduced(const Shape& x, unsigned axes, int d) {
    for (int i = 0; i < d; ++i)
      if ((axes >> i & 1u) && x[i] != 1) return true;
    return false;
  }
};

}  // namespace glia::cpu
