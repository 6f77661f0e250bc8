#pragma once
// A product of matrices as the devices' kernels take it (kernels/cuda/gemm.cu) and as cuBLAS does: plain addresses, sizes and strides.
//   c[z] = sum over q of a[z, q] b[z, q] + bias
#include <utility>
#include <vector>

#include "kernels/op.h"

namespace glia {

// A matrix in memory, element (i, k) at data[i * row + k * inner]: i counts rows of a or columns of b, k the inner index. One of
// the strides is 1 where speed matters.
struct GemmOperand {
  const float* data = nullptr;
  int64_t row = 0, inner = 0;
};

// Where the matrices of a batch are: axes, outermost first, with the distances between two matrices of a and of b (0: the same).
struct GemmBatch {
  static constexpr int max_axes = 4;
  int count = 0;
  int64_t size[max_axes] = {1, 1, 1, 1}, a[max_axes] = {}, b[max_axes] = {};
  void push_back(int64_t axis_size, int64_t a_step, int64_t b_step) {
    size[count] = axis_size, a[count] = a_step, b[count] = b_step;
    ++count;
  }
  int64_t total() const { return size[0] * size[1] * size[2] * size[3]; }
};

struct Gemm {
  int64_t m = 0, n = 0, k = 0;
  GemmOperand a{}, b{};
  float* c = nullptr;               // element (i, j) of product z at c[z * m * n + i * c_row + j * c_column]
  int64_t c_row = 0, c_column = 1;  // of a dense matrix (m, n) or its transpose
  const float* bias = nullptr;      // added: bias[i * bias_row + j * bias_column]
  int64_t bias_row = 0, bias_column = 1;
  GemmBatch batch{}, summed{};  // z and q

  // Becomes c^T = b^T a^T.
  void transpose() {
    std::swap(m, n), std::swap(a, b), std::swap(c_row, c_column), std::swap(bias_row, bias_column);
    for (GemmBatch* axes : {&batch, &summed}) std::swap(axes->a, axes->b);
  }
};

// One call of a strided batched BLAS product of column-major matrices: C (m, n) = op(A) op(B), added to C where `accumulate`.
struct BlasCall {
  int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false;
  const float* a = nullptr;
  const float* b = nullptr;
  float* c = nullptr;
  int64_t lda = 0, ldb = 0, ldc = 0;           // between two columns
  int64_t step_a = 0, step_b = 0, step_c = 0;  // between two matrices
  int64_t batch = 1;
  bool accumulate = false;
};

// The calls, in their order, that compute `g` without its bias: a row-major product is the column-major one of swapped operands. None
// where an operand has no unit stride, or more than 64 calls would be needed. Of no empty product.
std::vector<BlasCall> blas_calls(const Gemm& g);

namespace cublas {
// Computes `g` without its bias in precision() on the compute stream; false where cuBLAS, or a layout for it, is not there
// (GLIA_WITH_CUBLAS).
bool gemm(const Gemm& g, Device device);
std::string fault();  // why the library cannot be used; empty when it can
}  // namespace cublas

}  // namespace glia
