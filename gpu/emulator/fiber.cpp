#include "gpu/emulator/fiber.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "gpu/emulator/sanitizers.h"
#include "gpu/emulator/types.h"

namespace gpu::emulator {

// ---- the switch ---------------------------------------------------------------------------------------------------------------

#if GPU_OWN_SWITCH

extern "C" void glia_emulator_switch(void** stopped, void* next);
extern "C" void glia_emulator_enter();
extern "C" void glia_emulator_main() { fiber_main(); }

// Pushes what a called function must keep onto the old stack, and pops it from the new one.
asm(R"(
.text
.globl glia_emulator_switch
.hidden glia_emulator_switch
.type glia_emulator_switch,@function
glia_emulator_switch:
  .cfi_startproc
  pushq %rbp
  .cfi_adjust_cfa_offset 8
  pushq %rbx
  .cfi_adjust_cfa_offset 8
  pushq %r12
  .cfi_adjust_cfa_offset 8
  pushq %r13
  .cfi_adjust_cfa_offset 8
  pushq %r14
  .cfi_adjust_cfa_offset 8
  pushq %r15
  .cfi_adjust_cfa_offset 8
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  .cfi_adjust_cfa_offset -8
  popq %r14
  .cfi_adjust_cfa_offset -8
  popq %r13
  .cfi_adjust_cfa_offset -8
  popq %r12
  .cfi_adjust_cfa_offset -8
  popq %rbx
  .cfi_adjust_cfa_offset -8
  popq %rbp
  .cfi_adjust_cfa_offset -8
  ret
  .cfi_endproc
.size glia_emulator_switch,.-glia_emulator_switch
.globl glia_emulator_enter
.hidden glia_emulator_enter
.type glia_emulator_enter,@function
glia_emulator_enter:
  .cfi_startproc
  .cfi_undefined rip
  call glia_emulator_main
  ud2
  .cfi_endproc
.size glia_emulator_enter,.-glia_emulator_enter
)");

static void prepare(Fiber& fiber) {
  auto* top = reinterpret_cast<void**>(fiber.stack + fiber.stack_bytes);
  *--top = nullptr;  // keeps the stack aligned at the first call
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(glia_emulator_enter);  // where the first switch returns to
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  fiber.context = top;
}
static void jump(Fiber& from, Fiber& to) { glia_emulator_switch(&from.context, to.context); }

#else

static void enter() { fiber_main(); }
static void prepare(Fiber& fiber) {
  fiber.context = &fiber.registers;
  getcontext(&fiber.registers);
  fiber.registers.uc_stack.ss_sp = fiber.stack;
  fiber.registers.uc_stack.ss_size = fiber.stack_bytes;
  fiber.registers.uc_link = nullptr;
  makecontext(&fiber.registers, enter, 0);
}
static void jump(Fiber& from, Fiber& to) { swapcontext(&from.registers, &to.registers); }

#endif

void switch_fiber(Fiber& from, Fiber& to) {
#if GPU_ASAN
  __sanitizer_start_switch_fiber(&from.sanitizer, to.stack, to.stack_bytes);
#endif
  jump(from, to);
#if GPU_ASAN
  __sanitizer_finish_switch_fiber(from.sanitizer, nullptr, nullptr);
#endif
}

// ---- stacks -------------------------------------------------------------------------------------------------------------------

Fiber::Fiber(size_t bytes) {
  constexpr size_t page = 4096;
  bytes = (bytes + page - 1) / page * page;
  mapping_bytes = bytes + page;
  mapping = mmap(nullptr, mapping_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) fail("no memory for a CUDA thread's stack: %s", std::strerror(errno));
  mprotect(mapping, page, PROT_NONE);
  stack = static_cast<char*>(mapping) + page;
  // Stacks that begin at the same offset in their pages compete for the same cache sets: each begins some lines further down.
  static thread_local size_t colour = 0;
  stack_bytes = bytes - colour++ * 5 % 64 * 64;
  prepare(*this);
}

Fiber::Fiber() {
  pthread_attr_t attributes;
  void* lowest = nullptr;
  if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
    pthread_attr_getstack(&attributes, &lowest, &stack_bytes);
    pthread_attr_destroy(&attributes);
  }
  stack = static_cast<char*>(lowest);
#if !GPU_OWN_SWITCH
  context = &registers;
#endif
}

Fiber::~Fiber() {
  if (mapping) munmap(mapping, mapping_bytes);
}

}  // namespace gpu::emulator
