#pragma once
// Products of matrices for the bodies of this folder: c[z] = sum over q of a[z, q] b[z, q] + bias (kernels/cuda/gemm.cu).
#include "kernels/cuda/launch.cuh"
#include "kernels/gemm.h"

namespace glia::GPU_NS {

// Overwrites c, computing in precision() (products of up to 16 rows or columns, bound by memory, always in float32). An empty
// inner or summed index gives the bias, or zeros. The result depends on the sizes alone, to the bit.
void gemm(const Gemm& problem, Device device);

}  // namespace glia::GPU_NS
