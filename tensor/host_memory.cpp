// The host's memory. Small blocks (below 64 KiB) come from the C++ heap; large ones from the arena: a reserved, huge-page advised
// range of addresses. Under a sanitizer every block comes from the heap, so that overruns are seen.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>

#include "tensor/memory_source.h"

namespace glia {
namespace {

constexpr size_t alignment = 64;
constexpr size_t page = 4096;
constexpr size_t large = 64 * 1024;
constexpr size_t huge_page = size_t(2) << 20;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool use_arena = false;
#else
constexpr bool use_arena = true;
#endif

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

class HostMemory final : public MemorySource {
 public:
  size_t granularity(size_t bytes) const override { return bytes >= large ? page : alignment; }

  std::byte* take(size_t bytes) override {
    if (use_arena && bytes >= large && (base_ || reserve()))
      if (std::byte* p = free_.take(bytes)) return p;
    return static_cast<std::byte*>(::operator new(bytes, std::align_val_t(alignment), std::nothrow));
  }

  void give(std::byte* p, size_t bytes) override {
    if (base_ && p >= base_ && p < base_ + size_) return free_.give(p, bytes);
    ::operator delete(p, std::align_val_t(alignment));
  }

  void set_bytes(std::byte* p, std::byte value, size_t n) override { std::fill_n(p, n, value); }
  bool all_bytes(const std::byte* p, std::byte value, size_t n) override {
    return std::all_of(p, p + n, [value](std::byte b) { return b == value; });
  }

 private:
  // Reserves addresses, not memory: as many as the machine has memory, less where the system refuses.
  bool reserve() {
    const auto physical = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
    for (size_t want = round_up(physical, huge_page); want >= (size_t(256) << 20); want = round_up(want / 2, huge_page)) {
      void* p = mmap(nullptr, want + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (p == MAP_FAILED) continue;
      base_ = reinterpret_cast<std::byte*>(round_up(reinterpret_cast<uintptr_t>(p), huge_page));
      size_ = want;
      madvise(base_, size_, MADV_HUGEPAGE);
      free_.add_segment(base_, size_);
      return true;
    }
    return false;
  }

  std::byte* base_ = nullptr;
  size_t size_ = 0;
  FreeBlocks free_;
};

}  // namespace

std::unique_ptr<MemorySource> host_memory() { return std::make_unique<HostMemory>(); }

}  // namespace glia
