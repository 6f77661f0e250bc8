#pragma once
// Where a pool of tensor/memory.cpp takes its bytes from, and the list of free blocks that sources share.
#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "tensor/device.h"

namespace glia {

// Blocks are asked for and given back with the same number of bytes, a multiple of granularity(). Callers hold the pool's lock.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  virtual size_t granularity(size_t bytes) const = 0;                   // what sizes of this order are rounded up to
  virtual std::byte* take(size_t bytes) = 0;                            // null when refused
  virtual void give(std::byte* p, size_t bytes) = 0;
  virtual void set_bytes(std::byte* p, std::byte value, size_t n) = 0;  // for guards
  virtual bool all_bytes(const std::byte* p, std::byte value, size_t n) = 0;
};

std::unique_ptr<MemorySource> host_memory();
std::unique_ptr<MemorySource> device_memory(Device device);

// Free blocks: best fit, neighbours joined unless a segment begins between them.
// Invariants: by_address_ and by_size_ hold the same blocks; no two that touch could be joined.
class FreeBlocks {
 public:
  void add_segment(std::byte* address, size_t bytes) {
    segments_.emplace(address, bytes);
    insert(address, bytes);
  }

  std::byte* take(size_t bytes) {
    const auto found = by_size_.lower_bound({bytes, nullptr});
    if (found == by_size_.end()) return nullptr;
    const auto [size, address] = *found;
    remove(address, size);
    if (size > bytes) insert(address + bytes, size - bytes);
    return address;
  }

  void give(std::byte* address, size_t bytes) {
    const auto next = by_address_.lower_bound(address);
    if (next != by_address_.end() && address + bytes == next->first && !segments_.contains(next->first)) {
      const auto [after, size] = *next;
      bytes += size;
      remove(after, size);
    }
    const auto behind = by_address_.lower_bound(address);
    if (behind != by_address_.begin() && !segments_.contains(address)) {
      const auto [before, size] = *std::prev(behind);
      if (before + size == address) {
        remove(before, size);
        address = before;
        bytes += size;
      }
    }
    insert(address, bytes);
  }

  // Forgets the segments that are wholly free and returns their addresses.
  std::vector<std::byte*> drop_free_segments() {
    std::vector<std::byte*> dropped;
    for (auto it = segments_.begin(); it != segments_.end();) {
      const auto block = by_address_.find(it->first);
      if (block == by_address_.end() || block->second != it->second) {
        ++it;
        continue;
      }
      dropped.push_back(it->first);
      remove(it->first, it->second);
      it = segments_.erase(it);
    }
    return dropped;
  }

 private:
  void insert(std::byte* address, size_t bytes) {
    by_address_[address] = bytes;
    by_size_.insert({bytes, address});
  }
  void remove(std::byte* address, size_t bytes) {
    by_address_.erase(address);
    by_size_.erase({bytes, address});
  }

  std::map<std::byte*, size_t> segments_;
  std::map<std::byte*, size_t> by_address_;
  std::set<std::pair<size_t, std::byte*>> by_size_;
};

}  // namespace glia
