#pragma once
// What this machine can do at most, measured: the denominators of the benchmarks' percentages.

namespace glia::bench {

struct Peak {
  double gflops;  // float32 multiply-adds, 2 operations each, in the widest SIMD registers, all num_threads() threads
  double gbytes;  // copying memory beyond the caches, bytes read plus bytes written, a second
};

const Peak& peak();  // measured once, about 0.3 s

}  // namespace glia::bench
