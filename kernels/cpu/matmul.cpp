// Linear layers and products of matrices by the two products of gemm.h.
#include "kernels/matmul.h"

#include "kernels/cpu/conv_parts.h"
#include "kernels/cpu/gemm.h"
#include "tensor/parallel.h"

namespace glia::cpu {
namespace {

// A matrix in memory: element (i, j) at data[i * rows + j * columns].
struct Matrix {
  const float* data;
  int64_t rows, columns;  // strides
  Matrix transposed() const { return {data, columns, rows}; }
};

Matrix matrix(const Tensor& t, int64_t index, bool transpose) {
  const int64_t m = t.dim(-2), n = t.dim(-1);
  const Matrix stored{t.data<float>() + index * m * n, n, 1};
  return transpose ? stored.transposed() : stored;
}

// d (m, n), dense, = a (m, inner) b (inner, n).
ImplicitGemm product(int64_t m, int64_t n, int64_t inner, const Matrix& a, const Matrix& b, float* d, const Epilogue& epilogue) {
  return {.a = a.data,
          .w = m,
          .a_pixel = a.rows,
          .a_inner = a.columns,
          .taps = {Tap{}},
          .inner = inner,
          .b = b.data,
          .b_inner = b.rows,
          .b_column = b.columns,
          .d = d,
          .q = m,
          .columns = n,
          .d_pixel = n,
          .epilogue = epilogue};
}

void multiply(int64_t m, int64_t n, int64_t inner, const Matrix& a, const Matrix& b, float* d, const Epilogue& epilogue = {}) {
  const ImplicitGemm problem = product(m, n, inner, a, b, d, epilogue);
  run(std::span(&problem, 1));
}

}  // namespace

void linear(const Linear&, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y) {
  const int64_t out = w.dim(0), in = w.dim(1), rows = y.shape().product(0, y.rank() - 1);
  multiply(rows, out, in, {x.data<float>(), in, 1}, {w.data<float>(), 1, in}, y.data<float>(),
           {.bias = bias ? bias.data<float>() : nullptr});
}

void linear_backward(const Linear&, const Tensor& x, const Tensor& w, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx,
                     Tensor* dw, Tensor* dbias) {
  const int64_t out = dy.dim(-1), rows = dy.shape().product(0, dy.rank() - 1);
  if (dx) {
    const int64_t in = w.dim(1);
    multiply(rows, in, out, {dy.data<float>(), out, 1}, {w.data<float>(), in, 1}, dx->data<float>());
  }
  if (dw) {  // one pixel per row, a filter of one tap
    const int64_t in = dw->dim(1);
    const PixelSum sum{.x = x.data<float>(),
                       .h = rows,
                       .x_pixel = in,
                       .channels = in,
                       .g = dy.data<float>(),
                       .p = rows,
                       .g_pixel = out,
                       .rows = out,
                       .taps = {Tap{}},
                       .d = dw->data<float>(),
                       .d_row = in};
    run(std::span(&sum, 1));
  }
  if (dbias) run(OutputGradient{.rows = rows, .k = out, .dy = dy.data<float>(), .sums = dbias->data<float>()});
}

void matmul(const Matmul& op, const Tensor& a, const Tensor& b, Tensor& y) {
  const MatmulPlan plan = matmul_plan(op, a.shape(), b.shape());
  std::vector<ImplicitGemm> problems;
  for (const auto& t : plan.products)
    problems.push_back(product(plan.m, plan.n, plan.inner, matrix(a, t.a, op.transpose_a), matrix(b, t.b, op.transpose_b),
                               y.data<float>() + t.y * plan.m * plan.n, {}));
  run(problems);
}

// With A = op(a) and B = op(b): dA = dy B^T and dB = A^T dy, summed over the products that a broadcast matrix takes part in; a
// transposed matrix gets the transposed product.
void matmul_backward(const Matmul& op, const Tensor& a, const Tensor& b, const Tensor&, const Tensor& dy, Tensor* da,
                     Tensor* db) {
  const MatmulPlan plan = matmul_plan(op, a.shape(), b.shape());
  for (Tensor* t : {da, db})
    if (t) t->fill(0);
  const Epilogue add{.accumulate = true};
  for (const auto& t : plan.products) {
    const Matrix g = matrix(dy, t.y, false);
    if (da) {
      const Matrix other = matrix(b, t.b, !op.transpose_b);
      float* to = da->data<float>() + t.a * plan.m * plan.inner;
      if (op.transpose_a) {
        multiply(plan.inner, plan.m, plan.n, other.transposed(), g.transposed(), to, add);
      } else {
        multiply(plan.m, plan.inner, plan.n, g, other, to, add);
      }
    }
    if (db) {
      const Matrix other = matrix(a, t.a, !op.transpose_a);
      float* to = db->data<float>() + t.b * plan.n * plan.inner;
      if (op.transpose_b) {
        multiply(plan.n, plan.inner, plan.m, g.transposed(), other.transposed(), to, add);
      } else {
        multiply(plan.inner, plan.n, plan.m, other, g, to, add);
      }
    }
  }
}

}  // namespace glia::cpu
