#include "apps/bench_load.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <vector>

#include "data/atomic_file.h"
#include "data/weights.h"

namespace glia {
namespace {

// A line of /proc/self/status in bytes.
double status_bytes(std::string_view key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(key)) return std::strtod(line.c_str() + key.size(), nullptr) * 1024;
  return 0;
}

struct Loading {
  double seconds = 0, bytes = 0, peak = 0;  // peak: memory taken at most, pages of the file among it
  std::string format;
  size_t tensors = 0;
};

Loading load(const std::filesystem::path& file) {
  using Clock = std::chrono::steady_clock;
  std::ofstream("/proc/self/clear_refs") << "5";  // VmHWM begins anew
  Loading result;
  const double before = status_bytes("VmRSS:");
  const auto begin = Clock::now();
  std::vector<Tensor> tensors;
  {
    const Weights weights = read_weights(file);
    for (const StoredTensor& t : weights.tensors) tensors.push_back(weights.load(t));
    result.format = weights.format;
  }
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  result.peak = status_bytes("VmHWM:") - before;
  for (const Tensor& t : tensors) result.bytes += double(t.bytes());
  result.tensors = tensors.size();
  return result;
}

}  // namespace

void time_loading(const std::filesystem::path& file, double seconds, const std::filesystem::path& json, bool quiet) {
  const Loading first = load(file);
  std::vector<double> times{first.seconds};
  for (double total = first.seconds; total < seconds; total += times.back()) times.push_back(load(file).seconds);
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2];
  if (!quiet)
    fmt::print(
        "{}: {}, {} tensors, {:.1f} MB: first {:.3f} s, median {:.3f} s of {} (min {:.3f}), peak memory {:.2f} times the "
        "weights\n",
        file.string(), first.format, first.tensors, first.bytes / 1e6, first.seconds, median, times.size(), times[0],
        first.peak / first.bytes);
  if (json.empty()) return;
  write_file(json,
             fmt::format("{{\"format\": \"{}\", \"tensors\": {}, \"bytes\": {:.0f}, \"first_s\": {:.6g}, \"median_s\": {:.6g}, "
                         "\"min_s\": {:.6g}, \"runs\": {}, \"peak_bytes\": {:.0f}}}\n",
                         first.format, first.tensors, first.bytes, first.seconds, median, times[0], times.size(), first.peak));
}

}  // namespace glia
