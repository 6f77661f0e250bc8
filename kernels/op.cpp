#include "kernels/op.h"

#include <atomic>

namespace glia {
namespace {
std::atomic<KernelChoice> current_choice{KernelChoice::automatic};
}

KernelChoice kernel_choice() { return current_choice.load(std::memory_order_relaxed); }
void set_kernel_choice(KernelChoice choice) { current_choice.store(choice, std::memory_order_relaxed); }

}  // namespace glia
