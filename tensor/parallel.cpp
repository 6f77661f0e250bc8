// A small thread pool: workers wait on a generation counter. Each thread has a share of a loop's chunks: neighbours, and of every loop over
// as many the same ones, so that what a loop leaves in a core's caches is there for the next. Who has done with his own helps others.
#include "tensor/parallel.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "tensor/cores.h"
#include "tensor/error.h"

namespace glia {
namespace {

thread_local int this_thread_index = 0;
thread_local bool inside_loop = false;

struct alignas(128) Share {
  std::atomic<int64_t> next{0};
  int64_t end = 0;
};

// While one lives, this thread's results that would be subnormal are zeros (MXCSR's flush-to-zero). Intel's processors make and read
// such numbers many times more slowly than others (docs/performance.md), and backward passes are full of them.
class FlushToZero {
 public:
#if defined(__x86_64__)
  FlushToZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8000u); }
  ~FlushToZero() { _mm_setcsr(before_); }
  FlushToZero(const FlushToZero&) = delete;
  FlushToZero& operator=(const FlushToZero&) = delete;

 private:
  unsigned before_;
#endif
};

struct Loop {
  int64_t count;
  int64_t grain;
  FunctionRef<void(int64_t, int64_t)> body;
  Share* shares;
  int threads;
  std::mutex error_mutex{};
  std::exception_ptr error{};

  void divide() {
    const int64_t chunks = num_chunks(count, grain);
    for (int t = 0; t < threads; ++t) {
      shares[t].next.store(chunks * t / threads, std::memory_order_relaxed);
      shares[t].end = chunks * (t + 1) / threads;
    }
  }

  void run_chunks(int thread) {
    const bool was_inside = std::exchange(inside_loop, true);
    [[maybe_unused]] const FlushToZero mode;
    for (int i = 0; i < threads; ++i) run_share(shares[(thread + i) % threads]);
    inside_loop = was_inside;
  }

 private:
  void run_share(Share& share) {
    if (share.next.load(std::memory_order_relaxed) >= share.end) return;  // most are done when others come to help
    for (int64_t i = share.next.fetch_add(1, std::memory_order_relaxed); i < share.end;
         i = share.next.fetch_add(1, std::memory_order_relaxed)) {
      try {
        body(i * grain, std::min(count, (i + 1) * grain));
      } catch (...) {
        const std::lock_guard lock(error_mutex);
        if (!error) error = std::current_exception();
        for (int t = 0; t < threads; ++t) shares[t].next.store(shares[t].end, std::memory_order_relaxed);
      }
    }
  }
};

// Invariants: `loop_` is set and `pending_` > 0 only while a loop runs; a worker touches `loop_` only between seeing a new
// generation and counting itself out of `pending_`.
class Pool {
 public:
  ~Pool() { stop(); }

  int size() const { return size_.load(std::memory_order_relaxed); }

  void resize(int n) {
    const std::lock_guard busy(busy_);
    stop();
    size_.store(n, std::memory_order_relaxed);
  }

  // False: another thread is using the pool.
  bool run(Loop& loop) {
    const std::unique_lock busy(busy_, std::try_to_lock);
    if (!busy) return false;
    start();
    loop.shares = shares_.data();
    loop.threads = static_cast<int>(shares_.size());
    loop.divide();
    {
      const std::lock_guard lock(mutex_);
      loop_ = &loop;
      pending_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    loop.run_chunks(0);
    for (int spin = 0; pending_.load(std::memory_order_acquire) != 0;) {
      if (++spin < spins) {
        pause();
      } else {
        std::this_thread::yield();
      }
    }
    return true;
  }

 private:
  static constexpr int spins = 4000;  // some microseconds: the time between two loops of one layer

  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  void start() {
    if (static_cast<int>(shares_.size()) != size()) shares_ = std::vector<Share>(static_cast<size_t>(size()));
    while (static_cast<int>(workers_.size()) < size() - 1) {
      const int index = static_cast<int>(workers_.size()) + 1;
      workers_.emplace_back([this, index, seen = generation_.load()] { work(index, seen); });
    }
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
    workers_.clear();
    stopping_ = false;
  }

  void work(int index, uint64_t seen) {
    this_thread_index = index;
    for (;;) {
      for (int spin = 0; generation_.load(std::memory_order_acquire) == seen && spin < spins; ++spin) pause();
      if (generation_.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
      }
      seen = generation_.load(std::memory_order_acquire);
      if (stopping_) return;
      loop_->run_chunks(index);
      pending_.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  std::mutex busy_;   // held while a loop runs
  std::mutex mutex_;  // guards the wake-up
  std::condition_variable wake_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> pending_{0};
  std::atomic<bool> stopping_{false};
  Loop* loop_ = nullptr;
  std::atomic<int> size_{available_cores()};
  std::vector<std::thread> workers_;
  std::vector<Share> shares_;
};

Pool& pool() {
  static Pool instance;
  return instance;
}

}  // namespace

SerialRegion::SerialRegion() : was_inside_(std::exchange(inside_loop, true)) {}
SerialRegion::~SerialRegion() { inside_loop = was_inside_; }

int num_threads() { return pool().size(); }

void set_num_threads(int n) {
  GLIA_CHECK(n >= 1 && n <= 1024, "set_num_threads: got {}, want 1 to 1024", n);
  pool().resize(n);
}

int thread_index() { return this_thread_index; }

void parallel_for(int64_t count, int64_t grain, FunctionRef<void(int64_t, int64_t)> body) {
  if (count <= 0) return;
  GLIA_CHECK(grain >= 1, "parallel_for: grain {}, want at least 1", grain);
  Share all;
  Loop loop{.count = count, .grain = grain, .body = body, .shares = &all, .threads = 1};
  const bool serial = inside_loop || count <= grain || num_threads() == 1;
  if (serial || !pool().run(loop)) {
    loop.divide();
    loop.run_chunks(0);
  }
  if (loop.error) std::rethrow_exception(loop.error);
}

}  // namespace glia
