#pragma once
// Stacks that a CUDA thread can stop on and go on from. On x86-64 a switch is fourteen instructions; elsewhere ucontext does it.
#include <cstddef>
#include <memory>

#if defined(__x86_64__) && !defined(GPU_USE_UCONTEXT)
#define GPU_OWN_SWITCH 1
#else
#define GPU_OWN_SWITCH 0
#include <ucontext.h>
#endif

namespace gpu::emulator {

#if GPU_OWN_SWITCH
using Context = void*;  // a stopped stack's pointer; the registers that a call must keep lie there
#else
using Context = ucontext_t*;  // lives in its Fiber
#endif

struct Fiber {
  explicit Fiber(size_t stack_bytes);  // mapped, with a guard page below
  Fiber();                             // stands for the OS thread's own stack
  ~Fiber();
  Fiber(const Fiber&) = delete;

  Context context{};  // where it stopped
  char* stack = nullptr;
  size_t stack_bytes = 0;
  void* mapping = nullptr;
  size_t mapping_bytes = 0;
  void* sanitizer = nullptr;  // ASan's fake stack
#if !GPU_OWN_SWITCH
  ucontext_t registers;
#endif
};

// Goes on with `to` and comes back when somebody switches to `from`. The first switch to a fiber calls fiber_main, which never
// returns. All switches of one fiber happen on one OS thread.
void switch_fiber(Fiber& from, Fiber& to);
[[noreturn]] void fiber_main();  // block.cpp

}  // namespace gpu::emulator
