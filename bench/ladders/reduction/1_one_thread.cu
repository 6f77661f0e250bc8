// Step 1: one thread adds everything.
//
// The specification. On a GPU with 132 multiprocessors it uses one lane of one of them, and each of its reads waits for the one before.
#include "bench/ladders/reduction/reduction.h"
#include "bench/ladders/step.cuh"

namespace glia::GPU_NS {

__global__ void sum_one_thread_kernel(int n, const float* x, float* y) {
  float sum = 0;
  for (int i = 0; i < n; ++i) sum += x[i];
  *y = sum;
}

void reduction_1_one_thread(const Problem& p) {
  launch({1, 1}, sum_one_thread_kernel, dim(p, 0), input(p, 0), output(p));
}

}  // namespace glia::GPU_NS
