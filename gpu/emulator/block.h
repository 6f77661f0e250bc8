#pragma once
// One block and its CUDA threads: which thread runs when. Read block.cpp's fiber_main first.
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gpu/emulator/fiber.h"
#include "gpu/emulator/runtime_api.h"
#include "gpu/emulator/shared.h"
#include "gpu/emulator/warp.h"
#include "gpu/emulator_config.h"

namespace gpu::emulator {

// cp.async of one thread that nobody has waited for yet, and how many belong to each committed group.
struct AsyncCopies {
  struct Copy {
    void* to;
    const void* from;  // null: zeros
    unsigned bytes;
    Site site;
  };
  struct Group {
    unsigned copies;
  };
  std::vector<Copy> queue;
  std::vector<Group> groups;
  unsigned uncommitted = 0;
};

// A CUDA thread; one cache line, since every switch reads one and writes one.
struct alignas(64) Thread {
  Fiber* fiber = nullptr;         // the stack it runs on
  const char* waiting = nullptr;  // for what, null when it runs, is ready or has returned
  Site site;                      // where it waits
  AsyncCopies* copies = nullptr;  // null until it starts one
  uint16_t x = 0, y = 0, z = 0;
  uint16_t rank = 0;  // x fastest
  unsigned lane() const { return rank % 32u; }
  unsigned warp() const { return rank / 32u; }
};

// Lanes of one warp on their way to one warp function.
struct Meeting {
  unsigned mask, arrived;
  Site site;
  void* slots[32];
};

// splitmix64
struct Random {
  uint64_t state = 1;
  uint64_t next() {
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }
  unsigned below(unsigned n) { return static_cast<unsigned>((next() >> 32) * n >> 32); }
};

inline constexpr size_t kArena = 512 * 1024;  // bytes; larger than a block may use, for the gaps between arrays

// One shared array of the running block.
struct SharedArray {
  size_t begin, end;  // bytes of the arena
  const char* name;
  Site site;
};

// Runs grids on one OS thread, one block after the other.
// Invariants while a block runs: every thread is either not started, running (one), ready, waiting in a meeting or at the
// barrier, or has returned; live_ counts all but the last kind. A thread that waits keeps the fiber it stopped on; idle_ holds
// the others.
class Block {
 public:
  Block();
  ~Block();
  static Block& of_this_os_thread();

  void run_grid(cuda_names::dim3 grid, cuda_names::dim3 block, size_t shared_bytes, const KernelCall& call);
  [[noreturn]] void run_threads();  // a fiber's life

  void sync(Site site);
  int sync_vote(bool predicate, BlockVote kind, Site site);
  void meet(unsigned mask, void* slot, WarpWork work, const char* name, Site site);
  void* place_shared(SharedSlot& slot, size_t bytes, size_t alignment, const char* name, Site site);
  void* dynamic_shared(size_t at_least);
  AsyncCopies& copies_of(Thread& thread);

  const char* arena() const { return arena_; }  // kArena bytes
  const KernelCall& call() const { return call_; }

 private:
  enum class Next { fresh, ready, nobody };
  Next pick(Thread*& thread);
  Thread& start_next_thread(Fiber& fiber);
  void wait(const char* what, Site site);
  void resume(Thread& thread);
  void push_ready(Thread* thread) { ready_[(ready_head_ + ready_count_++) & ready_mask_] = thread; }
  void release_barrier();
  void thread_returned(Thread& thread);
  Fiber& idle_fiber();
  [[noreturn]] void deadlock();

  void set_shape(cuda_names::dim3 block);
  bool next_block();
  void finish_block();
  void clear_shared();
  void check_gaps();

  Fiber own_;  // the OS thread's stack
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;

  // the grid
  KernelCall call_{};
  cuda_names::dim3 grid_, shape_{0, 0, 0};
  uint64_t blocks_ = 0, blocks_done_ = 0, block_ = 0, stride_ = 1;
  Order order_ = Order::forward;
  bool strict_ = true;
  Random random_;

  // the block
  unsigned count_ = 0, live_ = 0, started_ = 0;
  std::vector<Thread> threads_;
  std::vector<uint16_t> start_order_;  // random order only
  std::vector<Thread*> ready_;         // a ring
  unsigned ready_head_ = 0, ready_count_ = 0, ready_mask_ = 0;
  std::vector<Thread*> at_barrier_;
  Site barrier_site_;
  const char* barrier_name_ = "";
  int votes_[3] = {0, 1, 0}, vote_results_[3] = {};
  std::vector<std::vector<Meeting>> meetings_;  // of each warp

  // shared memory
  char* arena_ = nullptr;
  size_t dynamic_bytes_ = 0, arena_end_ = 0;  // arena_end_: first byte that this block has not used
  std::vector<SharedArray> arrays_;

  std::vector<std::unique_ptr<AsyncCopies>> copies_;
};

// The running CUDA thread and its block; null in host code.
struct Current {
  Thread* thread = nullptr;
  Block* block = nullptr;
  bool in_emulator = false;  // what runs is not the thread's own code: the race checker looks away
};
extern constinit thread_local Current current;

EmulatorStats& mutable_stats();

// Barrier mutation (config.cpp).
extern std::atomic<bool> barriers_watched;
void watch_barriers_as_environment_says();
bool watched_barrier_skipped(const char* kind, Site site);
inline bool barrier_skipped(const char* kind, Site site) {
  return barriers_watched.load(std::memory_order_relaxed) && watched_barrier_skipped(kind, site);
}

// Memory that cudaMalloc or cudaMallocHost gave (memory.cpp).
struct Allocation {
  uintptr_t begin = 0, end = 0;
  bool host = false;
};
Allocation find_allocation(const void* p);  // begin == end: none

// The race checker's ears (race_checker.cpp); null unless the kernels were compiled for it (tsan_hooks.cpp).
struct RaceHooks {
  void (*new_grid)();
  void (*new_block)();
  void (*block_barrier)();
  void (*warp_barrier)(unsigned warp, unsigned mask);
  void (*fence)();
  void (*access)(const void* p, size_t bytes, bool write, bool atomic, Site site);
};
extern constinit const RaceHooks* race_hooks;

inline void note_access(const void* p, size_t bytes, bool write, bool atomic, Site site) {
  if (race_hooks) race_hooks->access(p, bytes, write, atomic, site);
}

}  // namespace gpu::emulator
