// The allocator behind tensor/memory.h.
// Small blocks (below 64 KiB) come from the C++ heap; large ones from the arena: a reserved, huge-page advised range of
// addresses in which free blocks are kept by address (to coalesce) and by size (best fit). Under a sanitizer every block
// comes from the heap, so that overruns are seen.
#include "tensor/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <vector>

#include "tensor/error.h"

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

thread_local const char* scope_name = "tensor";

struct BlockNote {
  size_t bytes;
  Shape shape;
  DType dtype;
  const char* scope;
  bool guarded;
};

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

std::string megabytes(size_t bytes) { return fmt::format("{:.1f} MB", double(bytes) / 1e6); }

// Invariants: free_by_address_ and free_by_size_ hold the same blocks; no two free blocks touch.
class Arena {
 public:
  std::byte* take(size_t bytes) {
    if (!base_ && !reserve()) return nullptr;
    const auto found = free_by_size_.lower_bound({bytes, nullptr});
    if (found == free_by_size_.end()) return nullptr;
    auto [size, address] = *found;
    remove(address, size);
    if (size > bytes) insert(address + bytes, size - bytes);
    return address;
  }

  void give(std::byte* address, size_t bytes) {
    auto next = free_by_address_.lower_bound(address);
    if (next != free_by_address_.end() && address + bytes == next->first) {
      bytes += next->second;
      remove(next->first, next->second);
    }
    next = free_by_address_.lower_bound(address);
    if (next != free_by_address_.begin()) {
      const auto [before, size] = *std::prev(next);
      if (before + size == address) {
        remove(before, size);
        address = before;
        bytes += size;
      }
    }
    insert(address, bytes);
  }

  bool owns(const std::byte* p) const { return base_ && p >= base_ && p < base_ + size_; }

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
      insert(base_, size_);
      return true;
    }
    return false;
  }

  void insert(std::byte* address, size_t bytes) {
    free_by_address_[address] = bytes;
    free_by_size_.insert({bytes, address});
  }
  void remove(std::byte* address, size_t bytes) {
    free_by_address_.erase(address);
    free_by_size_.erase({bytes, address});
  }

  std::byte* base_ = nullptr;
  size_t size_ = 0;
  std::map<std::byte*, size_t> free_by_address_;
  std::set<std::pair<size_t, std::byte*>> free_by_size_;
};

class HostAllocator {
 public:
  std::byte* take(size_t bytes, const Shape& shape, DType dtype) {
    const std::lock_guard lock(mutex_);
    if (guards_on_) return take_guarded(bytes, shape, dtype);
    const size_t rounded = round_up(bytes, bytes >= large ? page : alignment);
    if (limit_ && stats_.live_bytes + rounded > limit_) throw OutOfMemoryError(report(rounded, shape, dtype, "the limit"));
    std::byte* p = nullptr;
    if (use_arena && bytes >= large) p = arena_.take(rounded);
    if (!p) p = static_cast<std::byte*>(::operator new(rounded, std::align_val_t(alignment), std::nothrow));
    if (!p) throw OutOfMemoryError(report(rounded, shape, dtype, "the system"));
    live_[p] = {rounded, shape, dtype, scope_name, false};
    stats_.live_bytes += rounded;
    stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.live_bytes);
    stats_.allocations = live_.size();
    return p;
  }

  void give(std::byte* p) {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(p);
    const BlockNote note = found->second;
    const size_t bytes = note.bytes;
    if (note.guarded) violations_ += broken_guards(p, bytes);
    live_.erase(found);
    stats_.live_bytes -= bytes;
    stats_.allocations = live_.size();
    if (note.guarded) return ::operator delete(p - guard_bytes, std::align_val_t(alignment));
    if (arena_.owns(p)) {
      arena_.give(p, bytes);
    } else {
      ::operator delete(p, std::align_val_t(alignment));
    }
  }

  MemoryStats stats() {
    const std::lock_guard lock(mutex_);
    return stats_;
  }
  void reset_peak() {
    const std::lock_guard lock(mutex_);
    stats_.peak_bytes = stats_.live_bytes;
  }
  void set_limit(size_t bytes) {
    const std::lock_guard lock(mutex_);
    limit_ = bytes;
  }
  void set_guards(bool on) {
    const std::lock_guard lock(mutex_);
    guards_on_ = on;
    if (on) violations_ = 0;
  }
  int violations() {
    const std::lock_guard lock(mutex_);
    int count = violations_;
    for (const auto& [p, note] : live_)
      if (note.guarded) count += broken_guards(p, note.bytes);
    return count;
  }

 private:
  static constexpr size_t guard_bytes = 64;
  static constexpr std::byte guard_value{0xA5};

  std::byte* take_guarded(size_t bytes, const Shape& shape, DType dtype) {
    auto* block = static_cast<std::byte*>(::operator new(bytes + 2 * guard_bytes, std::align_val_t(alignment)));
    std::byte* p = block + guard_bytes;
    std::fill_n(block, guard_bytes, guard_value);
    std::fill_n(p, bytes, std::byte{0xFF});
    std::fill_n(p + bytes, guard_bytes, guard_value);
    live_[p] = {bytes, shape, dtype, scope_name, true};
    stats_.live_bytes += bytes;
    return p;
  }

  static int broken_guards(const std::byte* p, size_t bytes) {
    const auto intact = [](const std::byte* from) {
      return std::all_of(from, from + guard_bytes, [](std::byte b) { return b == guard_value; });
    };
    return intact(p - guard_bytes) && intact(p + bytes) ? 0 : 1;
  }

  std::string report(size_t bytes, const Shape& shape, DType dtype, const char* refused_by) const {
    std::string text = fmt::format("out of memory: {} {} {} ({}) was refused by {}; {} live", scope_name, to_string(shape),
                                   name_of(dtype), megabytes(bytes), refused_by, megabytes(stats_.live_bytes));
    if (limit_) text += ", limit " + megabytes(limit_);
    std::vector<const BlockNote*> notes;
    for (const auto& [p, note] : live_) notes.push_back(&note);
    const size_t shown = std::min<size_t>(10, notes.size());
    std::partial_sort(notes.begin(), notes.begin() + static_cast<std::ptrdiff_t>(shown), notes.end(),
                      [](auto* a, auto* b) { return a->bytes > b->bytes; });
    text += "\nlargest live tensors:";
    for (size_t i = 0; i < shown; ++i)
      text += fmt::format("\n  {:>10}  {} {} {}", megabytes(notes[i]->bytes), notes[i]->scope, to_string(notes[i]->shape),
                          name_of(notes[i]->dtype));
    return text + "\nsmaller images or batches, or a smaller base width, need less";
  }

  std::mutex mutex_;
  Arena arena_;
  std::map<std::byte*, BlockNote> live_;
  MemoryStats stats_;
  size_t limit_ = 0;
  bool guards_on_ = false;
  int violations_ = 0;
};

HostAllocator& host() {
  static auto* allocator = new HostAllocator;  // never destroyed: tensors in statics may outlive main
  return *allocator;
}

}  // namespace

MemoryStats memory_stats() { return host().stats(); }
void reset_peak_memory() { host().reset_peak(); }
void set_memory_limit(size_t bytes) { host().set_limit(bytes); }

void set_memory_guards(bool on) { host().set_guards(on); }
int memory_guard_violations() { return host().violations(); }

MemoryScope::MemoryScope(const char* name) : previous_(scope_name) { scope_name = name; }
MemoryScope::~MemoryScope() { scope_name = previous_; }

std::shared_ptr<std::byte> allocate(size_t bytes, Device device, const Shape& shape, DType dtype) {
  require_available(device);
  if (bytes == 0) return nullptr;
  return {host().take(bytes, shape, dtype), [](std::byte* p) { host().give(p); }};
}

}  // namespace glia
