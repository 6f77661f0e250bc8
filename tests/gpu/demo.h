#pragma once
// Small kernels that between them use everything kernels are made of: barriers, shuffles, votes, shared and dynamic memory,
// asynchronous copies, tensor cores, atomics, fences. For testing the emulator, not for use. demo.cu is compiled once per side.
#include "gpu/runtime.h"

namespace glia::tests {

// Device pointers throughout; each gives a CUDA error code. Matrices are row-major.
struct Demo {
  int (*block_sum)(const float* x, float* out, int n, gpu::Stream stream);  // out += sum of x
  // *out = sum of x; parts: 16 floats; *ticket is 0
  int (*last_block_sum)(const float* x, float* parts, unsigned* ticket, float* out, int n, gpu::Stream stream);
  int (*axpy)(float a, const float* x, float* y, int n, gpu::Stream stream);
  int (*transpose)(const float* x, float* y, int n, gpu::Stream stream);      // n x n, n a multiple of 32
  int (*histogram)(const int* x, unsigned* bins, int n, gpu::Stream stream);  // 64 bins, x in [0, 64)
  // The positive values of x in their order, at most 256; n is at most 256. *count: how many
  int (*compact)(const float* x, float* y, int* count, int n, gpu::Stream stream);
  int (*sgemm)(const float* a, const float* b, float* c, int m, int n, int k, gpu::Stream stream);  // n, k multiples of 4
  // c = a b^T; a (m, k), b (n, k); m, n multiples of 32, k of 16
  int (*gemm_tf32)(const float* a, const float* b, float* c, int m, int n, int k, gpu::Stream stream);
  // c = a b; 16-bit words of bfloat16; m, n multiples of 32, k of 16
  int (*gemm_bf16)(const unsigned short* a, const unsigned short* b, float* c, int m, int n, int k, gpu::Stream stream);
};

}  // namespace glia::tests

namespace glia::emulated {
extern const tests::Demo demo;
}
namespace glia::cuda {
extern const tests::Demo demo;
}
