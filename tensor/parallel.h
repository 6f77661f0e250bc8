#pragma once
// Parallel loops over a fixed partition: chunk boundaries depend on `count` and `grain` alone, never on the number of
// threads, so that reductions combined chunk by chunk give the same bits with 1, 2 or 8 threads.
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

namespace glia {

int num_threads();  // at first one for each physical core that this process may run on (tensor/cores.h)
void set_num_threads(int n);  // n >= 1; call from the main thread, while nobody computes
int thread_index();           // 0 .. num_threads()-1 inside a loop, 0 outside: for per-thread scratch

// A non-owning reference to a callable (it must outlive the call).
template <class Signature>
class FunctionRef;
template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>)
  FunctionRef(F&& f)  // NOLINT: implicit, so that lambdas pass as they are
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))), call_([](void* o, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(o))(std::forward<Args>(args)...);
        }) {}
  R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

// Calls body(begin, end) for [0, grain), [grain, 2*grain), ... until count. Chunks run in any order, on any thread. Nested
// calls and calls from a second thread at the same time run serially. An exception in a chunk is thrown again here.
// In a body, results that would be subnormal floats (below 1.2e-38) are zeros; subnormal operands are what they are.
void parallel_for(int64_t count, int64_t grain, FunctionRef<void(int64_t begin, int64_t end)> body);

// While one lives, parallel_for calls of this thread run serially and leave the pool to others: for threads that prepare data beside
// a computation.
class SerialRegion {
 public:
  SerialRegion();
  ~SerialRegion();
  SerialRegion(const SerialRegion&) = delete;
  SerialRegion& operator=(const SerialRegion&) = delete;

 private:
  bool was_inside_;
};

// Number of chunks that parallel_for makes: the size of an array of partial results, indexed by begin / grain.
inline int64_t num_chunks(int64_t count, int64_t grain) { return (count + grain - 1) / grain; }

}  // namespace glia
