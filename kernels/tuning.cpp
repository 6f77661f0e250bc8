#include "kernels/tuning.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <sstream>

#include "gpu/runtime.h"
#include "tensor/error.h"
#include "tensor/stream.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

// Rounds of measurement, after one to warm up; a way this much slower than the best is not looked at again.
constexpr int rounds = 3;
constexpr double hopeless = 1.3;

struct File {
  fs::path path;       // empty: there is no cache folder
  std::string header;  // its first line
  bool good = false;   // it is there with that line
};

struct State {
  bool switched_off = false;
  std::map<TuningKey, std::string> known;
  std::optional<File> file;  // once it was looked at
};

std::mutex mutex;
std::atomic<bool> on{true};
TuningTimer test_timer;

State fresh_state() {
  const char* tune = std::getenv("GLIA_TUNE");
  return {.switched_off = tune && std::string_view(tune) == "off", .known = {}, .file = {}};
}
State& state() {
  static State s = fresh_state();
  return s;
}

fs::path cache_folder() {
  const char *cache = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  if (cache && *cache) return fs::path(cache) / "glia";
  return home && *home ? fs::path(home) / ".cache" / "glia" : fs::path();
}

File describe_file(Device device) {
  gpu::Properties p;
  check(runtime_of(device).properties(device.index, p), device);
  std::string name = "tuning-" + p.name + ".txt";
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.') c = '-';
  const fs::path folder = cache_folder();
  return {
      .path = folder.empty() ? folder : folder / name,
      .header = fmt::format("# glia tuning {}: {}, sm_{}{}, driver {}, runtime {}. Problem, and the fastest way to compute it",
                            tuning_version, p.name, p.major, p.minor, p.driver_version, p.runtime_version)};
}

// A line is the numbers of the key and a name; one that is anything else is passed over.
void read_file(File& file, std::map<TuningKey, std::string>& known) {
  std::ifstream in(file.path);
  std::string line;
  file.good = std::getline(in, line) && line == file.header;
  while (file.good && std::getline(in, line)) {
    std::istringstream words(line);
    TuningKey key{};
    std::string way, more;
    for (int64_t& number : key) words >> number;
    if (words >> way && !(words >> more)) known[key] = way;
  }
}

// A cache that cannot be written is done without.
void append(File& file, const TuningKey& key, const char* way) {
  if (file.path.empty()) return;
  std::error_code error;
  if (!file.good) {
    fs::create_directories(file.path.parent_path(), error);
    const fs::path temporary = file.path.string() + "." + std::to_string(::getpid());
    std::ofstream(temporary) << file.header << '\n';
    fs::rename(temporary, file.path, error);
    file.good = !error;
  }
  std::ofstream(file.path, std::ios::app) << fmt::format("{} {}\n", fmt::join(key, " "), way);
}

double milliseconds(Device device, const std::function<void()>& run) {
  if (test_timer) return test_timer(run);
  const gpu::Runtime& runtime = runtime_of(device);
  const gpu::Stream stream = compute_stream(device);
  gpu::Event events[2];
  for (gpu::Event& e : events) check(runtime.create_event(&e, true), device);
  check(runtime.record(events[0], stream), device);
  run();
  check(runtime.record(events[1], stream), device);
  float time = 0;
  check(runtime.synchronize_event(events[1]), device);
  check(runtime.elapsed(events[0], events[1], &time), device);
  for (gpu::Event& e : events) check(runtime.destroy_event(e), device);
  return time;
}

// Index of the fastest way.
size_t measure(const Ways& ways, Device device) {
  constexpr double never = std::numeric_limits<double>::infinity();
  std::vector<double> best(ways.names.size(), never);
  std::exception_ptr fault;
  for (int round = -1; round < rounds; ++round) {
    const double limit = round <= 0 ? never : hopeless * *std::min_element(best.begin(), best.end());
    for (size_t i = 0; i < best.size(); ++i) {
      if (round < 0 ? !ways.applicable(i) : best[i] == never || best[i] > limit) continue;
      try {
        const double time = milliseconds(device, [&] { ways.run(i); });
        best[i] = round <= 0 ? time : std::min(best[i], time);  // the first run also loads code and fills caches
      } catch (const Error&) {                                  // refused: too much shared memory, workspace, ...
        fault = std::current_exception();
        best[i] = never;
      }
    }
  }
  const auto winner = std::min_element(best.begin(), best.end());
  if (winner == best.end() || *winner == never) {
    if (fault) std::rethrow_exception(fault);
    throw InternalError("tuning: no way is applicable");
  }
  return static_cast<size_t>(winner - best.begin());
}

std::optional<size_t> known_way(const TuningKey& key, const Ways& ways, Device device) {
  const std::lock_guard lock(mutex);
  State& s = state();
  if (!s.file) read_file(s.file.emplace(describe_file(device)), s.known);
  const auto found = s.known.find(key);
  if (found == s.known.end()) return {};
  const auto name = std::find(ways.names.begin(), ways.names.end(), found->second);
  const auto index = static_cast<size_t>(name - ways.names.begin());
  return name != ways.names.end() && ways.applicable(index) ? std::optional(index) : std::nullopt;
}

}  // namespace

bool tuning(Device device) {
  if (device.kind == DeviceKind::cpu || kernel_choice() != KernelChoice::automatic || !on) return false;
  const std::lock_guard lock(mutex);
  return (device.kind == DeviceKind::cuda || test_timer) && !state().switched_off;
}

void set_tuning(bool wanted) { on = wanted; }

void set_tuning_timer(TuningTimer timer) {
  const std::lock_guard lock(mutex);
  test_timer = std::move(timer);
  state() = fresh_state();
}

void run_fastest(const TuningKey& key, const Ways& ways, Device device) {
  if (const auto known = known_way(key, ways, device)) return ways.run(*known);
  const size_t way = measure(ways, device);
  {
    const std::lock_guard lock(mutex);
    State& s = state();
    s.known[key] = ways.names[way];
    append(*s.file, key, ways.names[way]);
  }
  ways.run(way);
}

}  // namespace glia
