// Linear layers and products of matrices: one gemm each. Gradients are products too: dA = dy B^T, dB = A^T dy, a transposed
// operand getting the transposed product; where an operand was broadcast, its gradient sums over those axes, which the gemm does
// as part of its inner index.
#include "kernels/matmul.h"

#include "kernels/cuda/gemm.cuh"
#include "kernels/cuda/reduce_axes.cuh"

namespace glia::GPU_NS {
namespace {

// Matrices (rows, columns) in memory, dense.
GemmOperand rows_of(const Tensor& t, int64_t columns) { return {t.device_data<float>(), columns, 1}; }
GemmOperand columns_of(const Tensor& t, int64_t columns) { return {t.device_data<float>(), 1, columns}; }

// The leading axes of a product, by what the matrices of each tensor advance along them (0 where it is broadcast).
struct LeadingAxes {
  int count = 0;
  int64_t size[GemmBatch::max_axes], a[GemmBatch::max_axes], b[GemmBatch::max_axes], y[GemmBatch::max_axes];
};

LeadingAxes leading_axes(const Shape& a, const Shape& b, const Shape& y) {
  LeadingAxes axes;
  axes.count = y.rank() - 2;
  int64_t a_step = a[-1] * a[-2], b_step = b[-1] * b[-2], y_step = y[-1] * y[-2];
  for (int i = axes.count - 1; i >= 0; --i) {  // shapes are aligned at their right ends
    const int ia = i - (y.rank() - a.rank()), ib = i - (y.rank() - b.rank());
    const int64_t of_a = ia < 0 ? 1 : a[ia], of_b = ib < 0 ? 1 : b[ib];
    axes.size[i] = y[i];
    axes.a[i] = of_a == 1 ? 0 : a_step, axes.b[i] = of_b == 1 ? 0 : b_step, axes.y[i] = y_step;
    a_step *= of_a, b_step *= of_b, y_step *= y[i];
  }
  return axes;
}

// Operand i of y, `transpose` as stored: (rows, inner) or (inner, rows).
GemmOperand operand(const Tensor& t, bool inner_first) { return inner_first ? columns_of(t, t.dim(-1)) : rows_of(t, t.dim(-1)); }

// c (m, n) = a b, or its transpose where c is stored so.
Gemm product(int64_t m, int64_t n, int64_t k, const GemmOperand& a, const GemmOperand& b, const Tensor& c, bool transposed) {
  return {.m = m,
          .n = n,
          .k = k,
          .a = a,
          .b = b,
          .c = c.device_data<float>(),
          .c_row = transposed ? 1 : n,
          .c_column = transposed ? m : 1};
}

}  // namespace

void linear(const Linear&, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y) {
  const int64_t out = w.dim(0), in = w.dim(1), rows = y.shape().product(0, y.rank() - 1);
  Gemm g = product(rows, out, in, rows_of(x, in), rows_of(w, in), y, false);
  if (bias) g.bias = bias.device_data<float>();
  gemm(g, x.device());
}

void linear_backward(const Linear&, const Tensor& x, const Tensor& w, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx,
                     Tensor* dw, Tensor* dbias) {
  const int64_t out = w.dim(0), in = w.dim(1), rows = dy.shape().product(0, dy.rank() - 1);
  if (dx) gemm(product(rows, in, out, rows_of(dy, out), columns_of(w, in), *dx, false), dy.device());
  if (dw) gemm(product(out, in, rows, columns_of(dy, out), columns_of(x, in), *dw, false), dy.device());
  if (dbias) column_sums(dy.device_data<float>(), rows, out, dbias->device_data<float>(), dy.device());
}

void matmul(const Matmul& op, const Tensor& a, const Tensor& b, Tensor& y) {
  const int64_t inner = a.dim(op.transpose_a ? -2 : -1);
  Gemm g = product(y.dim(-2), y.dim(-1), inner, operand(a, op.transpose_a), operand(b, !op.transpose_b), y, false);
  const LeadingAxes axes = leading_axes(a.shape(), b.shape(), y.shape());
  for (int i = 0; i < axes.count; ++i) g.batch.push_back(axes.size[i], axes.a[i], axes.b[i]);
  gemm(g, a.device());
}

void matmul_backward(const Matmul& op, const Tensor& a, const Tensor& b, const Tensor&, const Tensor& dy, Tensor* da,
                     Tensor* db) {
  const int64_t m = dy.dim(-2), n = dy.dim(-1), inner = a.dim(op.transpose_a ? -2 : -1);
  const LeadingAxes axes = leading_axes(a.shape(), b.shape(), dy.shape());
  if (da) {  // (m, inner) = dy (m, n) B^T: b's rows are the inner index of y
    Gemm g = product(m, inner, n, rows_of(dy, n), operand(b, op.transpose_b), *da, op.transpose_a);
    for (int i = 0; i < axes.count; ++i)
      (axes.a[i] || axes.size[i] == 1 ? g.batch : g.summed).push_back(axes.size[i], axes.y[i], axes.b[i]);
    gemm(g, dy.device());
  }
  if (db) {  // (inner, n) = A^T (inner, m) dy
    Gemm g = product(inner, n, m, operand(a, !op.transpose_a), columns_of(dy, n), *db, op.transpose_b);
    for (int i = 0; i < axes.count; ++i)
      (axes.b[i] || axes.size[i] == 1 ? g.batch : g.summed).push_back(axes.size[i], axes.a[i], axes.y[i]);
    gemm(g, dy.device());
  }
}

}  // namespace glia::GPU_NS
