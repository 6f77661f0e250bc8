#pragma once
// Products of matrices for the bodies of this folder: c[z] = sum over q of a[z, q] b[z, q] + bias (kernels/cuda/gemm.cu).
#include "kernels/cuda/launch.cuh"

namespace glia::GPU_NS {

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
  GemmOperand a, b;
  float* c = nullptr;               // element (i, j) of product z at c[z * m * n + i * c_row + j * c_column]
  int64_t c_row = 0, c_column = 1;  // of a dense matrix (m, n) or its transpose
  const float* bias = nullptr;      // added: bias[i * bias_row + j * bias_column]
  int64_t bias_row = 0, bias_column = 1;
  GemmBatch batch{}, summed{};  // z and q
};

// Overwrites c, computing in precision() (products of up to 16 rows or columns, bound by memory, always in float32). An empty
// inner or summed index gives the bias, or zeros. The result depends on the sizes alone, to the bit.
void gemm(const Gemm& problem, Device device);

}  // namespace glia::GPU_NS
