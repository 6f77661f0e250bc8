#pragma once
// What every step starts with.
#include "bench/ladders/ladder.h"
#include "kernels/cuda/launch.cuh"

namespace glia::GPU_NS {

using ladders::Problem;

inline float* output(const Problem& p) { return p.out.device_data<float>(); }
inline const float* input(const Problem& p, size_t i) { return p.in[i].device_data<float>(); }
inline int dim(const Problem& p, size_t i) { return static_cast<int>(p.size[i]); }
inline unsigned blocks(int n, int by) { return static_cast<unsigned>((n + by - 1) / by); }

}  // namespace glia::GPU_NS
