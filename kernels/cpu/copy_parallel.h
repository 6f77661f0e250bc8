#pragma once
// Copies by all threads.
#include "tensor/parallel.h"
#include "tensor/tensor.h"

namespace glia::cpu {

inline void copy_all(std::byte* to, const std::byte* from, size_t bytes) {
  constexpr int64_t grain = 1 << 20;
  parallel_for(static_cast<int64_t>(bytes), grain,
               [&](int64_t begin, int64_t end) { copy_bytes(to + begin, from + begin, static_cast<size_t>(end - begin)); });
}

}  // namespace glia::cpu
