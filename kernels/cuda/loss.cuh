#pragma once
// What the losses share: sums in double that blocks gather, and the logistic function.
#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/reduce.cuh"

namespace glia::GPU_NS {

// The end of a kernel that gathers: what the block has is the result if there is no other block, else a partial result for
// merge_partials_kernel.
template <class A, class Finish>
__device__ void leave_partial(A mine, A (&parts)[32], A* partials, const Finish& finish) {
  mine = merge_block(mine, parts);
  if (threadIdx.x != 0) return;
  if (gridDim.x == 1) {
    finish(mine);
  } else {
    partials[blockIdx.x] = mine;
  }
}

using DoubleSum = Total<double>;

// y = factor sum
struct WriteSum {
  double factor;
  float* y;
  __device__ void operator()(const DoubleSum& total) const { *y = float(total.sum * factor); }
};

// Room for one accumulator of each block.
template <class A>
class LossPartials {
 public:
  LossPartials(int blocks, Device device) : blocks_(blocks), memory_({blocks * int64_t(sizeof(A))}, DType::uint8, device) {}
  int blocks() const { return blocks_; }
  A* at() const { return reinterpret_cast<A*>(memory_.raw()); }

 private:
  int blocks_;
  Tensor memory_;
};

// What is to be done when the kernel's blocks have left theirs.
template <class A, class Finish>
void merge_partials(const LossPartials<A>& partials, const Finish& finish) {
  if (partials.blocks() > 1)
    launch({1, reduce_threads}, merge_partials_kernel<A, Finish>, partials.at(), partials.blocks(), finish);
}

// p = sigmoid(x), q = 1 - p and log(1 + e^-|x|) from one exponential of what is never positive. NaN stays NaN.
struct Logistic {
  float p, q, softplus;

  __device__ explicit Logistic(float x) {
    const float e = expf(-fabsf(x)), large = __fdividef(1.0f, 1.0f + e), small = e * large;
    p = x >= 0 ? large : small;
    q = x >= 0 ? small : large;
    softplus = log1pf(e);
  }
};

// -t log p - (1 - t) log q of a logit x
__device__ inline float cross_entropy_of(float x, float t, const Logistic& l) { return (x > 0 ? x : 0.0f) - x * t + l.softplus; }

}  // namespace glia::GPU_NS
