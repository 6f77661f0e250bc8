// Step 4: four packs of 16 bytes under way in every thread.
//
// What is left is memory's speed, and that wants bytes in flight: 4.8 TB/s at 600 ns of latency are 2.9 MB, some 22 KB a
// multiprocessor. Threads that load 4 bytes and wait for them cannot have that many; four loads of 16 bytes before the first addition can.
// Four sums a thread, so that additions do not wait for each other either. The tail is added by single numbers.
#include "bench/ladders/reduction/reduction.h"
#include "bench/ladders/step.cuh"

namespace glia::GPU_NS {

constexpr int packs_at_once = 4;

__global__ void __launch_bounds__(256) sum_packs_kernel(int n, const float* x, float* y) {
  GPU_SHARED(float, of_warp, [8]);
  const int t = static_cast<int>(threadIdx.x), stride = static_cast<int>(gridDim.x) * 256;
  const int packs = n / 4, first = static_cast<int>(blockIdx.x) * 256 + t;
  const float4* four = reinterpret_cast<const float4*>(x);
  float4 sums = make_float4(0, 0, 0, 0);
  int i = first;
  for (; i + (packs_at_once - 1) * stride < packs; i += packs_at_once * stride) {
    float4 v[packs_at_once];
    GPU_UNROLL
    for (int j = 0; j < packs_at_once; ++j) v[j] = four[i + j * stride];
    GPU_UNROLL
    for (int j = 0; j < packs_at_once; ++j) sums = make_float4(sums.x + v[j].x, sums.y + v[j].y, sums.z + v[j].z, sums.w + v[j].w);
  }
  for (; i < packs; i += stride) {
    const float4 v = four[i];
    sums = make_float4(sums.x + v.x, sums.y + v.y, sums.z + v.z, sums.w + v.w);
  }
  float sum = (sums.x + sums.y) + (sums.z + sums.w);
  if (first < n % 4) sum += x[packs * 4 + first];
  for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  if (t % 32 == 0) of_warp[t / 32] = sum;
  __syncthreads();
  if (t > 0) return;
  sum = 0;
  for (int w = 0; w < 8; ++w) sum += of_warp[w];
  y[blockIdx.x] = sum;
}

void reduction_4_packs(const Problem& p) {
  const int n = dim(p, 0);
  const unsigned parts = std::max(1u, std::min(blocks(n, 256 * 4 * packs_at_once), 528u));
  const Tensor partial({int64_t(parts)}, DType::float32, p.out.device());
  launch({parts, 256}, sum_packs_kernel, n, input(p, 0), partial.device_data<float>());
  launch({1, 256}, sum_packs_kernel, static_cast<int>(parts), partial.device_data<float>(), output(p));
}

}  // namespace glia::GPU_NS
