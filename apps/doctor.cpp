// glia doctor: what this program was built with and what this machine offers.
#include <fmt/format.h>
#include <hwy/targets.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "apps/cli.h"
#include "tensor/parallel.h"

namespace glia {
namespace {

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

std::string simd_level() {
  for (int64_t target = 1; target != 0 && target <= HWY_TARGETS; target <<= 1)  // the best has the lowest bit
    if (hwy::SupportedTargets() & HWY_TARGETS & target) return hwy::TargetName(target);
  return "baseline";
}

std::string huge_pages() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string text;
  std::getline(file, text);
  const size_t open = text.find('['), close = text.find(']');
  return open == std::string::npos ? "not available" : text.substr(open + 1, close - open - 1);
}

double gigabytes(double bytes) { return bytes / 1e9; }

int run() {
  const auto row = [](const char* name, const std::string& value) { fmt::print("{:<14}{}\n", name, value); };
  row("program", fmt::format("glia 0.1.0, g++ {}.{}.{}", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__));
  row("CPU", cpu_name());
  row("SIMD", simd_level() + " (chosen at run time)");
  row("cores", std::to_string(num_threads()));
  const auto pages = [](int name) { return double(sysconf(name)) * double(sysconf(_SC_PAGESIZE)); };
  row("memory", fmt::format("{:.1f} GB, {:.1f} GB free", gigabytes(pages(_SC_PHYS_PAGES)), gigabytes(pages(_SC_AVPHYS_PAGES))));
  row("huge pages", huge_pages());
  struct statvfs disk {};
  if (statvfs(".", &disk) == 0)
    row("disk here", fmt::format("{:.1f} GB free", gigabytes(double(disk.f_bavail) * double(disk.f_frsize))));
#if defined(GLIA_WITH_ONEDNN)
  row("oneDNN", "built in (--kernels vendor)");
#else
  row("oneDNN", "not built in");
#endif
  row("CUDA", "not built in: the CPU is used");
  row("kernels", "reference, hand (CPU)");
  return 0;
}

}  // namespace

Command doctor_command() {
  return {.name = "doctor",
          .summary = "what this program was built with, and what this machine offers",
          .example = "glia doctor",
          .declare = [](Arguments&) {},
          .run = run};
}

}  // namespace glia
