#pragma once
// How many threads a computation starts with.
#include <filesystem>
#include <span>

namespace glia {

// Physical cores among these logical CPUs, by Linux's description of the machine. Two hyperthreads share one core's multipliers and caches:
// a matrix product on both is no faster than on one. A CPU without description counts as a core.
int physical_cores(std::span<const int> cpus, const std::filesystem::path& folder = "/sys/devices/system/cpu");

// Those of the CPUs that this process may run on (taskset, cpusets); at least 1.
int available_cores();

}  // namespace glia
