// The scheduler. Threads of a block start one after the other as plain calls on one fiber. A thread that has to wait keeps that
// fiber, and the rest go on with another; so a kernel without meetings never switches. When somebody else can run, those who
// were released from a meeting come first, then threads that have not started: a warp goes on as far as it can before the next
// one begins, which keeps its stacks in the cache. Random order picks among all.
#include "gpu/emulator/block.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <numeric>
#include <utility>

#include "gpu/emulator/sanitizers.h"

namespace gpu::cuda_names {
constinit thread_local uint3 threadIdx{0, 0, 0}, blockIdx{0, 0, 0};
constinit thread_local dim3 blockDim, gridDim;
}  // namespace gpu::cuda_names

namespace gpu::emulator {

using cuda_names::blockDim;
using cuda_names::blockIdx;
using cuda_names::dim3;
using cuda_names::gridDim;
using cuda_names::threadIdx;

constinit thread_local Current current;
constinit thread_local unsigned current_block_serial = 0;
constinit const RaceHooks* race_hooks = nullptr;

namespace {
#if GPU_ASAN
constexpr size_t kFiberBytes = 256 * 1024;
#else
constexpr size_t kFiberBytes = 64 * 1024;
#endif
}  // namespace

void fail(const char* format, ...) {
  current.in_emulator = true;
  std::fflush(stdout);
  std::fputs("GPU emulator: ", stderr);
  if (const Thread* t = current.thread)
    std::fprintf(stderr, "block (%u,%u,%u) thread (%u,%u,%u), warp %u lane %u: ", blockIdx.x, blockIdx.y, blockIdx.z, t->x, t->y,
                 t->z, t->warp(), t->lane());
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
  std::abort();
}

Block& Block::of_this_os_thread() {
  static thread_local const std::unique_ptr<Block> block = std::make_unique<Block>();
  return *block;
}

// ---- which thread runs --------------------------------------------------------------------------------------------------------

void fiber_main() {
#if GPU_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  current.block->run_threads();
}

void Block::run_threads() {
  Fiber& self = *idle_.back();  // whoever switched here took it from the list's end and left it there
  idle_.pop_back();
  for (;;) {
    Thread& thread = start_next_thread(self);
    call_.run(call_.data);
    thread_returned(thread);
    if (live_ == 0) {
      finish_block();
      if (next_block()) continue;
      idle_.push_back(&self);
      switch_fiber(self, own_);
      idle_.pop_back();
      continue;
    }
    Thread* next = nullptr;
    switch (pick(next)) {
      case Next::fresh: continue;
      case Next::ready:
        idle_.push_back(&self);
        switch_fiber(self, *next->fiber);
        idle_.pop_back();
        continue;
      case Next::nobody: deadlock();
    }
  }
}

inline Block::Next Block::pick(Thread*& thread) {
  const unsigned fresh = count_ - started_;
  if (fresh + ready_count_ == 0) return Next::nobody;
  if (order_ == Order::random) {
    if (random_.below(fresh + ready_count_) < fresh) return Next::fresh;
    std::swap(ready_[ready_head_ & ready_mask_], ready_[(ready_head_ + random_.below(ready_count_)) & ready_mask_]);
  } else if (ready_count_ == 0) {
    return Next::fresh;
  }
  thread = ready_[ready_head_++ & ready_mask_];
  --ready_count_;
  return Next::ready;
}

inline void Block::resume(Thread& thread) {
  current.thread = &thread;
  threadIdx = {thread.x, thread.y, thread.z};
}

inline Thread& Block::start_next_thread(Fiber& fiber) {
  const unsigned i = started_++;
  Thread& thread = threads_[order_ == Order::forward ? i : order_ == Order::reverse ? count_ - 1 - i : start_order_[i]];
  thread.fiber = &fiber;
  thread.waiting = nullptr;
  thread.copies = nullptr;
  resume(thread);
  return thread;
}

inline void Block::thread_returned(Thread& thread) {
  --live_;
  if (at_barrier_.empty()) [[likely]]
    return;
  if (strict_) {
    resume(*at_barrier_[0]);
    fail("waits at %s (%s:%u), but thread (%u,%u,%u) has returned", barrier_name_, barrier_site_.file, barrier_site_.line,
         thread.x, thread.y, thread.z);
  }
  if (at_barrier_.size() == live_) release_barrier();
}

Fiber& Block::idle_fiber() {
  if (idle_.empty()) idle_.push_back(fibers_.emplace_back(std::make_unique<Fiber>(kFiberBytes)).get());
  return *idle_.back();
}

// The running thread stops; others run until somebody has put it among the ready ones.
void Block::wait(const char* what, Site site) {
  Thread& me = *current.thread;
  me.waiting = what;
  me.site = site;
  Thread* next = nullptr;
  const Next kind = pick(next);
  if (kind == Next::nobody) deadlock();
  if (next != &me) {
    ++mutable_stats().switches;
    switch_fiber(*me.fiber, kind == Next::ready ? *next->fiber : idle_fiber());
  }
  resume(me);
  me.waiting = nullptr;
}

void Block::deadlock() {
  current.in_emulator = true;
  std::fflush(stdout);
  std::fprintf(stderr, "GPU emulator: block (%u,%u,%u) cannot go on, its threads wait for each other:\n", blockIdx.x, blockIdx.y,
               blockIdx.z);
  std::map<std::string, std::vector<unsigned>> groups;
  for (const Thread& t : threads_) {
    if (t.rank >= count_) break;
    groups[t.waiting ? std::string(t.waiting) + " at " + t.site.file + ":" + std::to_string(t.site.line) : "returned"].push_back(
        t.rank);
  }
  for (const auto& [where, ranks] : groups)
    std::fprintf(stderr, "  %4zu threads (first %u, last %u): %s\n", ranks.size(), ranks.front(), ranks.back(), where.c_str());
  std::abort();
}

// ---- grids and blocks ---------------------------------------------------------------------------------------------------------

void Block::set_shape(dim3 block) {
  if (block.x == shape_.x && block.y == shape_.y && block.z == shape_.z) return;
  shape_ = block;
  count_ = block.x * block.y * block.z;
  if (threads_.size() < count_) threads_.resize(count_);
  unsigned ring = 1;
  while (ring < count_) ring *= 2;
  if (ready_.size() < ring) ready_.resize(ring);
  ready_mask_ = static_cast<unsigned>(ready_.size()) - 1;
  at_barrier_.reserve(count_);
  if (meetings_.size() < (count_ + 31) / 32) meetings_.resize((count_ + 31) / 32);
  for (unsigned i = 0; i < count_; ++i) {
    Thread& t = threads_[i];
    t.x = static_cast<uint16_t>(i % block.x);
    t.y = static_cast<uint16_t>(i / block.x % block.y);
    t.z = static_cast<uint16_t>(i / block.x / block.y);
    t.rank = static_cast<uint16_t>(i);
  }
}

void Block::run_grid(dim3 grid, dim3 block, size_t shared_bytes, const KernelCall& call) {
  watch_barriers_as_environment_says();
  const EmulatorConfig& config = emulator_config();
  EmulatorStats& stats = mutable_stats();
  ++stats.launches;
  set_shape(block);
  call_ = call;
  grid_ = grid;
  order_ = config.order;
  strict_ = config.strict;
  dynamic_bytes_ = shared_bytes;
  random_.state = config.seed * 1000003 + stats.launches;
  blocks_ = static_cast<uint64_t>(grid.x) * grid.y * grid.z;
  blocks_done_ = 0;
  // Blocks in random order: from any one, in steps prime to their number.
  block_ = order_ == Order::forward ? 0 : order_ == Order::reverse ? blocks_ - 1 : random_.next() % blocks_;
  stride_ = order_ == Order::reverse ? blocks_ - 1 : 1;
  if (order_ == Order::random && blocks_ > 2) {
    do stride_ = 1 + random_.next() % (blocks_ - 1);
    while (std::gcd(stride_, blocks_) != 1);
  }
  if (order_ == Order::random) {
    start_order_.resize(count_);
    std::iota(start_order_.begin(), start_order_.end(), uint16_t{0});
  }
  stats.blocks += blocks_;
  stats.threads += blocks_ * count_;

  current.block = this;
  gridDim = grid;
  blockDim = block;
  if (race_hooks) race_hooks->new_grid();
  next_block();
  switch_fiber(own_, idle_fiber());
  current = {};
}

// Gets the next block ready to run; false when there is none left.
bool Block::next_block() {
  if (blocks_done_ == blocks_) return false;
  if (blocks_done_++) block_ = (block_ + stride_) % blocks_;
  blockIdx = {static_cast<unsigned>(block_ % grid_.x), static_cast<unsigned>(block_ / grid_.x % grid_.y),
              static_cast<unsigned>(block_ / grid_.x / grid_.y)};
  live_ = count_;
  started_ = ready_head_ = ready_count_ = 0;
  if (order_ == Order::random)
    for (unsigned i = count_; i > 1; --i) std::swap(start_order_[i - 1], start_order_[random_.below(i)]);
  clear_shared();
  if (race_hooks) race_hooks->new_block();
  return true;
}

void Block::finish_block() {
  current.thread = nullptr;
  check_gaps();
}

}  // namespace gpu::emulator
