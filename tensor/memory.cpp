// The pools behind tensor/memory.h: notes on live blocks, counters, caps and guards, the same for every device.
#include "tensor/memory.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <vector>

#include "tensor/error.h"
#include "tensor/memory_source.h"

namespace glia {
namespace {

thread_local const char* scope_name = "tensor";

struct BlockNote {
  size_t bytes;
  Shape shape;
  DType dtype;
  const char* scope;
  bool guarded;
};

std::string megabytes(size_t bytes) { return fmt::format("{:.1f} MB", double(bytes) / 1e6); }

class Pool {
 public:
  Pool(std::unique_ptr<MemorySource> source, Device device) : source_(std::move(source)), device_(device) {}

  std::byte* take(size_t bytes, const Shape& shape, DType dtype, bool guarded) {
    const std::lock_guard lock(mutex_);
    const size_t rounded = round_up(bytes);
    if (limit_ && stats_.live_bytes + rounded > limit_) throw OutOfMemoryError(report(rounded, shape, dtype, "the limit"));
    std::byte* p = source_->take(guarded ? framed(bytes) : rounded);
    if (!p) throw OutOfMemoryError(report(rounded, shape, dtype, "the system"));
    if (guarded) {
      source_->set_bytes(p, guard_value, guard_bytes);
      source_->set_bytes(p + guard_bytes, std::byte{0xFF}, bytes);
      source_->set_bytes(p + guard_bytes + bytes, guard_value, guard_bytes);
      p += guard_bytes;
    }
    live_[p] = {guarded ? bytes : rounded, shape, dtype, scope_name, guarded};
    stats_.live_bytes += live_[p].bytes;
    stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.live_bytes);
    stats_.allocations = live_.size();
    return p;
  }

  void give(std::byte* p) {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(p);
    const BlockNote note = found->second;
    if (note.guarded) violations_ += broken_guards(p, note.bytes);
    live_.erase(found);
    stats_.live_bytes -= note.bytes;
    stats_.allocations = live_.size();
    if (note.guarded) {
      source_->give(p - guard_bytes, framed(note.bytes));
    } else {
      source_->give(p, note.bytes);
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
  void forget_violations() {
    const std::lock_guard lock(mutex_);
    violations_ = 0;
  }
  int violations() {
    const std::lock_guard lock(mutex_);
    int count = violations_;
    for (const auto& [p, note] : live_)
      if (note.guarded) count += broken_guards(p, note.bytes);
    return count;
  }

 private:
  static constexpr size_t guard_bytes = 256;  // keeps the alignment of every device
  static constexpr std::byte guard_value{0xA5};

  size_t round_up(size_t bytes) const {
    const size_t unit = source_->granularity(bytes);
    return (bytes + unit - 1) / unit * unit;
  }
  size_t framed(size_t bytes) const { return round_up(bytes + 2 * guard_bytes); }

  int broken_guards(const std::byte* p, size_t bytes) {
    return source_->all_bytes(p - guard_bytes, guard_value, guard_bytes) &&
                   source_->all_bytes(p + bytes, guard_value, guard_bytes)
               ? 0
               : 1;
  }

  std::string report(size_t bytes, const Shape& shape, DType dtype, const char* refused_by) const {
    std::string text =
        fmt::format("out of memory on {}: {} {} {} ({}) was refused by {}; {} live", to_string(device_), scope_name,
                    to_string(shape), name_of(dtype), megabytes(bytes), refused_by, megabytes(stats_.live_bytes));
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
    return text +
           "\nless is needed by smaller images (data.image_size; of Mask R-CNN input.crop or input.min_size_train), smaller "
           "batches (solver.batch_size, with solver.accumulate for the same effect), or a smaller network (model.base_channels; "
           "of "
           "Mask R-CNN backbone.fpn_channels)";
  }

  std::mutex mutex_;
  std::unique_ptr<MemorySource> source_;
  Device device_;
  std::map<std::byte*, BlockNote> live_;
  MemoryStats stats_;
  size_t limit_ = 0;
  int violations_ = 0;
};

std::atomic<bool> guards_on{false};

// Pools are never destroyed: tensors in statics may outlive main.
Pool& host_pool() {
  static auto* pool = new Pool(host_memory(), Device{});
  return *pool;
}

// The pool of a device: made at its first use. One CUDA device a process (tensor/stream.h).
Pool& pool_of(Device device) {
  if (device.kind == DeviceKind::cpu) return host_pool();
  static std::mutex mutex;
  static std::array<Pool*, 3> pools{};
  const std::lock_guard lock(mutex);
  Pool*& pool = pools[static_cast<size_t>(device.kind)];
  if (!pool) pool = new Pool(device_memory(device), device);
  return *pool;
}

}  // namespace

MemoryStats memory_stats(Device device) { return pool_of(device).stats(); }
void reset_peak_memory(Device device) { pool_of(device).reset_peak(); }
void set_memory_limit(size_t bytes, Device device) { pool_of(device).set_limit(bytes); }

void set_memory_guards(bool on) {
  guards_on = on;
  if (!on) return;
  host_pool().forget_violations();
  pool_of({DeviceKind::emulated}).forget_violations();
}
int memory_guard_violations() { return host_pool().violations() + pool_of({DeviceKind::emulated}).violations(); }

MemoryScope::MemoryScope(const char* name) : previous_(scope_name) { scope_name = name; }
MemoryScope::~MemoryScope() { scope_name = previous_; }
const char* memory_scope() { return scope_name; }

std::shared_ptr<std::byte> allocate(size_t bytes, Device device, const Shape& shape, DType dtype) {
  if (bytes == 0) return nullptr;
  Pool& pool = pool_of(device);
  return {pool.take(bytes, shape, dtype, guards_on), [&pool](std::byte* p) { pool.give(p); }};
}

}  // namespace glia
