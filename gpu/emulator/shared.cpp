// The arena of shared memory: dynamic bytes first, then the declared arrays, a gap after each. Everything starts as 0xff, which
// reads as NaN or -1. Gaps are poisoned under ASan, which stops at the access; without it they are inspected when the block ends.
#include "gpu/emulator/shared.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "gpu/emulator/block.h"
#include "gpu/emulator/sanitizers.h"

namespace gpu::emulator {

namespace {
constexpr size_t kGap = 64;
constexpr int kFresh = 0xff;
}  // namespace

Block::Block() {
  arena_ = static_cast<char*>(std::aligned_alloc(1024, kArena));
  if (!arena_) fail("no memory for shared memory");
  std::memset(arena_, kFresh, kArena);
  forbid(arena_, kArena);
}

Block::~Block() {
  allow(arena_, kArena);
  std::free(arena_);
}

void Block::clear_shared() {
  static thread_local unsigned serial = 0;
  current_block_serial = ++serial ? serial : ++serial;
  if (arena_end_) {
    allow(arena_, arena_end_);
    std::memset(arena_, kFresh, arena_end_);
    forbid(arena_, arena_end_);
  }
  arrays_.clear();
  arena_end_ = 0;
  if (dynamic_bytes_) {
    arrays_.push_back({0, dynamic_bytes_, "dynamic shared memory", {}});
    arena_end_ = (dynamic_bytes_ + 15) / 16 * 16 + kGap;
    allow(arena_, dynamic_bytes_);
  }
}

void* Block::place_shared(SharedSlot& slot, size_t bytes, size_t alignment, const char* name, Site site) {
  size_t declared = bytes;
  for (const SharedArray& a : arrays_)
    if (a.site.file) declared += a.end - a.begin;
  if (declared > kStaticShared || declared + dynamic_bytes_ > kBlockShared)
    fail("shared array %s at %s:%u: the block would hold %zu bytes in declared arrays (limit %zu), %zu dynamic ones (limit %zu)",
         name, site.file, site.line, declared, kStaticShared, dynamic_bytes_, kBlockShared);
  alignment = std::max<size_t>(alignment, 16);
  const size_t begin = (arena_end_ + alignment - 1) / alignment * alignment;
  arrays_.push_back({begin, begin + bytes, name, site});
  arena_end_ = (begin + bytes + 15) / 16 * 16 + kGap;
  slot.place = arena_ + begin;
  slot.block_serial = current_block_serial;
  allow(slot.place, bytes);
  return slot.place;
}

// Finds writes into a gap; the array before it is the likely one.
void Block::check_gaps() {
  if (GPU_ASAN || !strict_) return;
  for (size_t i = 0; i < arrays_.size(); ++i) {
    const SharedArray& a = arrays_[i];
    const size_t next = i + 1 < arrays_.size() ? arrays_[i + 1].begin : arena_end_;
    for (size_t at = a.end; at < next; ++at)
      if (static_cast<unsigned char>(arena_[at]) != kFresh)
        fail("block (%u,%u,%u) wrote %zu bytes past the end of %s%s%s:%u", cuda_names::blockIdx.x, cuda_names::blockIdx.y,
             cuda_names::blockIdx.z, at - a.end, a.name, a.site.file ? ", declared at " : "", a.site.file ? a.site.file : "",
             a.site.line);
  }
}

void* Block::dynamic_shared(size_t at_least) {
  if (at_least > dynamic_bytes_)
    fail("the kernel uses %zu bytes of dynamic shared memory but was launched with %zu", at_least, dynamic_bytes_);
  return arena_;
}

void* place_shared(SharedSlot& slot, size_t bytes, size_t alignment, const char* name, Site site) {
  return current.block->place_shared(slot, bytes, alignment, name, site);
}

void* dynamic_shared_bytes(size_t at_least) { return current.block->dynamic_shared(at_least); }

}  // namespace gpu::emulator
