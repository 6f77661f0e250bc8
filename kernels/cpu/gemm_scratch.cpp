#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <new>

#include "kernels/cpu/gemm.h"

namespace glia::cpu {
namespace {

struct Block {
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float, Free> data;
  size_t bytes = 0;
};

}  // namespace

float* thread_scratch(Scratch slot, int64_t floats) {
  thread_local std::array<Block, static_cast<size_t>(Scratch::count)> blocks;
  Block& block = blocks[static_cast<size_t>(slot)];
  const size_t bytes = (static_cast<size_t>(floats) * sizeof(float) + 4095) / 4096 * 4096;
  if (bytes > block.bytes) {
    block.data.reset();
    block.bytes = 0;
    block.data.reset(static_cast<float*>(std::aligned_alloc(4096, bytes)));
    if (!block.data) throw std::bad_alloc();
    block.bytes = bytes;
  }
  return block.data.get();
}

int64_t l2_bytes() {
  static const int64_t bytes = [] {
    const int64_t reported = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return std::clamp<int64_t>(reported > 0 ? reported : 512 << 10, 256 << 10, 2 << 20);
  }();
  return bytes;
}

}  // namespace glia::cpu
