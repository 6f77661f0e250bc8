// y = x mask / (1 - p) and dx = dy mask / (1 - p), the mask drawn on the way: one call of Philox for four neighbouring elements,
// as many as a thread takes at a time. Some hundred instructions for 32 bytes: bound by memory. The words are tensor/random.h's,
// so the mask is the same on every device.
#include "kernels/cuda/elementwise.cuh"
#include "kernels/dropout.h"
#include "tensor/random.h"

namespace glia::GPU_NS {

struct Drop {
  static constexpr int arrays = 2;
  static constexpr unsigned reads = 2, writes = 1;
  Philox random;
  uint32_t threshold;
  float scale;

  __device__ float keep(uint32_t word, float x) const { return word >> 8 >= threshold ? x * scale : 0.0f; }
  __device__ void operator()(Pack<4> (&v)[arrays], int64_t first) const {
    const auto words = random.words(uint64_t(first) >> 2);
    GPU_UNROLL
    for (size_t j = 0; j < 4; ++j) v[0].at[j] = keep(words[j], v[1].at[j]);
  }
  __device__ void operator()(Pack<1> (&v)[arrays], int64_t i) const {
    const auto words = random.words(uint64_t(i) >> 2);
    const uint32_t low = i & 1 ? words[1] : words[0], high = i & 1 ? words[3] : words[2];
    v[0].at[0] = keep(i & 2 ? high : low, v[1].at[0]);
  }
};

// A byte for each element.
struct DropMasked {
  static constexpr int arrays = 2;
  static constexpr unsigned reads = 2, writes = 1;
  const uint8_t* mask;
  float scale;

  template <int width>
  __device__ void operator()(Pack<width> (&v)[arrays], int64_t first) const {
    GPU_UNROLL
    for (int j = 0; j < width; ++j) v[0].at[j] = __ldg(mask + first + j) ? v[1].at[j] * scale : 0.0f;
  }
};

void dropout(const Dropout& op, const Tensor& x, Tensor& y) {
  run_elementwise(Drop{Philox(op.seed, op.stream), dropout_threshold(op.p), float(op.scale())}, x.size(),
                  {{y.device_data<float>(), x.device_data<float>()}});
}
void dropout_backward(const Dropout& op, const Tensor&, const Tensor&, const Tensor& dy, Tensor* dx) {
  if (dx) dropout(op, dy, *dx);
}

void masked_dropout(const MaskedDropout& op, const Tensor& x, const Tensor& mask, Tensor& y) {
  run_elementwise(DropMasked{mask.device_data<uint8_t>(), float(op.scale())}, x.size(),
                  {{y.device_data<float>(), x.device_data<float>()}});
}
void masked_dropout_backward(const MaskedDropout& op, const Tensor&, const Tensor& mask, const Tensor&, const Tensor& dy,
                             Tensor* dx, Tensor* dmask) {
  GLIA_CHECK(!dmask, "masked_dropout: the mask has no gradient");
  if (dx) masked_dropout(op, dy, mask, *dx);
}

}  // namespace glia::GPU_NS
