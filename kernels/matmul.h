#pragma once
// Products of matrices. An inner size of 0 gives zeros (plus the bias).
#include <vector>

#include "kernels/op.h"

namespace glia {

// y = x w^T + bias: inputs x (..., I), w (O, I), bias (O) or absent; output (..., O).
struct Linear {
  TensorSpec infer(const Tensor& x, const Tensor& w, const Tensor& bias) const;
  using Forward = void(const Linear&, const Tensor& x, const Tensor& w, const Tensor& bias, Tensor& y);
  using Backward = void(const Linear&, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y, const Tensor& dy,
                        Tensor* dx, Tensor* dw, Tensor* dbias);
  static constexpr SaveSet saves = save::input(0) | save::input(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// y = a b over the last two axes, each transposed first where asked; the leading axes broadcast. Ranks from 2; a (..., M, I) or
// (..., I, M), b (..., I, N) or (..., N, I), y (..., M, N).
struct Matmul {
  bool transpose_a = false;
  bool transpose_b = false;

  TensorSpec infer(const Tensor& a, const Tensor& b) const;
  using Forward = void(const Matmul&, const Tensor& a, const Tensor& b, Tensor& y);
  using Backward = void(const Matmul&, const Tensor& a, const Tensor& b, const Tensor& y, const Tensor& dy, Tensor* da,
                        Tensor* db);
  static constexpr SaveSet saves = save::input(0) | save::input(1);
  static const Variants<Forward> forward;
  static const Variants<Backward> backward;
};

// One Matmul as a list of plain products: sizes, and which matrix of a and of b makes which matrix of y.
struct MatmulPlan {
  int64_t m = 0, n = 0, inner = 0;
  struct Triple {
    int64_t a, b, y;  // indices of matrices
  };
  std::vector<Triple> products;  // in the order of y
};
MatmulPlan matmul_plan(const Matmul& op, const Shape& a, const Shape& b);

namespace reference {
Linear::Forward linear;
Linear::Backward linear_backward;
Matmul::Forward matmul;
Matmul::Backward matmul_backward;
}  // namespace reference

namespace cpu {
Linear::Forward linear;
Linear::Backward linear_backward;
Matmul::Forward matmul;
Matmul::Backward matmul_backward;
}  // namespace cpu
namespace emulated {
Linear::Forward linear;
Linear::Backward linear_backward;
Matmul::Forward matmul;
Matmul::Backward matmul_backward;
}  // namespace emulated
namespace cuda {
Linear::Forward linear;
Linear::Backward linear_backward;
Matmul::Forward matmul;
Matmul::Backward matmul_backward;
}  // namespace cuda

inline constexpr Variants<Linear::Forward> Linear::forward{.name = "linear",
                                                           .reference = reference::linear,
                                                           .cpu = cpu::linear,
                                                           .emulated = emulated::linear,
                                                           .cuda = GLIA_CUDA(cuda::linear),
                                                           .vendor = GLIA_CUBLAS_SLOT(cuda::linear)};
inline constexpr Variants<Linear::Backward> Linear::backward{.name = "linear_backward",
                                                             .reference = reference::linear_backward,
                                                             .cpu = cpu::linear_backward,
                                                             .emulated = emulated::linear_backward,
                                                             .cuda = GLIA_CUDA(cuda::linear_backward),
                                                             .vendor = GLIA_CUBLAS_SLOT(cuda::linear_backward)};
inline constexpr Variants<Matmul::Forward> Matmul::forward{.name = "matmul",
                                                           .reference = reference::matmul,
                                                           .cpu = cpu::matmul,
                                                           .emulated = emulated::matmul,
                                                           .cuda = GLIA_CUDA(cuda::matmul),
                                                           .vendor = GLIA_CUBLAS_SLOT(cuda::matmul)};
inline constexpr Variants<Matmul::Backward> Matmul::backward{.name = "matmul_backward",
                                                             .reference = reference::matmul_backward,
                                                             .cpu = cpu::matmul_backward,
                                                             .emulated = emulated::matmul_backward,
                                                             .cuda = GLIA_CUDA(cuda::matmul_backward),
                                                             .vendor = GLIA_CUBLAS_SLOT(cuda::matmul_backward)};

}  // namespace glia
