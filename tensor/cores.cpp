#include "tensor/cores.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace glia {

int physical_cores(std::span<const int> cpus, const std::filesystem::path& folder) {
  std::set<std::string> cores;
  for (const int cpu : cpus) {
    const std::string name = "cpu" + std::to_string(cpu);
    std::string siblings;  // "0,64": the same text for all hyperthreads of a core
    std::ifstream file(folder / name / "topology" / "thread_siblings_list");
    cores.insert(std::getline(file, siblings) && !siblings.empty() ? siblings : name);
  }
  return static_cast<int>(cores.size());
}

int available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  return std::max(1, physical_cores(cpus));
}

}  // namespace glia
