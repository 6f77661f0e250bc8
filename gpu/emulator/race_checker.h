#pragma once
// What tsan_hooks.cpp tells the race checker.
#include <cstddef>

namespace gpu::emulator {

void start_race_checking();
void compiled_access(const void* p, size_t bytes, bool write, bool atomic, const void* pc);

}  // namespace gpu::emulator
