#include "kernels/op.h"

#include <atomic>

namespace glia {
namespace {
std::atomic<KernelChoice> current_choice{KernelChoice::automatic};
std::atomic<Precision> current_precision{Precision::fp32};
}  // namespace

KernelChoice kernel_choice() { return current_choice.load(std::memory_order_relaxed); }
void set_kernel_choice(KernelChoice choice) { current_choice.store(choice, std::memory_order_relaxed); }
Precision precision() { return current_precision.load(std::memory_order_relaxed); }
void set_precision(Precision precision) { current_precision.store(precision, std::memory_order_relaxed); }

}  // namespace glia
