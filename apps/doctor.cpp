// glia doctor: what this program was built with and what this machine offers.
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "apps/cli.h"
#include "gpu/runtime.h"
#include "kernels/conv.h"
#include "kernels/gemm.h"
#include "kernels/simd.h"
#include "tensor/parallel.h"

namespace glia {
namespace {

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

std::string huge_pages() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string text;
  std::getline(file, text);
  const size_t open = text.find('['), close = text.find(']');
  return open == std::string::npos ? "not available" : text.substr(open + 1, close - open - 1);
}

double gigabytes(double bytes) { return bytes / 1e9; }

std::string version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

// The GPUs, the driver and what this program holds code for; or why there is none.
template <class Row>
void describe_cuda(const Row& row) {
  const gpu::Runtime* cuda = gpu::cuda_runtime();
  if (!cuda) return row("CUDA", "not built in (--device emulated runs the CUDA kernels on the CPU)");
  std::string compiled;
  for (const int architecture : cuda->compiled_architectures()) compiled += fmt::format(" sm_{}", architecture);
  const gpu::DeviceCount& found = cuda->devices();
  if (found.count == 0) return row("CUDA", fmt::format("built in for{}; no GPU: {}", compiled, found.reason));
  for (int i = 0; i < found.count; ++i) {
    gpu::Properties p;
    const gpu::Status status = cuda->properties(i, p);
    if (!status.ok()) {
      row("GPU", fmt::format("cuda:{}: {}", i, status.text));
      continue;
    }
    if (i == 0)
      row("CUDA", fmt::format("built in for{}; runtime {}, driver up to {}", compiled, version_text(p.runtime_version),
                              version_text(p.driver_version)));
    std::string text = fmt::format("cuda:{}: {}, sm_{}{}, {:.1f} GB, {} multiprocessors", i, p.name, p.major, p.minor,
                                   gigabytes(double(p.total_memory)), p.multiprocessors);
    size_t free_bytes = 0, total = 0;
    gpu::Status usable = cuda->set_device(i);
    if (usable.ok()) usable = cuda->check_architecture();
    if (usable.ok()) usable = cuda->free_memory(free_bytes, total);
    text += usable.ok() ? fmt::format(", {:.1f} GB free", gigabytes(double(free_bytes))) : "; cannot be used: " + usable.text;
    row("GPU", text);
  }
}

int run() {
  const auto row = [](const char* name, const std::string& value) { fmt::print("{:<14}{}\n", name, value); };
  row("program", fmt::format("glia 0.1.0, g++ {}.{}.{}", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__));
  row("CPU", cpu_name());
  row("SIMD", simd_level() + " (chosen at run time; GLIA_SIMD=LEVEL for a lower one)");
  row("cores", std::to_string(num_threads()));
  const auto pages = [](int name) { return double(sysconf(name)) * double(sysconf(_SC_PAGESIZE)); };
  row("memory", fmt::format("{:.1f} GB, {:.1f} GB free", gigabytes(pages(_SC_PHYS_PAGES)), gigabytes(pages(_SC_AVPHYS_PAGES))));
  row("huge pages", huge_pages());
  struct statvfs disk {};
  if (statvfs(".", &disk) == 0)
    row("disk here", fmt::format("{:.1f} GB free", gigabytes(double(disk.f_bavail) * double(disk.f_frsize))));
  std::string vendors = has_vendor_kernels(DeviceKind::cpu) ? "oneDNN" : "";
  describe_cuda(row);
  std::vector<std::pair<const char*, std::string>> libraries;  // and why they cannot be used
#if defined(GLIA_WITH_CUDNN)
  libraries.emplace_back("cuDNN", cudnn::fault());
#endif
#if defined(GLIA_WITH_CUBLAS)
  libraries.emplace_back("cuBLAS", cublas::fault());
#endif
  for (const auto& [name, fault] : libraries) {
    row(name, fault.empty() ? "ready" : "not used: " + fault);
    vendors += vendors.empty() ? name : std::string(", ") + name;
  }
  row("kernels", fmt::format("reference (CPU), hand (CPU, emulated{}), vendor ({})", gpu::cuda_runtime() ? ", CUDA" : "",
                             vendors.empty() ? "none" : vendors));
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
